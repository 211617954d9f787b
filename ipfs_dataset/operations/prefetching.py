"""Fills a cache on disk with the data of a job: all samples, a range of them, or the share of a rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from torch.utils.data import IterableDataset

from ipfs_dataset_core.addressing.object_url import parse_object_url
from ipfs_dataset_core.datasets.loading import load
from ipfs_dataset_core.errors import AddressError, CacheFolderError, FormatError
from ipfs_dataset_core.order.sharding import ReaderRank, sample_ranges

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from typing_extensions import Unpack

    from ipfs_dataset_core.options import OptionArguments

# Number of samples read together.
_TOGETHER = 64


@attrs.frozen
class Prefetched:
    """The result of filling a cache.

    Attributes:
        cid: The CID of the dataset.
        samples: Number of samples that were read.
        of: Number of samples in the dataset.
    """

    cid: str
    samples: int
    of: int


def prefetch_dataset(
    url: str,
    address: str | os.PathLike[str] | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    rank: int = 0,
    world: int = 1,
    progress: Callable[[int], object] | None = None,
    **options: Unpack[OptionArguments],
) -> Prefetched:
    """Reads samples and indexes into the cache of ``cache_dir=``, skipping those that it already holds.

    Args:
        url: Any form of URL of an object in IPFS.
        address: Where to read, as for `ipfs_dataset.load`.
        start: Number of the first sample, from 0.
        stop: Number of the sample after the last; None, or a number beyond the end, means the end.
        rank: The rank whose share of these samples to fetch, as `IPFSIterableDataset` splits them.
        world: Number of ranks.
        progress: Called with the number of samples read since the last call.
        **options: Fields of `Options`, including `cache_dir`.

    Raises:
        AddressError: There is no `cache_dir`, or a number is out of range.
        CacheFolderError: Not everything could be written to the cache.
        FormatError: The dataset is a stream, which has no ranges.
        TransportError: The sources did not deliver.
    """
    if not 0 <= rank < world:
        raise AddressError(f"rank must be from 0 to {world - 1}, not {rank}")
    if start < 0 or (stop is not None and stop < start):
        raise AddressError(
            f"samples are numbered from 0, and the range ends after it begins, not from {start} to {stop}"
        )
    dataset: Any = load(url, address, **options)
    try:
        if dataset._connections.options.cache_dir is None:  # noqa: SLF001 - of this package
            raise AddressError(
                "There is no cache to fetch into: give cache_dir=, or --cache FOLDER on the command line"
            )
        if isinstance(dataset, IterableDataset):
            raise FormatError(
                f"{url!r} has no random access: copy all of it, or publish it as .tar or .zip"
            )
        sources = dataset._connections.fetcher(parse_object_url(url).gateway).sources  # noqa: SLF001
        total = len(dataset)
        last = total if stop is None else min(stop, total)
        count = max(0, last - start)
        ranges = sample_ranges(count, ReaderRank(rank, world), "uneven")
        share, read = sum(end - first for first, end in ranges), 0
        for first, end in ranges:
            for at in range(start + first, start + end, _TOGETHER):
                if sources.cache_failure is not None:
                    break
                numbers = range(at, min(at + _TOGETHER, start + end))
                dataset.__getitems__(numbers)
                read += len(numbers)
                if progress is not None:
                    progress(len(numbers))
        found = Prefetched(dataset.cid, read, total)
    finally:
        dataset.close()
    # Some failures are only known once everything has been written.
    if sources.cache_failure is not None:
        raise CacheFolderError(
            f"{found.cid}: {read} of {share} samples were read, but the cache could not keep all of them: "
            f"{sources.cache_failure}. What it holds is not fetched again"
        )
    return found
