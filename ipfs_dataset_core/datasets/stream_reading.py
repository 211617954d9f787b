"""What one reader, a worker of a rank, reads of a stream's objects in one iteration."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.datasets.shards import ConcatenatedShards
from ipfs_dataset_core.datasets.streaming import (
    InOrder,
    can_be_mixed,
    count_of,
    counts_of_parts,
    part_by_bytes,
    part_by_number,
    read_numbers,
)
from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, IPFSDatasetWarning
from ipfs_dataset_core.order.laned_order import LanedOrder, blocks_in_order, lanes_of_reader
from ipfs_dataset_core.order.sharding import makes_ranks_equal, range_of_reader
from ipfs_dataset_core.order.shuffled_blocks import ShuffleBlockOrder
from ipfs_dataset_core.order.stream_places import ReaderPlaces, between, stop_of_stream
from ipfs_dataset_core.runtime.cached_property import cached_property
from ipfs_dataset_core.runtime.human import human_size
from ipfs_dataset_core.runtime.user_warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import torch

    from ipfs_dataset_core.datasets.objects import DatasetObject
    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.datasets.streaming import SkippingStream
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.order.epoch_progress import EpochProgress
    from ipfs_dataset_core.order.global_order import Lanes
    from ipfs_dataset_core.order.sharding import Distribution, ReaderRank
    from ipfs_dataset_core.order.stream_places import Run


# Number of consecutive samples per reader if a stream without `batch_size` is resumed.
_TOGETHER = 64
# Below this many bytes, it does not matter how often they are fetched.
_MANY_BYTES = 64 << 20
# With memory for this many leaves, shuffle blocks are twice as large as leaves.
_MEMORY_OF_LEAVES = 16


@attrs.frozen(kw_only=True)
class StreamOrder:
    """Everything that determines the order of a stream of objects, besides the epoch.

    Args:
        seed: The seed.
        shuffle_urls: Whether each epoch has a different order of objects.
        shuffle_blocks: Whether each epoch has a different order of samples.
        batch: Batch size of the loader; None if unknown.
        lanes: Number of parts of the data from which the sequence is interleaved.
        block: Approximate size of a block in bytes.
        window: Number of blocks mixed in each lane.
        chunk: Number of places after which the lanes of the next workers take over; None to derive it from
            the job.
    """

    seed: int
    shuffle_urls: bool
    shuffle_blocks: bool
    batch: int | None
    lanes: Lanes
    block: int
    window: int
    chunk: int | None = None

    @property
    def is_laned(self) -> bool:
        """Whether samples are read by number, from lanes; otherwise in the order of the data."""
        return self.shuffle_blocks or self.lanes.count > 1

    def chunk_in(self, world: int) -> int:
        """Returns the number of places after which other lanes take over, in a job of `world` ranks."""
        if self.chunk is not None:
            return self.chunk
        # Without a batch size, lanes take turns as often as possible.
        return max(self.lanes.ranks, (self.batch or 1) * world)

    def batch_from(self, start: int) -> int:
        """Returns how many samples a reader reads before the next one has its turn.

        Args:
            start: The place at which the iteration begins.
        """
        if self.batch is not None:
            return self.batch
        return 1 if self.is_laned or not start else _TOGETHER

    def places(
        self, reader: ReaderRank, start: int, total: int | None, distribution: Distribution
    ) -> ReaderPlaces:
        """Returns the places that one reader reads.

        Args:
            reader: The reader.
            start: The place at which the iteration begins.
            total: Number of places of the epoch; None if unknown.
            distribution: How ranks are made equal.
        """
        stop = None
        if total is not None:
            stop = stop_of_stream(total, start, reader.world, self.batch, distribution)
        batch = self.batch_from(start)
        return ReaderPlaces(reader, batch, start, stop, contiguous=not self.is_laned)


@attrs.define(kw_only=True, slots=False)
class StreamReading:
    """Reads the share of one reader in one iteration.

    Attributes:
        in_parts: Whether each reader reads a part of the data, so that the readers share no place.

    Args:
        objects: The objects with their numbers, in the order of the epoch.
        order: The parameters of the order.
        epoch: The epoch.
        start: The place at which the iteration begins.
        reader: The reader.
        distribution: How ranks are made equal.
        skipping: Reads shards.
        memory: Number of bytes of blocks that this process keeps in memory.
        counts: Receives the number of samples of each object that was read to its end.
        progress: Records whether a warning was shown.
        within: Number of objects before the one that contains `start`, and the number of their samples; 0 if
            unknown.
    """

    objects: Sequence[tuple[int, DatasetObject]]
    order: StreamOrder
    epoch: int
    start: int
    reader: ReaderRank
    distribution: Distribution
    skipping: SkippingStream
    memory: int
    counts: torch.Tensor
    progress: EpochProgress
    within: tuple[int, int] = (0, 0)
    in_parts: bool = attrs.field(init=False)
    # Number of samples left out before the part of this reader that has no places.
    _left_out: int | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        # Parts are parts of a whole epoch, and only used for streams without `batch_size`.
        in_parts = self.order.batch is None and self.reader.count > 1 and not self.start
        self.in_parts = in_parts and not (self.order.is_laned and self._must_be_equal)

    @property
    def _must_be_equal(self) -> bool:
        return makes_ranks_equal(self.reader.world, self.distribution)

    @property
    def left_out(self) -> int:
        """Number of this reader's places whose samples were skipped without a replacement.

        Samples without places, in parts that are ranges of bytes, are not counted here: they are skipped
        again if the part is read again.
        """
        return self.skipping.left_out if self._left_out is None else self._left_out

    def read(self, taken: int) -> Iterator[Sample]:
        """Yields this reader's samples.

        Args:
            taken: Number of its places to skip, or of its samples that have no places.
        """
        self._find_replacement()
        if self.order.is_laned:
            return chain.from_iterable(self._in_lanes(taken))
        if self.in_parts:
            return self._in_parts(self._shards, taken)
        return chain.from_iterable(self._in_order(taken))

    def last_place(self, taken: int, rank: int) -> int | None:
        """Returns the last of the first places of a reader of this job; None if it has no places.

        A reader that took equally many places up to the same last one, of the same kind of order, took the
        same places. Which these are depends on `distribution`, where ranks read contiguous parts.

        Args:
            taken: Number of the places, at least 1.
            rank: The rank of the reader; otherwise it is this one.
        """
        reader = attrs.evolve(self.reader, rank=rank)
        if self.in_parts and not self.order.is_laned:
            counts = self._counts_of_parts
            if counts is None:
                return None
            start, stop = range_of_reader(sum(counts), reader, self.distribution)
            return start + taken - 1 if taken <= stop - start else None
        if not self.order.is_laned:
            places = self.order.places(reader, self.start, self._total, self.distribution)
            return next(places.stretches(taken - 1), (None,))[0]
        if self.in_parts:
            joined, rest = self._mixed_and_rest
            if rest and taken > self._turns_below(len(joined)):
                return None
        places = self.order.places(reader, self.start, None, self.distribution)
        return next(places.turns(taken - 1)).start

    def _find_replacement(self) -> None:
        policy = self.skipping.policy
        if policy.raises or not (self.order.batch is not None or self._must_be_equal):
            return
        # Errors are raised: ranks would differ if one skipped an object that another can open.
        shards = [shard for _, item in self.objects for shard in item.shards()]
        with suppress(FormatError):  # samples cannot be counted, so nothing replaces damaged ones
            self.skipping.replace_from(ConcatenatedShards(shards))

    # Each shard is looked at once in an iteration: one that cannot be opened would be skipped again, and
    # whether the samples of one are counted may change while it is read.

    @cached_property
    def _shards(self) -> list[Shard]:
        if self._must_be_equal:
            return [shard for _, item in self.objects for shard in item.shards()]
        return list(self.skipping.shards(item for _, item in self.objects))

    def _in_parts(self, shards: Sequence[Shard], taken: int) -> Iterator[Sample]:
        counts = self._counts_of_parts
        if counts is not None:
            yield from part_by_number(
                shards, counts, self.reader, self.distribution, skipping=self.skipping, taken=taken
            )
            return
        if self._left_out is None:
            self._left_out = self.skipping.left_out
        yield from part_by_bytes(shards, self.reader, self.skipping, taken)

    @cached_property
    def _counts_of_parts(self) -> list[int] | None:
        shards = self._mixed_and_rest[1] if self.order.is_laned else self._shards
        return counts_of_parts(shards, self.reader, self.distribution)

    def _in_order(self, taken: int) -> Iterator[Iterator[Sample]]:
        """Yields iterators, to be read one after the other; see `_in_lanes`."""
        total = self._total
        places = self.order.places(self.reader, self.start, total, self.distribution)
        first, before = self.within
        for turn in range(-(-places.stop // total) if total and places.stop else 1):
            start = self.start if total is None else 0  # otherwise it was checked
            reading = InOrder(self.skipping, 0 if turn else before, start)
            runs = places.stretches(taken)
            if total is not None:
                runs = _between(runs, turn * total, (turn + 1) * total)
            yield reading.read(self._opened(reading, 0 if turn else first), runs)

    @cached_property
    def _total(self) -> int | None:
        """The number of samples; None if nothing depends on it."""
        if self.reader.world == 1:
            return None
        if self._must_be_equal or all(shard.is_counted() for shard in self._shards):
            return count_of(self._shards)
        return None

    def _opened(self, reading: InOrder, first: int) -> Iterator[Shard]:
        """Yields the shards of objects, opening each when it is needed; records its number of samples."""
        lone = self.reader.count == 1
        for number, item in self.objects[first:]:
            began = reading.place
            for shard in self.skipping.shards([item], in_order=lone and not self.start):
                if not self.progress.warned_of_sharing:
                    self._warn_of_sharing(shard)
                yield shard
            if self.skipping.policy.raises:
                self.counts[number] = reading.place - began

    def _warn_of_sharing(self, shard: Shard) -> None:
        """Warns if several readers take turns so often that each of them fetches most of the blocks.

        The check uses the index of a shard, which is needed anyway, and the size of its blocks.
        """
        reader, batch = self.reader, self.order.batch
        if batch is None or reader.count == 1 or reader.index:
            return
        with suppress(IPFSDatasetError):  # raised when it is read
            size = shard.weight()
            if size * len(self.objects) < _MANY_BYTES or not shard.is_counted():
                return
            turn, block = batch * size // max(1, len(shard)), shard.leaf_bytes()
            if block < max(1, turn):
                return
            self.progress.warned_of_sharing = True
            each = min(reader.count, 1 + block // max(1, turn))
            warn_user(
                f"{reader.count} readers take turns in {shard.what!r}, and about {each} of them fetch each "
                f"block: a batch has about {human_size(turn)}, and a block {human_size(block)}. Give "
                f"lanes=({reader.world}, {reader.workers}), so that each reads blocks of its own, in the "
                f"order of {reader.count} parts of the data in turn; or shuffle_blocks=True; or leave out "
                "batch_size",
                IPFSDatasetWarning,
            )

    def _warn_of_memory(self, joined: ConcatenatedShards) -> None:
        """Warns if the memory is so small that each block is fetched several times in an epoch.

        Shuffle blocks, whose size depends on the memory, are then no larger than the blocks of the data. Most
        of these are evicted before the other shuffle blocks with parts of them are read.

        Args:
            joined: The samples that are mixed.
        """
        leaf, size = joined.leaf_bytes(), self.order.block
        if self.reader.index or leaf < size:
            return
        if joined.weight() < max(_MANY_BYTES, 2 * self.memory):
            return
        self.progress.warned_of_memory = True
        warn_user(
            f"Each block of the data is fetched about {1 + leaf // size} times in an epoch: blocks have up "
            f"to {human_size(leaf)}, and with a memory of {human_size(self.memory)}, samples are shuffled in "
            f"parts of {human_size(size)}. Give at least memory='{-(-leaf * _MEMORY_OF_LEAVES >> 20)}M'",
            IPFSDatasetWarning,
        )

    def _in_lanes(self, taken: int) -> Iterator[Iterator[Sample]]:
        """Yields iterators, to be read one after the other; nesting generators would cost time."""
        joined, rest = self._mixed_and_rest
        self.in_parts &= bool(rest)
        count, total = len(joined), self._count_with(joined, rest)
        places = self.order.places(self.reader, self.start, total, self.distribution)
        if not rest:
            if count:
                yield self._mixed(joined, places.turns(taken))
            return
        for turn in range(-(-places.stop // total) if total and places.stop else 1):
            first = turn * (total or 0)
            behind = first + count
            if count:
                yield self._mixed(joined, between(places.turns(taken), first, behind))
            if self.in_parts:
                # Each of these objects then has one reader, which has read its turns before this place.
                yield self._in_parts(rest, max(0, taken - self._turns_below(count)))
            else:
                end = None if total is None else first + total
                runs = _runs(between(places.turns(taken), behind, end))
                start = max(0, self.start - behind) if total is None else 0
                yield InOrder(self.skipping, start=start).read(rest, runs)

    @cached_property
    def _mixed_and_rest(self) -> tuple[ConcatenatedShards, list[Shard]]:
        """The samples that are mixed, and the shards that follow in order."""
        known = [
            (shard, mixes)
            for shard in self._shards
            for mixes in can_be_mixed(shard, self.skipping.policy)
        ]
        mixed = ConcatenatedShards([shard for shard, mixes in known if mixes])
        return mixed, [shard for shard, mixes in known if not mixes]

    def _count_with(self, joined: ConcatenatedShards, rest: Sequence[Shard]) -> int | None:
        """Returns the number of samples; None if those of some shards are unknown and not needed.

        Raises:
            FormatError: Ranks must be equal, but an object's samples cannot be counted.
        """
        if rest and not self._must_be_equal:
            return None
        return len(joined) + count_of(rest)

    def _turns_below(self, count: int) -> int:
        """Returns how many of the first places of an epoch belong to this reader, if readers take turns."""
        reader = self.reader
        return len(range(reader.worker * reader.world + reader.rank, count, reader.count))

    def _mixed(self, joined: ConcatenatedShards, places: Iterable[range]) -> Iterator[Sample]:
        total, order, reader = len(joined), self.order, self.reader
        if order.shuffle_blocks and not self.progress.warned_of_memory:
            self._warn_of_memory(joined)
        key = (order.seed, self.epoch)
        stops = joined.block_stops(order.block)
        laned = LanedOrder(
            total=total,
            steps=ShuffleBlockOrder(stops, order.window, *key).steps
            if order.shuffle_blocks
            else blocks_in_order(stops),
            lanes=order.lanes,
            chunk=order.chunk_in(reader.world),
            window=order.window,
            block=order.block,
        )
        lanes = lanes_of_reader(order.lanes, reader, order.batch)
        hinted = laned.is_hinted(self.memory, lanes)
        numbers = laned.numbers(places, lanes=lanes, hinted=hinted)
        found = read_numbers(numbers, joined, self.skipping, hinted=hinted)
        return map(itemgetter(1), found)


def _runs(ranges: Iterable[range]) -> Iterator[Run]:
    """Yields the places of ranges as pairs of start and stop."""
    for places in ranges:
        if places.step == 1:
            yield places.start, places.stop
        else:
            yield from ((place, place + 1) for place in places)


def _between(runs: Iterable[Run], start: int, stop: int | None) -> Iterator[Run]:
    """Yields the parts of ranges between two places, counted from the first place."""
    for begin, end in runs:
        if stop is not None and begin >= stop:
            return
        if end is None or end > start:
            last = end if stop is None else stop if end is None else min(end, stop)
            yield max(begin, start) - start, None if last is None else last - start
