"""Shards one after the other, their samples numbered through."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from ipfs_dataset_core.datasets.shards import ObjectShard
from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.interfaces import ObjectFile
from ipfs_dataset_core.order.shuffled_blocks import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.interfaces import Sample

# What a file of a folder is taken to have, for the folder does not say.
_FILE_BYTES = 64 << 10
# How many samples are looked at, for some may be empty where others are not.
_PROBES = 64


class ConcatenatedShards:
    """Samples by number.

    Args:
        shards: All of them can count their samples.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._stops = list(accumulate(shard.count() for shard in shards))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def get(self, position: int) -> Sample:
        """Returns one sample, `position` counted from 0."""
        shard, within = self._locate(position)
        return shard.get(within)

    def get_each(self, positions: Iterable[int]) -> Iterator[Sample]:
        """Yields several samples, whose positions ascend."""
        for shard, within in self._by_shard(positions):
            yield from shard.get_each(within)

    def prefetch(self, positions: Iterable[int]) -> None:
        """Starts fetching what these samples, in order, need, each shard's share in one go."""
        for shard, within in self._by_shard(positions):
            shard.prefetch(within)

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        """Yields about how many bytes each of some samples, in order, needs besides those before it."""
        for shard, within in self._by_shard(positions):
            yield from shard.fetch_bytes(within)

    def block_stops(self, size: int) -> array[int]:
        """Returns where each block of about `size` bytes ends: a run of one shard's samples."""
        firsts = chain((0,), self._stops)
        stops = (
            first + stop
            for shard, first in zip(self._shards, firsts, strict=False)
            for stop in _blocks(shard, size)
        )
        return array("Q", stops)

    def _by_shard(self, positions: Iterable[int]) -> Iterator[tuple[Shard, list[int]]]:
        """Yields the shards that some samples, in order, are in, with their numbers there."""
        ascending = list(positions)
        at = 0
        while at < len(ascending):
            shard, first = self._shard_of(ascending[at])
            stop = bisect_left(ascending, self._stops[shard], at)
            yield self._shards[shard], [position - first for position in ascending[at:stop]]
            at = stop

    def _locate(self, position: int) -> tuple[Shard, int]:
        shard, first = self._shard_of(position)
        return self._shards[shard], position - first

    def _shard_of(self, position: int) -> tuple[int, int]:
        """Returns the number of the shard that a sample is in, and of that shard's first sample."""
        shard = bisect_right(self._stops, position)
        return shard, self._stops[shard - 1] if shard else 0


def _blocks(shard: Shard, size: int) -> Iterator[int]:
    return cut(_starts(shard), shard.count(), size)


def _starts(shard: Shard) -> Callable[[int], int]:
    """Returns what tells where a sample starts; files of a folder are taken to lie in a row."""
    if isinstance(shard, ObjectShard) and isinstance(shard.source, ObjectFile):
        span = shard.index().span
        return lambda position: span(position)[0]
    return _FILE_BYTES.__mul__


def has_blocks(shard: Shard) -> bool:
    """Tells whether a shard is read about as fast when its samples are mixed within a window of blocks.

    Not so where it allows no random access, nor where its index does not say which bytes a sample needs, as
    that of a file whose rows are decoded many at a time.
    """
    try:
        count = shard.count()
    except FormatError:
        return False
    if not count or not isinstance(shard, ObjectShard) or not isinstance(shard.source, ObjectFile):
        return True
    spans = map(shard.index().span, range(0, count, -(-count // _PROBES)))
    return any(start < stop for start, stop in spans)
