"""Chunks that would unpack to more than they should: HDF5 itself unpacks whatever there is.

Public for other distributions whose files are HDF5.
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

# Deflate cannot shrink anything further.
_MOST_DEFLATED = 1032
_MOST_CHUNKS = 1 << 20


def check_chunks(
    dataset: h5py.Dataset, chosen: tuple[slice, ...], max_bytes: int, what: str
) -> None:
    """Checks the chunks of a part of a dataset, before HDF5 reads them.

    Args:
        dataset: The dataset; only one with chunks is looked at.
        chosen: The part: a slice for each of its first axes, without steps; all of the others.
        max_bytes: What may be unpacked without looking.
        what: What errors call it.

    Raises:
        ValueError: They are packed in a way that nobody packs them.
        LimitError: They are too many, or one unpacks to more than a chunk has.
    """
    if dataset.chunks is None:
        return
    places = list(_places(dataset, chosen))
    if math.prod(map(len, places)) > _MOST_CHUNKS:
        raise LimitError(
            f"{what} has more than {_MOST_CHUNKS} chunks to be read at once: write larger ones."
        )
    deflated = list(_filters(dataset)).count(h5z.FILTER_DEFLATE)
    if deflated > 1:
        raise ValueError("it is compressed twice")
    if deflated:
        for place in itertools.product(*places):
            _check_chunk(dataset, place, max_bytes, what)


def _places(dataset: h5py.Dataset, chosen: tuple[slice, ...]) -> Iterator[range]:
    """Yields, for each axis, where the chunks of a part begin."""
    parts = itertools.chain(chosen, itertools.repeat(slice(None)))
    for length, step, part in zip(dataset.shape, dataset.chunks, parts, strict=False):
        start, stop, _ = part.indices(length)
        yield range(start - start % step, stop, step)


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
