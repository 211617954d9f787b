"""Where in an HDF5 file the rows of a dataset lie."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

from ipfs_dataset_mat._container import Extents

if TYPE_CHECKING:
    import h5py

_PIECE_BYTES = 1 << 20
_MOST_AT_ONCE_BYTES = 64 << 20


def chunk_rows(dataset: h5py.Dataset, axis: int) -> int:
    """Returns how many rows along a stored axis are best read at once."""
    row_bytes: int = (
        dataset.dtype.itemsize * math.prod(dataset.shape) // max(1, dataset.shape[axis])
    )
    if dataset.chunks is None:
        return max(1, _PIECE_BYTES // max(1, row_bytes))
    return min(int(dataset.chunks[axis]), max(1, _MOST_AT_ONCE_BYTES // max(1, row_bytes)))


def extents_of(dataset: h5py.Dataset, axis: int) -> Extents:
    """Returns which bytes each row along a stored axis is made of; reads the index of chunks only."""
    rows = dataset.shape[axis]
    if dataset.chunks is not None:
        return _of_chunks(dataset, axis, dataset.chunks[axis])
    start = dataset.id.get_offset()
    if start is None or not rows:
        return Extents()
    size = dataset.dtype.itemsize * math.prod(dataset.shape)
    first = array("Q", [start])
    if math.prod(dataset.shape[:axis]) > 1:  # what makes up a row lies apart
        return Extents(first, array("Q", [start + size]))
    return Extents(first, array("Q", [start + size // rows]), width=size // rows)


def _of_chunks(dataset: h5py.Dataset, axis: int, step: int) -> Extents:
    """Returns the hull of the chunks of each run of rows."""
    runs = -(-dataset.shape[axis] // step)
    if not 0 < runs <= dataset.id.get_num_chunks():
        return Extents()  # there are rows without data, as many as the file likes to claim
    starts, stops = array("Q", bytes(8 * runs)), array("Q", bytes(8 * runs))

    def add(chunk: Any) -> None:
        run = chunk.chunk_offset[axis] // step
        stop = chunk.byte_offset + chunk.size
        starts[run] = min(starts[run], chunk.byte_offset) if stops[run] else chunk.byte_offset
        stops[run] = max(stops[run], stop)

    dataset.id.chunk_iter(add)
    return Extents(starts, stops, step)
