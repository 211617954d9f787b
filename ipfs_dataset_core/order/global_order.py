"""One order of an epoch for any number of ranks and workers; pure, computed piece by piece.

The **global sequence** has one place for each sample of the epoch. A global batch is a contiguous range of
places, so jobs with the same global batch size have the same batches, whatever their numbers of ranks and
workers, and a job can be resumed elsewhere from any place.

To let a reader keep few blocks at a time, the sequence is interleaved from **lanes**: a fixed number of parts
of the data, each in an order of its own. Within each range of `chunk` places, lanes take turns as ranks do;
from one chunk to the next, groups of lanes take turns as workers do. If the numbers of lanes are multiples of
the numbers of ranks and workers, each lane has exactly one reader.
"""

from __future__ import annotations

from itertools import accumulate, chain, islice
from math import gcd
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.order.prefetch_hints import Upcoming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.order.sharding import Distribution

# More readers than any job has; each lane takes memory in every process.
MOST_LANES = 1 << 16
# Number of samples taken together from lanes if there is no batch size.
_TOGETHER = 256


@attrs.frozen
class Lanes:
    """The number of lanes from which a global sequence is interleaved.

    Args:
        ranks: Number of lanes within a global batch: the maximum number of ranks with lanes of their own.
        workers: Number of groups of such lanes, which take turns from batch to batch: the maximum number of
            workers per rank with lanes of their own.
    """

    ranks: int = 1
    workers: int = 1

    @property
    def count(self) -> int:
        """The total number of lanes."""
        return self.ranks * self.workers

    def of_reader(self, world: int, workers: int) -> int:
        """Returns the number of lanes from which one worker of one rank reads.

        Args:
            world: Number of ranks.
            workers: Number of workers per rank.
        """
        ranks = self.ranks // world if self.ranks % world == 0 else self.ranks
        groups = self.workers // workers if self.workers % workers == 0 else self.workers
        return ranks * groups


