"""Streams: the samples of all shards that one reader, a worker of a rank, yields, in order or by number."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain, count, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from ipfs_dataset_core.datasets.batch_fetch import fetched_ahead, together
from ipfs_dataset_core.datasets.error_policy import Replacement
from ipfs_dataset_core.errors import (
    FormatError,
    IPFSDatasetError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.order.order_state import MOST_IN_A_BATCH, behind_the_end
from ipfs_dataset_core.order.prefetch_hints import Upcoming
from ipfs_dataset_core.order.sharding import makes_ranks_equal, overlaps, part, sample_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
    from ipfs_dataset_core.datasets.objects import DatasetObject
    from ipfs_dataset_core.datasets.shards import ConcatenatedShards, Shard
    from ipfs_dataset_core.interfaces import IndexedSamples, Sample
    from ipfs_dataset_core.order.sharding import Distribution, ReaderRank
    from ipfs_dataset_core.order.stream_places import Run

# Number of samples read together: few enough to take little memory, even if they are compressed.
_READ_TOGETHER = 32


class InOrder:
    """Reads ranges of a global sequence that has the order of the data.

    Attributes:
        place: The place of the first sample of the current shard; after a shard, of the next one.

    Args:
        skipping: Reads shards.
        place: The place of the first sample of the first shard.
        start: A place that the sequence must have, at least as its end.
    """

    def __init__(self, skipping: SkippingStream, place: int = 0, start: int = 0) -> None:
        self._skipping = skipping
        self.place = place
        self._start = start
        # The range that is being read, and those after it.
        self._run: Run | None = None
        self._runs: Iterator[Run] = iter(())

    def read(self, shards: Iterable[Shard], runs: Iterable[Run]) -> Iterator[Sample]:
        """Yields the samples of ranges.

        Shards that are read completely are not counted. Others are counted if they allow random access, and
        otherwise read from their start.

        Args:
            shards: The shards, in order; the iterator is advanced after each shard.
            runs: The ranges, in ascending order.

        Raises:
            StateError: The sequence ends long before `start`, which is only known after reading all of it.
        """
        self._runs = iter(runs)
        self._run = next(self._runs, None)
        return chain.from_iterable(self._parts(shards))

    def _parts(self, shards: Iterable[Shard]) -> Iterator[Iterator[Sample]]:
        """Yields iterators, to be read one after the other; nesting generators would cost time."""
        for shard in shards:
            if self._run is None:
                return
            if self._run[0] <= self.place and self._run[1] is None:
                left_out, places = self._skipping.left_out, count(self.place)
                # Counted in C.
                numbered = zip(self._skipping.samples(shard), places, strict=False)
                yield map(itemgetter(0), numbered)
                self.place = next(places) + self._skipping.left_out - left_out
                continue
            size = _count_if_possible(shard)
            if size is None:
                yield self._from_the_start(shard)
                continue
            end = self.place + size
            while self._run is not None and self._run[0] < end:
                start, stop = self._run
                first = max(start, self.place) - self.place
                if stop is None:
                    yield self._skipping.samples_from(shard, first, size)
                    break
                yield self._skipping.iterate(shard, first, min(stop, end) - self.place)
                if stop > end:
                    break
                self._run = next(self._runs, None)
            self.place = end
        if self._run is not None and self.place + MOST_IN_A_BATCH <= self._start:
            raise behind_the_end(self._start, self.place)

    def _from_the_start(self, shard: Shard) -> Iterator[Sample]:
        """Yields the samples of a shard that are within the ranges, reading it from its start."""
        for sample in self._skipping.samples(shard):
            while self._run and self._run[1] is not None and self.place >= self._run[1]:
                self._run = next(self._runs, None)
            if self._run is None:
                return
            wanted = self.place >= self._run[0]
            self.place += 1
            if wanted:
                yield sample


def counts_of_parts(
    shards: Sequence[Shard], reader: ReaderRank, distribution: Distribution
) -> list[int] | None:
    """Returns the number of samples of each shard if each reader reads a range of sample numbers.

    None if an object would have to be scanned to count its samples, and ranks need not be equal. The parts of
    the readers are then ranges of bytes; see `part_by_bytes`.

    Args:
        shards: The whole dataset.
        reader: Which reader.
        distribution: How ranks are made equal.

    Raises:
        FormatError: Ranks must be equal, but an object's samples cannot be counted.
    """
    if makes_ranks_equal(reader.world, distribution) or all(shard.is_counted() for shard in shards):
        return [_count(shard) for shard in shards]
    return None


def count_of(shards: Iterable[Shard]) -> int:
    """Returns the number of samples in shards, all of which must be countable to make ranks equal.

    Raises:
        FormatError: A shard allows no random access.
    """
    return sum(map(_count, shards))


def part_by_number(
    shards: Sequence[Shard],
    counts: Sequence[int],
    reader: ReaderRank,
    distribution: Distribution,
    *,
    skipping: SkippingStream,
    taken: int = 0,
) -> Iterator[Sample]:
    """Yields the samples of one of several readers, each of which reads a range of sample numbers.

    Every sample of the dataset goes to exactly one reader, except for those that `distribution` adds or drops
    to make ranks equal.

    Args:
        shards: The whole dataset.
        counts: Number of samples of each shard.
        reader: Which reader.
        distribution: How ranks are made equal.
        skipping: Reads shards.
        taken: Number of the first numbers of the range to skip; their samples are not read.
    """
    for start, stop in sample_ranges(sum(counts), reader, distribution):
        left = min(taken, stop - start)
        taken -= left
        for shard, first, last in overlaps(counts, start + left, stop):
            yield from skipping.iterate(shards[shard], first, last)


def part_by_bytes(
    shards: Sequence[Shard], reader: ReaderRank, skipping: SkippingStream, taken: int = 0
) -> Iterator[Sample]:
    """Yields the samples of one of several readers, each of which reads a part of the data in order.

    Every sample goes to exactly one reader, and no reader has to scan an archive to count its samples.
    Objects that can only be read from their start (compressed TARs) go to one reader each. If there are fewer
    of them than readers, every reader reads all of them and yields every n-th sample.

    Args:
        shards: The whole dataset.
        reader: Which reader.
        skipping: Reads shards.
        taken: Number of the reader's samples to skip; they are read again.
    """
    splittable = [shard for shard in shards if shard.is_splittable()]
    whole = [shard for shard in shards if not shard.is_splittable()]
    parts = chain(_by_bytes(splittable, reader, skipping), _in_turn(whole, reader, skipping))
    return islice(parts, taken, None)


def _count(shard: Shard) -> int:
    try:
        return len(shard)
    except FormatError as error:
        raise FormatError(
            f"Ranks cannot get equally many samples, because those of one object cannot be counted. {error} "
            "Or give distribution='uneven'"
        ) from error


def _count_if_possible(shard: Shard) -> int | None:
    with suppress(IPFSDatasetError):  # raised when it is read
        return len(shard)
    return None


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

    After a sample that cannot be read, reading continues by number if the format allows random access.

    Args:
        policy: The policy for samples that cannot be read.

    Attributes:
        left_out: Number of samples that were skipped without a replacement.
    """

    def __init__(self, policy: ErrorPolicy) -> None:
        self.policy = policy
        self.left_out = 0
        self._all: ConcatenatedShards | None = None
        self._replacement: Replacement[Sample] | None = None

    def replace_from(self, samples: ConcatenatedShards) -> None:
        """Replaces samples that are skipped from now on by others.

        Args:
            samples: All samples.
        """
        self._all = samples
        self._replacement = Replacement(samples.read, len(samples), self.policy)

    def shards(
        self, objects: Iterable[DatasetObject], *, in_order: bool = False
    ) -> Iterator[Shard]:
        """Yields the shards of objects, skipping objects that cannot be opened if the policy allows it.

        Args:
            objects: The objects, in order.
            in_order: Whether this process reads each object completely, one after the other.
        """
        for obj in objects:
            try:
                shards = obj.shards(in_order=in_order)
            except IPFSDatasetError as error:
                self.policy.skip_or_raise(error, obj.name)
            else:
                yield from shards

    def samples(self, shard: Shard) -> Iterator[Sample]:
        """Returns an iterator over all samples of a shard."""
        if self.policy.raises:  # a nested generator would take time for each sample
            return shard.samples()
        try:
            size = len(shard) if shard.is_counted() else None
        except IPFSDatasetError as error:
            self.policy.skip_or_raise(error, shard.what)
            return iter(())
        return self._uncounted(shard) if size is None else self.iterate(shard, 0, size)

    def iterate(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
        """Returns an iterator over a range of a shard's samples by number."""
        if self.policy.raises:
            return shard.iterate(start, stop)
        return self._numbered(shard, start, stop)

    def _numbered(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
        position = start
        while position < stop:
            try:
                for sample in shard.iterate(position, stop):
                    position += 1
                    self.policy.succeeded()
                    yield sample
            except IPFSDatasetError as error:
                yield from self._by_itself(shard, position, error)
                position += 1
            else:
                return

    def samples_from(self, shard: Shard, first: int, count: int) -> Iterator[Sample]:
        """Returns an iterator over the `count` samples of a shard from a number to its end."""
        if self.policy.raises:
            return shard.samples_from(first)
        return self._numbered(shard, first, count)

    def iterate_bytes(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
        """Returns an iterator over the samples of a shard that start within a range of bytes."""
        if self.policy.raises:
            return shard.iterate_bytes(start, stop)
        return self._within_bytes(shard, start, stop)

    def _within_bytes(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
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
                    self.policy.succeeded()
                    yield sample
            except IPFSDatasetError as error:
                try:
                    position, after = shard.resume(start, found, name)
                except IPFSDatasetError:
                    self.policy.skip_or_raise(error, f"the rest of a slice of {shard.what}")
                    return
                yield from self._by_itself(shard, position, error)
                start = after
            else:
                return

    def _uncounted(self, shard: Shard) -> Iterator[Sample]:
        """Yields a shard's samples in order; continues by number after a sample that cannot be read."""
        samples, position = shard.samples(), 0
        while True:
            try:
                for sample in samples:
                    position += 1
                    self.policy.succeeded()
                    yield sample
            except IPFSDatasetError as error:
                if not error.affects_one_sample:
                    yield from self._continued(shard, position, error)
                    return
                self.policy.skip_or_raise(error, f"sample {position} of {shard.what}")
                yield from self._instead(position, error, shard)
                position += 1
            else:
                return

    def _continued(self, shard: Shard, position: int, error: IPFSDatasetError) -> Iterator[Sample]:
        """Yields the samples of a shard from the one at which sequential reading failed, by number."""
        try:
            count = len(shard)
        except IPFSDatasetError:  # no random access: the start of the next sample is unknown
            self.policy.skip_or_raise(error, f"the rest of {shard.what}")
            return
        if position >= count:  # the error is after the last sample, such as a missing end
            self.policy.skip_or_raise(error, f"the rest of {shard.what}")
            return
        yield from self._by_itself(shard, position, error)
        yield from self.iterate(shard, position + 1, count)

    def _by_itself(self, shard: Shard, position: int, error: IPFSDatasetError) -> Iterator[Sample]:
        """Yields the sample at which sequential reading failed, if it can be read on its own.

        Data that was read ahead may be damaged although the sample itself is intact.

        Args:
            shard: The shard of the sample.
            position: The number of the sample.
            error: The error. If a source did not deliver, the sample is not tried again, because that takes
                long.
        """
        if not _is_slow(error):
            try:
                sample = shard.read(position)
            except IPFSDatasetError as again:
                error = again
            else:
                self.policy.succeeded()
                yield sample
                return
        self.policy.skip_or_raise(error, f"sample {position} of {shard.what}")
        yield from self._instead(position, error, shard)

    def read_group(
        self, samples: IndexedSamples, group: Sequence[int]
    ) -> Iterator[tuple[int, Sample]]:
        """Yields numbers with their samples, read together, which is 1.5 times as fast as one by one."""
        try:
            found = dict(together(samples, group, range(len(group))))
        except IPFSDatasetError as error:
            if self.policy.raises and _is_slow(error):
                raise
            # The samples before the one that cannot be read are still yielded.
            return (
                (number, sample) for number in group for sample in self._read_one(samples, number)
            )
        self.policy.succeeded()
        return zip(group, map(found.__getitem__, range(len(group))), strict=True)

    def _read_one(self, samples: IndexedSamples, number: int) -> Iterator[Sample]:
        try:
            sample = samples.read(number)
        except IPFSDatasetError as error:
            self.policy.skip_or_raise(error, f"sample {number}")
            yield from self._instead(number, error)
        else:
            self.policy.succeeded()
            yield sample

    def _instead(
        self, position: int, error: IPFSDatasetError, shard: Shard | None = None
    ) -> Iterator[Sample]:
        """Yields the replacement for a skipped sample, if there is one."""
        if self._all is None or self._replacement is None:
            self.left_out += 1
            return
        if shard is not None:
            position += self._all.first_of(shard)
        sample = self._replacement.of(position, error)
        self.policy.succeeded()
        yield sample


def _is_slow(error: IPFSDatasetError) -> bool:
    """Returns whether another attempt would take long, because unresponsive sources are tried repeatedly."""
    return isinstance(error, TransportError) and not isinstance(error, ObjectNotFoundError)


def can_be_mixed(shard: Shard, policy: ErrorPolicy) -> Iterator[bool]:
    """Yields whether a shard has blocks; nothing if it cannot be opened and is skipped."""
    try:
        mixes = shard.has_blocks()
    except IPFSDatasetError as error:
        policy.skip_or_raise(error, shard.what)
    else:
        yield mixes


def read_numbers(
    numbers: Iterator[int],
    samples: IndexedSamples,
    skipping: SkippingStream,
    *,
    hinted: bool = True,
) -> Iterator[tuple[int, Sample]]:
    """Yields numbers with their samples, while the next samples are being fetched.

    Args:
        numbers: The numbers, in order.
        samples: All samples.
        skipping: Reads samples.
        hinted: Whether numbers carry prefetch hints; if not, the next few samples are prefetched.
    """
    return chain.from_iterable(_read_groups(numbers, samples, skipping, hinted=hinted))


def _read_groups(
    numbers: Iterator[int], samples: IndexedSamples, skipping: SkippingStream, *, hinted: bool
) -> Iterator[Iterator[tuple[int, Sample]]]:
    """Yields iterators over the pairs of `read_numbers`, each over a few samples that are read together."""
    groups = iter(lambda: list(islice(numbers, _READ_TOGETHER)), [])
    if not hinted:
        for group in fetched_ahead(groups, samples, lambda group: [group]):
            yield skipping.read_group(samples, group)
        return
    for group in groups:
        for number in group:
            if type(number) is not int and isinstance(number, Upcoming):
                for coming in number.soon:
                    with suppress(IPFSDatasetError):  # raised when the sample is read
                        samples.prefetch(sorted(coming))
        yield skipping.read_group(samples, group)
