"""What one reader of an iterable dataset yields: its share of every shard, in order."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.order.sharding import ReaderRank, overlaps, part, sample_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.order.sharding import Distribution


def stream(
    shards: Iterable[Shard], reader: ReaderRank, distribution: Distribution, policy: ErrorPolicy
) -> Iterator[Sample]:
    """Yields the samples of one reader.

    Every sample of the dataset goes to exactly one reader, but for what `distribution` adds or drops to make
    ranks equal. Where all shards are counted, samples are split by number. Otherwise they are split by bytes,
    so that no reader has to look through an archive to find out how many samples it has; objects that cannot
    be entered in the middle (compressed tars) go to one reader each, or, where there are fewer of them than
    readers, every reader takes its turn among their samples.

    Raises:
        FormatError: Ranks must be equal, and an object's samples cannot be counted.
    """
    if reader.count == 1:
        for shard in shards:
            yield from policy.samples(shard)
        return
    shards = list(shards)
    if (reader.world > 1 and distribution != "uneven") or all(
        shard.is_counted() for shard in shards
    ):
        yield from _by_number(shards, reader, distribution, policy)
    else:
        yield from _by_bytes([shard for shard in shards if shard.is_splittable()], reader, policy)
        yield from _in_turn(
            [shard for shard in shards if not shard.is_splittable()], reader, policy
        )


def exact_length(shards: Sequence[Shard], world: int, rank: int, distribution: Distribution) -> int:
    """Returns how many samples one rank gets.

    Raises:
        TypeError: Only reading the whole dataset would tell.
    """
    if not all(shard.is_counted() for shard in shards):
        raise TypeError("this iterable dataset has no len(): counting would read all of it")
    total = sum(shard.count() for shard in shards)
    ranges = sample_ranges(total, ReaderRank(rank, world), distribution)
    return sum(stop - start for start, stop in ranges)


def _by_number(
    shards: Sequence[Shard], reader: ReaderRank, distribution: Distribution, policy: ErrorPolicy
) -> Iterator[Sample]:
    counts = [_count(shard) for shard in shards]
    for start, stop in sample_ranges(sum(counts), reader, distribution):
        for shard, first, last in overlaps(counts, start, stop):
            yield from policy.between(shards[shard], first, last)


def _count(shard: Shard) -> int:
    try:
        return shard.count()
    except FormatError as error:
        raise FormatError(
            f"Ranks cannot get equally many samples, for one object's cannot be counted. {error} "
            "Or give distribution='uneven'"
        ) from error


def _by_bytes(shards: Sequence[Shard], reader: ReaderRank, policy: ErrorPolicy) -> Iterator[Sample]:
    weights = [shard.weight() for shard in shards]
    start, stop = part(sum(weights), reader.index, reader.count)
    for shard, first, last in overlaps(weights, start, stop):
        yield from policy.slice(shards[shard], first, last)


def _in_turn(shards: Sequence[Shard], reader: ReaderRank, policy: ErrorPolicy) -> Iterator[Sample]:
    if len(shards) >= reader.count:
        for shard in islice(shards, reader.index, None, reader.count):
            yield from policy.samples(shard)
    else:
        for shard in shards:
            yield from islice(policy.samples(shard), reader.index, None, reader.count)
