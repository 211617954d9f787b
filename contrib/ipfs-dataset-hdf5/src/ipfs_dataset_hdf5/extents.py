"""Where in a file the rows of a dataset lie. Public for other distributions whose files are HDF5."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import Extents

if TYPE_CHECKING:
    import h5py

_PIECE_BYTES = 1 << 20
_MOST_AT_ONCE_BYTES = 64 << 20


def row_bytes(dataset: h5py.Dataset, axis: int = 0) -> int:
    """Returns how many bytes a row along an axis has decoded."""
    others = (length for number, length in enumerate(dataset.shape) if number != axis)
    return int(math.prod(others) * dataset.dtype.itemsize)


def rows_at_once(dataset: h5py.Dataset, axis: int = 0) -> int:
    """Returns how many rows along an axis are best read at once."""
    size = max(1, row_bytes(dataset, axis))
    if dataset.chunks is None:
        return max(1, _PIECE_BYTES // size)
    return min(int(dataset.chunks[axis]), max(1, _MOST_AT_ONCE_BYTES // size))


def extents_of(dataset: h5py.Dataset, size: int, axis: int = 0) -> Extents:
    """Returns where the rows along an axis lie; reads the index of chunks only.

    Args:
        dataset: The dataset.
        size: How many bytes the file has: what claims to lie beyond is left out.
        axis: The axis.
    """
    if dataset.chunks is not None:
        return _of_chunks(dataset, size, axis)
    start, width, rows = dataset.id.get_offset(), row_bytes(dataset, axis), dataset.shape[axis]
    if start is None or start + width * rows > size:
        return Extents()
    if math.prod(dataset.shape[:axis]) > 1:  # what makes up a row lies apart
        return Extents(array("Q", [start]), array("Q", [start + width * rows]))
    return Extents(array("Q", [start]), array("Q", [start + width]), width=width)


def _of_chunks(dataset: h5py.Dataset, size: int, axis: int) -> Extents:
    """Returns the hull of the chunks of each run of rows."""
    step = dataset.chunks[axis]
    runs = -(-dataset.shape[axis] // step)
    if not 0 < runs <= dataset.id.get_num_chunks():
        return Extents()  # there are rows without data, as many as the file likes to claim
    starts, stops = array("Q", bytes(8 * runs)), array("Q", bytes(8 * runs))

    def add(chunk: Any) -> None:
        run, stop = chunk.chunk_offset[axis] // step, chunk.byte_offset + chunk.size
        if run < runs and stop <= size:
            starts[run] = min(starts[run], chunk.byte_offset) if stops[run] else chunk.byte_offset
            stops[run] = max(stops[run], stop)

    dataset.id.chunk_iter(add)
    return Extents(starts, stops, step)
