"""A check of compressed chunks: HDF5 decompresses a chunk completely, even if it is a decompression bomb.

This module is public for other distributions whose files are HDF5.
"""

from __future__ import annotations

import itertools
import math
import zlib
from typing import TYPE_CHECKING

from h5py import h5z

from ipfs_dataset_core import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

_MAX_DEFLATE_RATIO = 1032  # the highest compression ratio that deflate can reach
_MAX_CHUNKS = 1 << 20


def check_chunks(
    dataset: h5py.Dataset, selection: tuple[slice, ...], max_bytes: int, what: str
) -> None:
    """Checks the chunks of a part of a dataset, before HDF5 reads them.

    Args:
        dataset: The dataset. One without chunks passes the check.
        selection: A slice without a step for each of the first axes; of the other axes, everything is read.
        max_bytes: Chunks that cannot decompress to more bytes than this pass without a trial.
        what: The name of the dataset, for errors.

    Raises:
        ValueError: The chunks are compressed twice, which no writer does.
        LimitError: There are more than 1,048,576 chunks, or one decompresses to more bytes than a chunk has.
    """
    if dataset.chunks is None:
        return
    offsets = list(_chunk_offsets(dataset, selection))
    if math.prod(map(len, offsets)) > _MAX_CHUNKS:
        raise LimitError(
            f"{what} has more than {_MAX_CHUNKS} chunks to be read at once: write larger chunks."
        )
    deflated = list(_filters(dataset)).count(h5z.FILTER_DEFLATE)
    if deflated > 1:
        raise ValueError("it is compressed twice")
    if deflated:
        for offset in itertools.product(*offsets):
            _check_chunk(dataset, offset, max_bytes, what)


def _chunk_offsets(dataset: h5py.Dataset, selection: tuple[slice, ...]) -> Iterator[range]:
    """Yields, for each axis, the offsets in items of the chunks in a selection."""
    parts = itertools.chain(selection, itertools.repeat(slice(None)))
    for length, step, part in zip(dataset.shape, dataset.chunks, parts, strict=False):
        start, stop, _ = part.indices(length)
        yield range(start - start % step, stop, step)


def _check_chunk(dataset: h5py.Dataset, offset: tuple[int, ...], max_bytes: int, what: str) -> None:
    stored_bytes = dataset.id.get_chunk_info_by_coord(offset).size
    if stored_bytes * _MAX_DEFLATE_RATIO <= max_bytes:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    _, compressed = dataset.id.read_direct_chunk(offset)
    if len(zlib.decompressobj().decompress(compressed, size + 1)) > size:
        raise LimitError(
            f"{what} has a chunk that decompresses to more than the {size} bytes of a chunk."
        )


def _filters(dataset: h5py.Dataset) -> Iterator[int]:
    properties = dataset.id.get_create_plist()
    return (properties.get_filter(number)[0] for number in range(properties.get_nfilters()))
