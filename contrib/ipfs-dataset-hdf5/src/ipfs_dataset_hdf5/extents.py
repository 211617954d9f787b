"""The positions of a dataset's rows in the file.

This module is public for other distributions whose files are HDF5.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import Extents

if TYPE_CHECKING:
    import h5py

_PIECE_BYTES = 1 << 20
_MAX_READ_BYTES = 64 << 20


def row_bytes(dataset: h5py.Dataset, axis: int = 0) -> int:
    """Returns the size of a decoded row along an axis, in bytes."""
    others = (length for number, length in enumerate(dataset.shape) if number != axis)
    return int(math.prod(others) * dataset.dtype.itemsize)


def rows_at_once(dataset: h5py.Dataset, axis: int = 0) -> int:
    """Returns the number of rows along an axis to read at once: those of a chunk, up to 64 MiB.

    Of a dataset without chunks, it is the number of rows in 1 MiB. The number is at least 1.
    """
    size = max(1, row_bytes(dataset, axis))
    if dataset.chunks is None:
        return max(1, _PIECE_BYTES // size)
    return min(int(dataset.chunks[axis]), max(1, _MAX_READ_BYTES // size))


def extents_of(dataset: h5py.Dataset, size: int, axis: int = 0) -> Extents:
    """Returns the positions of the rows along an axis; this reads only the index of the chunks.

    The result is empty if the positions are not known: some chunks were never written, or the dataset
    declares bytes outside of the file.

    Args:
        dataset: The dataset.
        size: The size of the file in bytes.
        axis: The axis.
    """
    if dataset.chunks is not None:
        return _of_chunks(dataset, size, axis)
    start, width, rows = dataset.id.get_offset(), row_bytes(dataset, axis), dataset.shape[axis]
    if start is None or start + width * rows > size:
        return Extents()
    if math.prod(dataset.shape[:axis]) > 1:  # the bytes of a row are scattered over the dataset
        return Extents(array("Q", [start]), array("Q", [start + width * rows]))
    return Extents(array("Q", [start]), array("Q", [start + width]), width=width)


def _of_chunks(dataset: h5py.Dataset, size: int, axis: int) -> Extents:
    """Returns the smallest span that contains all chunks of each run of rows.

    A run has as many rows as a chunk.
    """
    step = dataset.chunks[axis]
    runs = -(-dataset.shape[axis] // step)
    if not 0 < runs <= dataset.id.get_num_chunks():
        # Some rows have no chunk. A small file can declare any number of them, so no table is made.
        return Extents()
    starts, stops = array("Q", bytes(8 * runs)), array("Q", bytes(8 * runs))

    def add(chunk: Any) -> None:
        run, stop = chunk.chunk_offset[axis] // step, chunk.byte_offset + chunk.size
        if run < runs and stop <= size:
            starts[run] = min(starts[run], chunk.byte_offset) if stops[run] else chunk.byte_offset
            stops[run] = max(stops[run], stop)

    dataset.id.chunk_iter(add)
    return Extents(starts, stops, step)
