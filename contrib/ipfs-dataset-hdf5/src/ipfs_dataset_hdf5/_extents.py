"""Where in a file the rows of a dataset lie."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import h5py

_PIECE_BYTES = 1 << 20
_MOST_AT_ONCE_BYTES = 64 << 20


@attrs.frozen
class Extents:
    """Which bytes of the file each row is made of.

    Args:
        starts: Where the chunks of each run of `step` rows start.
        stops: Where they stop.
        step: How many rows share their chunks.
        width: How many bytes a row has where they follow each other, so that the first says it all.
    """

    starts: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    stops: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    step: int = 1
    width: int = 0

    def span(self, row: int) -> tuple[int, int]:
        """Returns the hull of the bytes of one row; it is empty where there are none."""
        run = min(row // self.step, len(self.starts) - 1)
        return self.starts[run] + row * self.width, self.stops[run] + row * self.width


def row_bytes(dataset: h5py.Dataset) -> int:
    """Returns how many bytes a row has decoded."""
    return int(math.prod(dataset.shape[1:]) * dataset.dtype.itemsize)


def rows_at_once(dataset: h5py.Dataset) -> int:
    """Returns how many rows are best read at once."""
    size = max(1, row_bytes(dataset))
    if dataset.chunks is None:
        return max(1, _PIECE_BYTES // size)
    return min(int(dataset.chunks[0]), max(1, _MOST_AT_ONCE_BYTES // size))


def extents_of(dataset: h5py.Dataset, size: int) -> Extents:
    """Returns where the rows lie; reads the index of chunks only.

    Args:
        dataset: The dataset.
        size: How many bytes the file has: what claims to lie beyond is left out.
    """
    if dataset.chunks is not None:
        return _of_chunks(dataset, dataset.chunks[0], size)
    start, width = dataset.id.get_offset(), row_bytes(dataset)
    if start is None or start + width * len(dataset) > size:
        return Extents()
    return Extents(array("Q", [start]), array("Q", [start + width]), width=width)


def _of_chunks(dataset: h5py.Dataset, step: int, size: int) -> Extents:
    """Returns the hull of the chunks of each run of rows."""
    runs = -(-len(dataset) // step)
    if not 0 < runs <= dataset.id.get_num_chunks():
        return Extents()  # there are rows without data, as many as the file likes to claim
    starts, stops = array("Q", bytes(8 * runs)), array("Q", bytes(8 * runs))

    def add(chunk: Any) -> None:
        run, stop = chunk.chunk_offset[0] // step, chunk.byte_offset + chunk.size
        if run < runs and stop <= size:
            starts[run] = min(starts[run], chunk.byte_offset) if stops[run] else chunk.byte_offset
            stops[run] = max(stops[run], stop)

    dataset.id.chunk_iter(add)
    return Extents(starts, stops, step)
