"""Where in an HDF5 file the rows of a dataset lie."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import LimitError
from ipfs_dataset_mat._container import Extents

if TYPE_CHECKING:
    import h5py

_MOST_ROWS = 50_000_000
_PIECE_BYTES = 1 << 20


def chunk_rows(dataset: h5py.Dataset, axis: int) -> int:
    """Returns how many rows along a stored axis are best read at once."""
    if dataset.chunks is not None:
        return int(dataset.chunks[axis])
    row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape) // max(1, dataset.shape[axis])
    return max(1, _PIECE_BYTES // max(1, row_bytes))


def extents_of(dataset: h5py.Dataset, axis: int) -> Extents:
    """Returns which bytes each row along a stored axis is made of; reads the index of chunks only.

    Raises:
        LimitError: There are too many rows.
    """
    rows = dataset.shape[axis]
    if rows > _MOST_ROWS:
        raise LimitError(f"{dataset.name!r} has {rows} rows, more than the limit of {_MOST_ROWS}.")
    if dataset.chunks is not None:
        return _of_chunks(dataset, axis, dataset.chunks[axis])
    start = dataset.id.get_offset()
    if start is None or not rows:
        return Extents()
    size = dataset.dtype.itemsize * math.prod(dataset.shape)
    if axis:
        return Extents(array("Q", [start]), array("Q", [start + size]), step=rows)
    width = size // rows
    return Extents(
        array("Q", range(start, start + rows * width, width) if width else [start] * rows),
        array(
            "Q",
            range(start + width, start + (rows + 1) * width, width) if width else [start] * rows,
        ),
    )


def _of_chunks(dataset: h5py.Dataset, axis: int, step: int) -> Extents:
    """Returns the hull of the chunks of each run of rows; (0, 0) where none were ever written."""
    runs = max(1, -(-dataset.shape[axis] // step))
    starts, stops = array("Q", bytes(8 * runs)), array("Q", bytes(8 * runs))

    def add(chunk: Any) -> None:
        run = chunk.chunk_offset[axis] // step
        stop = chunk.byte_offset + chunk.size
        starts[run] = min(starts[run], chunk.byte_offset) if stops[run] else chunk.byte_offset
        stops[run] = max(stops[run], stop)

    dataset.id.chunk_iter(add)
    return Extents(starts, stops, step)
