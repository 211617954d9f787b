"""Streams: what one reader, a worker of a rank, yields of all shards, in order or in shuffled blocks."""

from __future__ import annotations

from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from ipfs_dataset_core.datasets.batch_fetch import fetched_ahead, together
from ipfs_dataset_core.datasets.shards import ConcatenatedShards
from ipfs_dataset_core.errors import (
    FormatError,
    IPFSDatasetError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.order.sharding import ReaderRank, overlaps, part, sample_ranges
from ipfs_dataset_core.order.shuffled_blocks import STEPS_AHEAD, ShuffleBlockOrder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
    from ipfs_dataset_core.datasets.objects import DatasetObject
    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.order.sharding import Distribution

# How many samples are read together: few enough that they take little memory, whatever they decompress to.
_READ_TOGETHER = 32


def stream(
    shards: Iterable[Shard], reader: ReaderRank, distribution: Distribution, policy: ErrorPolicy
) -> Iterator[Sample]:
    """Yields the samples of one reader, in order.

    Every sample of the dataset goes to exactly one reader, except for those that `distribution` adds or drops
    to make ranks equal. Where all shards are counted, samples are split by number. Otherwise they are split
    by bytes, so that no reader has to look through an archive to find out how many samples it has. Objects
    that cannot be entered in the middle (compressed TARs) go to one reader each. If there are fewer of them
    than readers, every reader reads all of them and yields every n-th sample.

    Args:
        shards: The whole dataset.
        reader: Which reader.
        distribution: How ranks are made equal.
        policy: What to skip.

    Raises:
        FormatError: Ranks must be equal, and an object's samples cannot be counted.
    """
    skipping = SkippingStream(policy)
    if reader.count == 1:
        for shard in shards:
            yield from skipping.samples(shard)
        return
    shards = list(shards)
    if (reader.world > 1 and distribution != "uneven") or all(
        shard.is_counted() for shard in shards
    ):
        yield from _by_number(shards, reader, distribution, skipping)
    else:
        splittable = [shard for shard in shards if shard.is_splittable()]
        yield from _by_bytes(splittable, reader, skipping)
        whole = [shard for shard in shards if not shard.is_splittable()]
        yield from _in_turn(whole, reader, skipping)


def exact_length(shards: Sequence[Shard], world: int, rank: int, distribution: Distribution) -> int:
    """Returns how many samples one rank gets.

    Raises:
        TypeError: Only reading the whole dataset would tell.
    """
    if not all(shard.is_counted() for shard in shards):
        raise TypeError("this iterable dataset has no len(): counting would read all of it")
    total = sum(map(len, shards))
    ranges = sample_ranges(total, ReaderRank(rank, world), distribution)
    return sum(stop - start for start, stop in ranges)


def _by_number(
    shards: Sequence[Shard],
    reader: ReaderRank,
    distribution: Distribution,
    skipping: SkippingStream,
) -> Iterator[Sample]:
    counts = [_count(shard) for shard in shards]
    for start, stop in sample_ranges(sum(counts), reader, distribution):
        for shard, first, last in overlaps(counts, start, stop):
            yield from skipping.iterate(shards[shard], first, last)


def _count(shard: Shard) -> int:
    try:
        return len(shard)
    except FormatError as error:
        raise FormatError(
            f"Ranks cannot get equally many samples, for one object's cannot be counted. {error} "
            "Or give distribution='uneven'"
        ) from error


def _by_bytes(
    shards: Sequence[Shard], reader: ReaderRank, skipping: SkippingStream
) -> Iterator[Sample]:
    weights = [shard.weight() for shard in shards]
    start, stop = part(sum(weights), reader.index, reader.count)
    for shard, first, last in overlaps(weights, start, stop):
        yield from skipping.iterate_bytes(shards[shard], first, last)


def _in_turn(
    shards: Sequence[Shard], reader: ReaderRank, skipping: SkippingStream
) -> Iterator[Sample]:
    if len(shards) >= reader.count:
        for shard in islice(shards, reader.index, None, reader.count):
            yield from skipping.samples(shard)
    else:
        for shard in shards:
            yield from islice(skipping.samples(shard), reader.index, None, reader.count)


class SkippingStream:
    """Reads shards in order, without the samples that the error policy skips.

    Where a sample cannot be read, those after it are read by number, if the format allows random access.

    Args:
        policy: What to skip.
    """

    def __init__(self, policy: ErrorPolicy) -> None:
        self._policy = policy

    def shards(
        self, objects: Iterable[DatasetObject], *, in_order: bool = False
    ) -> Iterator[Shard]:
        """Yields the shards of objects, without the objects that cannot be opened and are skipped.

        Args:
            objects: In their order.
            in_order: Whether this process reads all of each, one after the other.
        """
        for obj in objects:
            try:
                shards = obj.shards(in_order=in_order)
            except IPFSDatasetError as error:
                self._policy.skip_or_raise(error, obj.name)
            else:
                yield from shards

    def samples(self, shard: Shard) -> Iterator[Sample]:
        """Yields all samples of a shard."""
        if self._policy.raises:
            yield from shard.samples()
            return
        try:
            count = len(shard) if shard.is_counted() else None
        except IPFSDatasetError as error:
            self._policy.skip_or_raise(error, shard.what)
            return
        if count is None:
            yield from self._uncounted(shard)
        else:
            yield from self.iterate(shard, 0, count)

    def iterate(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
        """Yields a range of a shard's samples by number."""
        if self._policy.raises:
            yield from shard.iterate(start, stop)
            return
        position = start
        while position < stop:
            try:
                for sample in shard.iterate(position, stop):
                    position += 1
                    self._policy.succeeded()
                    yield sample
            except IPFSDatasetError as error:
                yield from self._by_itself(shard, position, error)
                position += 1
            else:
                return

    def iterate_bytes(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples of a shard that start within a range of bytes."""
        if self._policy.raises:
            yield from shard.iterate_bytes(start, stop)
            return
        while start < stop:
            if (numbers := shard.numbers_in(start, stop)) is not None:
                yield from self.iterate(shard, *numbers)
                return
            found = 0
            name: str | None = None
            try:
                for sample in shard.iterate_bytes(start, stop):
                    found += 1
                    name = sample[0]
                    self._policy.succeeded()
                    yield sample
            except IPFSDatasetError as error:
                try:
                    position, after = shard.resume(start, found, name)
                except IPFSDatasetError:
                    self._policy.skip_or_raise(error, f"the rest of a slice of {shard.what}")
                    return
                yield from self._by_itself(shard, position, error)
                start = after
            else:
                return

    def _uncounted(self, shard: Shard) -> Iterator[Sample]:
        """Yields a shard's samples in order; by number after a sample that cannot be read."""
        position = 0
        try:
            for sample in shard.samples():
                position += 1
                self._policy.succeeded()
                yield sample
        except IPFSDatasetError as error:
            try:
                count = len(shard)
            except IPFSDatasetError:  # no random access: nothing tells where the next sample begins
                self._policy.skip_or_raise(error, f"the rest of {shard.what}")
                return
            if position >= count:  # what fails is behind the last sample, such as a missing end
                self._policy.skip_or_raise(error, f"the rest of {shard.what}")
                return
            yield from self._by_itself(shard, position, error)
            yield from self.iterate(shard, position + 1, count)

    def _by_itself(self, shard: Shard, position: int, error: IPFSDatasetError) -> Iterator[Sample]:
        """Yields the sample at which sequential reading failed, if it can be read by itself.

        Data that was read ahead may be damaged and the sample itself sound.

        Args:
            shard: What it belongs to.
            position: Its number.
            error: What happened. Where a source did not deliver, it is not tried again: that takes long.
        """
        if not _is_slow(error):
            try:
                sample = shard.read(position)
            except IPFSDatasetError as again:
                error = again
            else:
                self._policy.succeeded()
                yield sample
                return
        self._policy.skip_or_raise(error, f"sample {position} of {shard.what}")


def _is_slow(error: IPFSDatasetError) -> bool:
    """Tells whether failing so again would take long: a source that is gone is tried several times."""
    return isinstance(error, TransportError) and not isinstance(error, ObjectNotFoundError)


def stream_in_blocks(
    shards: Iterable[Shard],
    reader: ReaderRank,
    distribution: Distribution,
    policy: ErrorPolicy,
    *,
    block: int,
    window: int,
    key: Sequence[object],
    ahead: int = STEPS_AHEAD,
) -> Iterator[Sample]:
    """Yields the samples of one reader in shuffled-block order.

    Shards without random access follow, in their own order. In a distributed job they would have to be shared
    out by themselves: where there are any, nothing is shuffled there.

    Args:
        shards: The whole dataset.
        reader: Which reader.
        distribution: How ranks are made equal.
        policy: What to skip.
        block: About how many bytes a shuffle block has.
        window: How many shuffle blocks are mixed.
        key: What the order depends on.
        ahead: How many steps of the order memory holds besides the one that is read.
    """
    known = [(shard, mixes) for shard in shards for mixes in _can_be_mixed(shard, policy)]
    mixed = [shard for shard, mixes in known if mixes]
    if len(mixed) < len(known) and reader.world > 1:
        yield from stream((shard for shard, _ in known), reader, distribution, policy)
        return
    joined = ConcatenatedShards(mixed)
    order = ShuffleBlockOrder(joined.block_stops(block), window, *key)
    for start, stop in sample_ranges(len(joined), reader, distribution):
        steps = order.steps(start, stop)
        for step in fetched_ahead(steps, joined, attrgetter("entering"), ahead=ahead):
            yield from _read_step(joined, step.samples, policy)
    yield from stream((shard for shard, mixes in known if not mixes), reader, distribution, policy)


def _can_be_mixed(shard: Shard, policy: ErrorPolicy) -> Iterator[bool]:
    """Yields whether a shard has blocks, nothing where it cannot be opened and is skipped."""
    try:
        mixes = shard.has_blocks()
    except IPFSDatasetError as error:
        policy.skip_or_raise(error, shard.what)
    else:
        yield mixes


def _read_step(
    joined: ConcatenatedShards, positions: Sequence[int], policy: ErrorPolicy
) -> Iterator[Sample]:
    """Yields samples by number, a few of them read together: one by one takes half as long again."""
    for first in range(0, len(positions), _READ_TOGETHER):
        group = positions[first : first + _READ_TOGETHER]
        try:
            found = dict(together(joined, group, range(len(group))))
        except IPFSDatasetError as error:
            if policy.raises and _is_slow(error):
                raise
            # Those before the one that cannot be read are yielded all the same.
            yield from policy.read_each(joined.read, group)
        else:
            policy.succeeded()
            yield from map(found.__getitem__, range(len(group)))