class Interleaving:
    """Maps each place of a global sequence to its lane.

    Args:
        total: Number of places.
        lanes: The lanes.
        chunk: Number of places after which the next group of lanes takes over: the global batch size.
    """

    def __init__(self, total: int, lanes: Lanes, chunk: int) -> None:
        self._total = total
        self._lanes = lanes
        self._chunk = chunk
        # Number of places of a chunk that each lane has.
        self._shares = [_every(chunk, lane, lanes.ranks) for lane in range(lanes.ranks)]
        chunks, rest = divmod(total, chunk)
        lengths = []
        for group in range(lanes.workers):
            full = _every(chunks, group, lanes.workers)
            last = rest if chunks % lanes.workers == group else 0
            lengths += [
                full * share + _every(last, lane, lanes.ranks)
                for lane, share in enumerate(self._shares)
            ]
        self._stops = list(accumulate(lengths, initial=0))

    def lane(self, number: int) -> tuple[int, int]:
        """Returns the start and stop of a lane when all lanes are laid end to end."""
        return self._stops[number], self._stops[number + 1]

    def find(self, place: int) -> tuple[int, int]:
        """Returns the lane of a place, and the number of samples of the lane before it."""
        chunk, offset = divmod(place, self._chunk)
        turn, group = divmod(chunk, self._lanes.workers)
        before, lane = divmod(offset, self._lanes.ranks)
        return group * self._lanes.ranks + lane, turn * self._shares[lane] + before

    def end_of_chunk(self, place: int) -> int:
        """Returns the first place after the chunk that contains a place."""
        if self._chunk == self._lanes.ranks:  # lanes take turns one by one, like one large chunk
            return min(self._total, place + _TOGETHER)
        return min(self._total, (place // self._chunk + 1) * self._chunk)

    def turns(self, step: int) -> tuple[int, int]:
        """Returns the period of the lanes when every `step`-th place of a chunk is read.

        Returns:
            The number of these places after which a lane recurs, and the distance within the lane between the
            samples of two recurrences.
        """
        lanes = self._lanes.count if self._chunk == self._lanes.ranks else self._lanes.ranks
        period = lanes // gcd(lanes, step)
        return period, period * step // lanes


class GlobalSequence:
    """Maps the places of an epoch to sample numbers.

    Args:
        total: Number of samples.
        interleaving: The lane of each place.
        numbers: Yields the samples of a lane, given its start and stop when all lanes are laid end to end,
            and the number of its samples to skip.
    """

    def __init__(
        self,
        total: int,
        interleaving: Interleaving,
        numbers: Callable[[int, int, int], Iterator[int]],
    ) -> None:
        self._total = total
        self._interleaving = interleaving
        self._numbers = numbers

    def at(self, places: Iterable[int]) -> Iterator[int]:
        """Yields the sample numbers at places in ascending order.

        Args:
            places: The places; those after the end wrap around. A range is faster than other iterables.
        """
        if isinstance(places, range):
            return self.of_ranges((places,))
        return self.of_ranges(range(place, place + 1) for place in places)

    def of_ranges(self, ranges: Iterable[range]) -> Iterator[int]:
        """Yields the sample numbers at ranges of places in ascending order.

        Args:
            ranges: Places, as for `at`; the step of each range is positive.
        """
        return chain.from_iterable(self._pieces(ranges))

    def _pieces(self, ranges: Iterable[range]) -> Iterator[list[int]]:
        """Yields the numbers of `of_ranges`, one list per chunk."""
        readers: dict[tuple[int, int], LaneReader] = {}
        for places in ranges:
            start, stop, step = places.start, places.stop, places.step
            while start < stop:
                turn, first = divmod(start, self._total)
                end = turn * self._total + self._interleaving.end_of_chunk(first)
                count = len(range(start, min(stop, end), step))
                piece = range(first, first + count * step, step)
                yield self._within_chunk(readers, turn, piece)
                start += count * step

    def _within_chunk(
        self, readers: dict[tuple[int, int], LaneReader], turn: int, places: range
    ) -> list[int]:
        """Returns the sample numbers at places of one chunk, reading each lane once."""
        period, stride = self._interleaving.turns(places.step)
        if stride > 1:  # other ranks read the samples in between
            period = len(places)
        found = [0] * len(places)
        for number in range(min(period, len(places))):
            lane, index = self._interleaving.find(places[number])
            reader = readers.get((turn, lane))
            if reader is None:
                start, stop = self._interleaving.lane(lane)
                reader = LaneReader(self._numbers(start, stop, index), index)
                readers[turn, lane] = reader
            found[number::period] = reader.read_run(index, len(range(number, len(places), period)))
        return found


class LaneReader:
    """Reads a lane, or every n-th sample of a lane that several ranks share.

    Args:
        numbers: The samples of the lane.
        index: The index in the lane of the first of them.
    """

    def __init__(self, numbers: Iterator[int], index: int) -> None:
        self._numbers = numbers
        self._index = index

    def read(self, index: int) -> int:
        """Returns a sample of the lane, with the prefetch hints of the samples skipped before it."""
        hints: list[Sequence[int]] = []
        for _ in range(index - self._index):
            passed = next(self._numbers)
            hints += passed.soon if isinstance(passed, Upcoming) else ()
        self._index = index + 1
        number = next(self._numbers)
        if not hints:
            return number
        hints += number.soon if isinstance(number, Upcoming) else ()
        return Upcoming(number, hints)

    def read_run(self, index: int, count: int) -> list[int]:
        """Returns consecutive samples of the lane; the first as by `read`."""
        first = self.read(index)
        self._index += count - 1
        return [first, *islice(self._numbers, count - 1)]


def stop_for(total: int, start: int, world: int, distribution: Distribution) -> int:
    """Returns the place at which an epoch stops.

    Args:
        total: Number of samples of the epoch.
        start: The first place that is read.
        world: Number of ranks.
        distribution: ``"pad"`` continues past the end, where the sequence starts over, until all ranks have
            the same number of samples; ``"drop"`` stops before the end; ``"uneven"`` stops at the end.
    """
    left = max(0, total - start)
    if distribution == "pad":
        left = -(-left // world) * world
    elif distribution == "drop":
        left = left // world * world
    return start + left


def places_of_rank(start: int, stop: int, rank: int, world: int) -> range:
    """Returns the places of a range of the global sequence that one rank reads.

    They do not depend on the start of the range, so a rank keeps its lanes wherever a job is resumed. In any
    range whose length is a multiple of `world`, all ranks have the same number of places.
    """
    return range(start + (rank - start) % world, stop, world)


def in_turns(numbers: Iterator[int], start: int, world: int, size: int) -> Iterator[int]:
    """Yields the numbers of each global batch rank by rank, for libraries that give each rank a slice of it.

    Args:
        numbers: The global sequence from a place on.
        start: The place.
        world: Number of ranks.
        size: Global batch size.
    """
    while batch := list(islice(numbers, size)):
        for rank in range(world):
            yield from batch[(rank - start) % world :: world]
        start += len(batch)


def _every(count: int, first: int, step: int) -> int:
    """Returns the count of numbers below `count` in ``first, first + step, …``."""
    return max(0, -(-(count - first) // step))
