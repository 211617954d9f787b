"""Chunks that would unpack to more than they should: HDF5 itself unpacks whatever there is."""

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

# Deflate cannot shrink anything further.
_MOST_DEFLATED = 1032
_MOST_CHUNKS = 1 << 20


def check_chunks(dataset: h5py.Dataset, start: int, stop: int, max_bytes: int, what: str) -> None:
    """Checks the chunks of a range of rows, before HDF5 reads them.

    Args:
        dataset: A dataset; only one with chunks is looked at.
        start: The first row.
        stop: The row after the last.
        max_bytes: What may be unpacked without looking.
        what: What errors call it.

    Raises:
        ValueError: They are packed in a way that nobody packs them.
        LimitError: They are too many, or one unpacks to more than a chunk has.
    """
    if dataset.chunks is None:
        return
    steps = [range(start - start % dataset.chunks[0], stop, dataset.chunks[0])]
    rest = zip(dataset.shape[1:], dataset.chunks[1:], strict=True)
    steps += [range(0, length, step) for length, step in rest]
    if math.prod(map(len, steps)) > _MOST_CHUNKS:
        raise LimitError(
            f"{what} has more than {_MOST_CHUNKS} chunks to be read at once: write larger ones."
        )
    deflated = list(_filters(dataset)).count(h5z.FILTER_DEFLATE)
    if deflated > 1:
        raise ValueError("it is compressed twice")
    if deflated:
        for place in itertools.product(*steps):
            _check_chunk(dataset, place, max_bytes, what)


def _check_chunk(dataset: h5py.Dataset, place: tuple[int, ...], max_bytes: int, what: str) -> None:
    if dataset.id.get_chunk_info_by_coord(place).size * _MOST_DEFLATED <= max_bytes:
        return
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    _, packed = dataset.id.read_direct_chunk(place)
    if len(zlib.decompressobj().decompress(packed, size + 1)) > size:
        raise LimitError(
            f"{what} has a chunk that unpacks to more than the {size} bytes of a chunk."
        )


def _filters(dataset: h5py.Dataset) -> Iterator[int]:
    made = dataset.id.get_create_plist()
    return (made.get_filter(number)[0] for number in range(made.get_nfilters()))
