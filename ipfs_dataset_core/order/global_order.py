"""One order of an epoch for every number of ranks and workers; pure, computed piece by piece.

The **global sequence** has one place for each sample of the epoch. A global batch is a stretch of it, so with
the same global batch size every job has the same batches, however many ranks and workers it has, and a job
goes on elsewhere from a place in it.

So that a reader needs few blocks at a time all the same, the sequence is interleaved from **lanes**, a fixed
number of parts of the data, each in an order of its own. Within each stretch of `chunk` places, lanes take
turns as ranks do; from one stretch to the next, groups of lanes take turns as workers do. Where the numbers
of lanes can be divided by those of ranks and workers, each lane has one reader.
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
# How many samples are taken from lanes together where batches have no size.
_TOGETHER = 256


@attrs.frozen
class Lanes:
    """How many lanes a global sequence is interleaved from.

    Args:
        ranks: How many there are within a global batch: the most ranks that each read lanes of their own.
        workers: How many groups of those take turns from batch to batch: the most workers of a rank that do.
    """

    ranks: int = 1
    workers: int = 1

    @property
    def count(self) -> int:
        """How many there are in all."""
        return self.ranks * self.workers

    def of_reader(self, world: int, workers: int) -> int:
        """Returns how many lanes one worker of one rank reads from.

        Args:
            world: How many ranks read.
            workers: How many workers of each rank.
        """
        ranks = self.ranks // world if self.ranks % world == 0 else self.ranks
        groups = self.workers // workers if self.workers % workers == 0 else self.workers
        return ranks * groups


class Interleaving:
    """Which lane each place of a global sequence takes its sample from.

    Args:
        total: How many places there are.
        lanes: How many lanes.
        chunk: After how many places the next group of lanes takes over: the size of a global batch.
    """

    def __init__(self, total: int, lanes: Lanes, chunk: int) -> None:
        self._total = total
        self._lanes = lanes
        self._chunk = chunk
        # How many places of a chunk each lane has.
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
        """Returns where a lane starts and stops when all lanes are laid one behind the other."""
        return self._stops[number], self._stops[number + 1]

    def find(self, place: int) -> tuple[int, int]:
        """Returns the lane of a place, and how many samples of the lane come before."""
        chunk, offset = divmod(place, self._chunk)
        turn, group = divmod(chunk, self._lanes.workers)
        before, lane = divmod(offset, self._lanes.ranks)
        return group * self._lanes.ranks + lane, turn * self._shares[lane] + before

    def end_of_chunk(self, place: int) -> int:
        """Returns the place behind the chunk that a place is in."""
        if self._chunk == self._lanes.ranks:  # lanes take turns one by one, as within a large chunk
            return min(self._total, place + _TOGETHER)
        return min(self._total, (place // self._chunk + 1) * self._chunk)

    def turns(self, step: int) -> tuple[int, int]:
        """Returns the period of lanes when every `step`-th place of a chunk is read.

        Returns:
            After how many of these places a lane has its turn again, and how far apart in the lane the
            samples of two such turns are.
        """
        lanes = self._lanes.count if self._chunk == self._lanes.ranks else self._lanes.ranks
        period = lanes // gcd(lanes, step)
        return period, period * step // lanes


class GlobalSequence:
    """The numbers of an epoch's samples, by their places.

    Args:
        total: How many samples there are.
        interleaving: Which lane each place takes its sample from.
        numbers: Yields the samples of a lane. It takes where the lane starts and stops when all lanes are
            laid one behind the other, and how many of its samples to leave out.
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
        """Yields the numbers of the samples at some places, in ascending order.

        Args:
            places: Places behind the end continue at the start. A range is faster than other iterables.
        """
        if isinstance(places, range):
            return self.of_ranges((places,))
        return self.of_ranges(range(place, place + 1) for place in places)

    def of_ranges(self, ranges: Iterable[range]) -> Iterator[int]:
        """Yields the numbers of the samples at ranges of places, in ascending order.

        Args:
            ranges: Places, as for `at`; the step of each range is positive.
        """
        return chain.from_iterable(self._pieces(ranges))

    def _pieces(self, ranges: Iterable[range]) -> Iterator[list[int]]:
        """Yields the numbers of `of_ranges`, those of each chunk as one list."""
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
        """Returns the numbers of the samples at places of one chunk, taken from each lane together."""
        period, stride = self._interleaving.turns(places.step)
        if stride > 1:  # other ranks read samples of the lane in between
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
    """Reads a lane, or every few of its samples where several ranks share it.

    Args:
        numbers: The samples of the lane.
        index: The index in the lane of the first of them.
    """

    def __init__(self, numbers: Iterator[int], index: int) -> None:
        self._numbers = numbers
        self._index = index

    def read(self, index: int) -> int:
        """Returns a sample of the lane, with the prefetch hints of those that are left out before it."""
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
        """Returns samples of the lane that follow each other, as `read` does the first one."""
        first = self.read(index)
        self._index += count - 1
        return [first, *islice(self._numbers, count - 1)]


def stop_for(total: int, start: int, world: int, distribution: Distribution) -> int:
    """Returns the place at which an epoch stops.

    Args:
        total: How many samples the epoch has.
        start: The place from which it is read.
        world: How many ranks read it.
        distribution: ``"pad"`` goes on behind the end, where the sequence starts over, until all ranks have
            equally many samples, ``"drop"`` stops before, ``"uneven"`` at the end.
    """
    left = max(0, total - start)
    if distribution == "pad":
        left = -(-left // world) * world
    elif distribution == "drop":
        left = left // world * world
    return start + left


def places_of_rank(start: int, stop: int, rank: int, world: int) -> range:
    """Returns the places of a stretch of the global sequence that one rank reads.

    They do not depend on the start of the stretch, so that a rank keeps its lanes wherever a job goes on; and
    of any stretch that is a multiple of `world` long, each rank has equally many.
    """
    return range(start + (rank - start) % world, stop, world)


def in_turns(numbers: Iterator[int], start: int, world: int, size: int) -> Iterator[int]:
    """Yields the numbers of each global batch rank by rank, for a library that deals out slices of batches.

    Args:
        numbers: The stretch of the global sequence from a place on.
        start: The place.
        world: How many ranks.
        size: How many a global batch has.
    """
    while batch := list(islice(numbers, size)):
        for rank in range(world):
            yield from batch[(rank - start) % world :: world]
        start += len(batch)


def _every(count: int, first: int, step: int) -> int:
    """Returns how many numbers below `count` there are in ``first, first + step, …``."""
    return max(0, -(-(count - first) // step))
