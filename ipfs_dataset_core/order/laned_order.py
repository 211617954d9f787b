"""The order of an epoch of a stream that is interleaved from lanes of shuffle blocks; pure."""

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

    # Yields the steps of a lane. It takes where the lane starts and stops when all lanes are laid one behind
    # the other, and how many of its samples to leave out.
    Steps = Callable[[int, int, int], Iterator[WindowStep]]

# From the most memory to the least.
_DEFAULT_LANES = (Lanes(4, 2), Lanes(4), Lanes(2))


def lanes_given(lanes: int | tuple[int, int]) -> Lanes:
    """Returns the lanes that a user gave.

    Args:
        lanes: How many for ranks, or a pair of that and how many for the workers of each.

    Raises:
        ValueError: There are none, or too many.
        TypeError: They are no integers.
    """
    pair: Any = lanes if isinstance(lanes, (tuple, list)) else (lanes, 1)
    if len(pair) != 2:  # noqa: PLR2004 - ranks and workers
        raise ValueError(f"lanes is one number, or those for ranks and for workers, not {lanes!r}")
    ranks, workers = (whole_number("lanes", number, least=1) for number in pair)
    if ranks * workers > MOST_LANES:
        raise ValueError(f"there are at most {MOST_LANES:,} lanes in all, not {ranks * workers:,}")
    return Lanes(ranks, workers)


def default_lanes(memory: int, block: int) -> Lanes:
    """Returns as many lanes as fit into the memory of one process.

    The number of processes does not count, since the order must not depend on it.

    Args:
        memory: Bytes of blocks that a process keeps.
        block: About how many bytes a shuffle block has.
    """
    return next((some for some in _DEFAULT_LANES if fits(memory, 1, block, some.count)), Lanes())


def lanes_of_reader(lanes: Lanes, reader: ReaderRank, batch: int | None) -> int:
    """Returns how many lanes one reader reads from.

    Args:
        lanes: All of them.
        reader: The reader.
        batch: How many samples its loader puts into a batch, None where readers take single samples in turn.
    """
    if batch is None:
        return lanes.count // gcd(lanes.count, reader.count)
    return lanes.of_reader(reader.world, reader.workers)


def blocks_in_order(stops: Sequence[int]) -> Steps:
    """Returns what yields the steps of blocks that are not shuffled.

    Args:
        stops: Where each block ends, by number of sample.
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
        total: How many samples there are.
        steps: Yields the steps of a lane.
        lanes: How many there are.
        chunk: After how many places the next group of lanes takes over.
        window: How many blocks are mixed in each lane.
        block: About how many bytes a block has; 0 where samples lie anywhere, and nothing is fetched ahead.
        buffer: How many samples all lanes together mix once more; 1 mixes none.
        key: What the mixing in the buffer depends on.
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
        """Returns whether a reader's memory holds what the next steps need.

        Args:
            memory: Bytes of blocks that it keeps.
            lanes: From how many lanes it reads.
        """
        return self.block > 0 and fits(memory, self.window, self.block, lanes)

    def numbers(
        self, places: Iterable[range], *, lanes: int, hinted: bool, holding: bool = False
    ) -> Iterator[int]:
        """Yields the numbers of the samples at some places.

        Args:
            places: Ranges in ascending order; places behind the end continue at the start.
            lanes: From how many lanes they are.
            hinted: Whether numbers carry hints at what the next steps need.
            holding: Whether numbers that leave the buffer carry those that came into it, see `Leaving`.
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
    """The number of a sample that leaves a buffer, with those that came into it since the last one.

    Attributes:
        entered: The numbers that came in; of a sequence that begins in the middle, all that are held.
    """

    entered: Sequence[int]


# What leaves the buffer, with hints, and what came into it since the last one left.
_Left = tuple[int, "Sequence[Sequence[int]]", "Sequence[int]"]


def buffered(
    numbers: Iterator[int],
    hinted: Callable[[int], Iterator[int]],
    size: int,
    skip: int,
    key: Sequence[object],
) -> Iterator[_Left]:
    """Yields numbers in random order through a buffer; a hint of a number goes with the one that it replaces.

    Args:
        numbers: The numbers without hints, with which the buffer is filled when some are left out.
        hinted: Returns the numbers, with hints, without the given count of first ones.
        size: How many are held.
        skip: How many to leave out.
        key: What the order depends on.
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
    leaving = int.__new__(Leaving, number)  # for each sample: without a call in between
    leaving.soon, leaving.entered = soon, entered
    return leaving


def _without_entered(left: _Left) -> int:
    number, soon, _ = left
    return Upcoming(number, soon) if soon else number


def _hint(number: int) -> list[Sequence[int]]:
    return list(number.soon) if isinstance(number, Upcoming) else []
