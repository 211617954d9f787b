"""The order of an epoch of a stream, interleaved from lanes of shuffle blocks; pure."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from math import gcd
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.order.global_order import MOST_LANES, GlobalSequence, Interleaving, Lanes
from ipfs_dataset_core.order.prefetch_hints import Upcoming, numbers_of
from ipfs_dataset_core.order.sharding import wrapped
from ipfs_dataset_core.order.shuffled_blocks import (
    WindowStep,
    fits,
    keyed_random,
    samples_of,
)
from ipfs_dataset_core.runtime.whole_numbers import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.order.sharding import ReaderRank

    # Yields the steps of a lane, given its start and stop when all lanes are laid end to end, and the number
    # of its samples to skip.
    Steps = Callable[[int, int, int], Iterator[WindowStep]]

# Choices of lanes, from the most memory to the least.
_DEFAULT_LANES = (Lanes(4, 2), Lanes(4), Lanes(2))


def lanes_given(lanes: int | tuple[int, int]) -> Lanes:
    """Checks and returns the lanes that a user gave.

    Args:
        lanes: The number of lanes for ranks, or a pair of it and the number for the workers of each rank.

    Raises:
        ValueError: There are none, or too many.
        TypeError: They are not integers.
    """
    pair: Any = lanes if isinstance(lanes, (tuple, list)) else (lanes, 1)
    if len(pair) != 2:  # noqa: PLR2004 - ranks and workers
        raise ValueError(
            f"lanes must be one number, or a pair for ranks and workers, not {lanes!r}"
        )
    ranks, workers = (whole_number("lanes", number, least=1) for number in pair)
    if ranks * workers > MOST_LANES:
        raise ValueError(
            f"at most {MOST_LANES:,} lanes are possible in all, not {ranks * workers:,}"
        )
    return Lanes(ranks, workers)


def default_lanes(memory: int, block: int) -> Lanes:
    """Returns as many lanes as fit into the memory of one process.

    The number of processes has no influence, because the order must not depend on it.

    Args:
        memory: Number of bytes of blocks that a process keeps in memory.
        block: Approximate size of a shuffle block in bytes.
    """
    return next((some for some in _DEFAULT_LANES if fits(memory, 1, block, some.count)), Lanes())


def lanes_of_reader(lanes: Lanes, reader: ReaderRank, batch: int | None) -> int:
    """Returns the number of lanes from which one reader reads.

    Args:
        lanes: All lanes.
        reader: The reader.
        batch: Batch size of its loader; None if readers take single samples in turn.
    """
    if batch is None:
        return lanes.count // gcd(lanes.count, reader.count)
    return lanes.of_reader(reader.world, reader.workers)


def blocks_in_order(stops: Sequence[int]) -> Steps:
    """Returns a function that yields the steps of blocks that are not shuffled.

    Args:
        stops: The end of each block, as the number of the next sample.
    """

    def steps(start: int, stop: int, skip: int) -> Iterator[WindowStep]:
        for begin, last in wrapped(start + skip, stop, stops[-1]):
            first, block = begin, bisect_right(stops, begin)
            while first < last:
                end = min(stops[block], last)
                yield WindowStep(list(range(first, end)), [range(first, end)])
                first, block = end, block + 1

    return steps


@attrs.frozen(kw_only=True)
class LanedOrder:
    """The order of one epoch.

    Args:
        total: Number of samples.
        steps: Yields the steps of a lane.
        lanes: The lanes.
        chunk: Number of places after which the next group of lanes takes over.
        window: Number of blocks mixed in each lane.
        block: Approximate size of a block in bytes; 0 if samples are scattered, which disables prefetching.
        buffer: Number of samples in the buffers that mix the lanes further; 1 for no further mixing.
        key: Values that determine the mixing in the buffers.
    """

    total: int
    steps: Steps
    lanes: Lanes
    chunk: int
    window: int
    block: int
    buffer: int = 1
    key: Sequence[object] = ()

    def is_hinted(self, memory: int, lanes: int) -> bool:
        """Returns whether the memory of a reader is large enough to prefetch the next steps.

        Args:
            memory: Number of bytes of blocks that it keeps in memory.
            lanes: Number of lanes from which it reads.
        """
        return self.block > 0 and fits(memory, self.window, self.block, lanes)

    def numbers(
        self, places: Iterable[range], *, lanes: int, hinted: bool, holding: bool = False
    ) -> Iterator[int]:
        """Yields the sample numbers at places.

        Args:
            places: Ranges in ascending order; places after the end wrap around.
            lanes: Number of lanes that they come from.
            hinted: Whether numbers carry prefetch hints for the next steps.
            holding: Whether numbers that leave a buffer carry those that entered it; see `Leaving`.
        """
        base = numbers_of(self.steps, lanes, hinted=hinted)

        def of_lane(start: int, stop: int, skip: int) -> Iterator[int]:
            size = max(1, self.buffer // self.lanes.count)
            if size == 1:
                return base(start, stop, skip)
            plain = samples_of(self.steps(start, stop, 0))
            found = buffered(
                plain, lambda read: base(start, stop, read), size, skip, (*self.key, start)
            )
            return map(_with_entered if holding else _without_entered, found)

        interleaving = Interleaving(self.total, self.lanes, self.chunk)
        return GlobalSequence(self.total, interleaving, of_lane).of_ranges(places)


class Leaving(Upcoming):
    """The number of a sample that leaves a buffer, with the numbers that entered since the previous one left.

    Attributes:
        entered: The numbers that entered; if iteration starts in the middle, the whole content of the buffer.
    """

    entered: Sequence[int]


# A number that leaves the buffer, with its hints, and the numbers that entered since the previous one left.
_Left = tuple[int, "Sequence[Sequence[int]]", "Sequence[int]"]


def buffered(
    numbers: Iterator[int],
    hinted: Callable[[int], Iterator[int]],
    size: int,
    skip: int,
    key: Sequence[object],
) -> Iterator[_Left]:
    """Yields numbers in random order through a buffer; hints of an entering number pass to the leaving one.

    Args:
        numbers: The numbers without hints, which fill the buffer if some are skipped.
        hinted: Returns the numbers with hints, skipping a given count.
        size: Size of the buffer.
        skip: Number of results to skip.
        key: Values that determine the order.
    """
    pick = keyed_random("buffer", *key).random
    held = list(islice(numbers, size)) if skip else []
    read = len(held)
    for number in islice(numbers, skip):
        held[int(pick() * size)] = number
        read += 1
    gone = skip - (read - len(held))
    coming = hinted(read)
    soon: list[Sequence[int]] = []
    if not skip:
        for number in islice(coming, size):
            soon += _hint(number)
            held.append(int(number))
    entered: Sequence[int] = tuple(held)
    for number in coming:
        position = int(pick() * size)
        left = held[position]
        if entered or isinstance(number, Upcoming):
            held[position] = int(number)
            yield left, [*soon, *_hint(number)], (*entered, int(number))
            soon, entered = [], ()
        else:
            held[position] = number
            yield left, (), (number,)
    for remaining in range(len(held), 0, -1):
        position = int(pick() * remaining)
        if gone:
            gone -= 1
        else:
            yield held[position], soon, entered
            soon, entered = [], ()
        held[position] = held[remaining - 1]


def _with_entered(left: _Left) -> int:
    number, soon, entered = left
    leaving = int.__new__(Leaving, number)  # inlined, because it runs for every sample
    leaving.soon, leaving.entered = soon, entered
    return leaving


def _without_entered(left: _Left) -> int:
    number, soon, _ = left
    return Upcoming(number, soon) if soon else number


def _hint(number: int) -> list[Sequence[int]]:
    return list(number.soon) if isinstance(number, Upcoming) else []
