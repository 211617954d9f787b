"""The order of a shuffled epoch that keeps neighbours near each other: pure, computed step by step.

Shuffle blocks, runs of consecutive samples of about 4 MiB, are permuted. A window slides over them, one block
at a time, and each time a random share of every block in the window is read. A reader that keeps the bytes of
one window in memory therefore fetches each byte about once. One block enters and one leaves each time the
window slides, so it mixes as many blocks as a window of twice the memory that is replaced as a whole. A range
of the order depends on the key and its bounds only, so ranks and workers need no communication.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from itertools import accumulate, chain, islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.options import cached_bytes
from ipfs_dataset_core.order.sharding import wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Bytes. A shuffle block has one leaf more than its bytes fill, since samples begin anywhere: small ones are
# fetched nearly twice, and of large ones few fit in memory.
_BLOCK_BYTES = 4 << 20
# In blocks of at least this many samples, one that is not mixed makes no difference.
_MANY = 32
# Steps that are fetched ahead: while one is awaited, another is on its way.
STEPS_AHEAD = 2


def default_block(memory: int) -> int:
    """Returns how many bytes a shuffle block has, so that several fit in `memory` bytes."""
    return max(1, min(_BLOCK_BYTES, memory // 8))


def default_window(memory: int, block: int) -> int:
    """Returns how many shuffle blocks to mix, so that the next steps fit in `memory` bytes if possible."""
    fitting = cached_bytes(memory) // (block + LEAF_BYTES)
    return max(1, min(fitting * 8 // 11, fitting - STEPS_AHEAD))


def fits(memory: int, window: int, block: int, lanes: int = 1) -> bool:
    """Returns whether `memory` bytes hold what a step of the order needs, and what the next ones need.

    Args:
        memory: Bytes in all.
        window: How many shuffle blocks are mixed in each lane.
        block: About how many bytes a shuffle block has.
        lanes: How many lanes are read in turn. They begin their blocks at different times.
    """
    early = 1.0 if lanes == 1 else 1 - unhinted(lanes)
    blocks = window - 1 + (1 + ahead(lanes) * early) * _blocks_per_step(window)
    return lanes * blocks * (block + LEAF_BYTES) <= cached_bytes(memory)


def ahead(lanes: int) -> int:
    """Returns how many steps of each lane are fetched before they are read."""
    return STEPS_AHEAD if lanes == 1 else 1


def unhinted(lanes: int) -> float:
    """Returns the part of each step that is read before the next ones are fetched.

    Some of it has to be read first, since the cache evicts the least recently used blocks. With several
    lanes, about one at a time reaches its next block, and fetching that late takes less memory.
    """
    return 0.125 if lanes == 1 else 0.75


def _blocks_per_step(window: int) -> int:
    # With fewer, memory would hold a larger window; with more, a reader waits less often for a source.
    return max(1, window // 8)


class WindowStep(NamedTuple):
    """One step of an order: samples that are read while the blocks of the next steps are fetched.

    Args:
        samples: Numbers of samples, in their order.
        entering: The samples of each shuffle block that no step before needed; some are read in later steps.
    """

    samples: list[int]
    entering: list[Sequence[int]]


def samples_of(steps: Iterable[WindowStep]) -> Iterator[int]:
    """Yields the samples of steps, in their order."""
    return chain.from_iterable(step.samples for step in steps)


class ShuffleBlockOrder:
    """One epoch's order of samples.

    Args:
        stops: Where each shuffle block ends, by number of sample.
        window: How many shuffle blocks are mixed.
        key: What the order depends on besides.
    """

    def __init__(self, stops: Sequence[int], window: int, *key: object) -> None:
        self._stops = stops
        self._window = window
        self._key = key
        self._blocks = array("Q", range(len(stops)))
        keyed_random("blocks", *key).shuffle(self._blocks)
        self._ends = array("Q", accumulate(map(self._size, self._blocks)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def steps(self, start: int, stop: int, skip: int = 0) -> Iterator[WindowStep]:
        """Yields the samples of a stretch of the blocks' order, mixed within the window.

        Args:
            start: Where the stretch starts, by number of samples.
            stop: Where it stops; beyond the end of the order it starts over.
            skip: How many of its first samples to leave out; they are counted without being mixed.
        """
        most = _blocks_per_step(self._window)
        for first, last in wrapped(start, stop, len(self)):
            if skip >= last - first:
                skip -= last - first
                continue
            slides = self._slides(first, last, skip)
            skip = 0
            while together := list(islice(slides, most)):
                entering = chain.from_iterable(slide.entering for slide in together)
                yield WindowStep(list(samples_of(together)), list(entering))

    def _slides(self, start: int, stop: int, skip: int) -> Iterator[WindowStep]:
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, stop) + 1
        count = last - first
        window = min(self._window, count)
        sizes = (
            [len(self._cut(first + number, start, stop)) for number in range(count)] if skip else []
        )
        current, skip = _find_slide(sizes, window, skip)
        slides: deque[list[int]] = deque([] for _ in range(window))
        entering: list[Sequence[int]] = []
        for number in range(current, count):
            block = self._cut(first + number, start, stop)
            mixed, apart = list(block), []
            if len(block) >= _MANY:
                # The last sample may end in a leaf that no other sample needs, and that would be evicted by
                # the time of a later slide.
                apart.append(mixed.pop())
            keyed_random("block", *self._key, start, number).shuffle(mixed)
            earliest, bounds = _shares(number, len(mixed), count, window)
            shares = [mixed[begin:end] for begin, end in pairwise(bounds)]
            shares[0] += apart
            gone = max(0, current - earliest)
            entering.append(list(chain.from_iterable(shares[gone:])) if gone else block)
            for slide, share in enumerate(shares[gone:], earliest + gone - current):
                slides[slide] += share
            if number - window + 1 == current:
                slides.append([])
                samples = slides.popleft()
                keyed_random("slide", *self._key, start, current).shuffle(samples)
                if skip:
                    passed, samples = set(samples[:skip]), samples[skip:]
                    entering = [
                        [sample for sample in part if sample not in passed] for part in entering
                    ]
                yield WindowStep(samples, entering)
                current, skip, entering = current + 1, 0, []

    def _cut(self, place: int, start: int, stop: int) -> range:
        """Returns the samples of the block at a place of the order that lie between `start` and `stop`."""
        block, end = self._blocks[place], self._ends[place]
        begin = end - self._size(block)
        shift = self._first(block) - begin
        return range(max(begin, start) + shift, min(end, stop) + shift)

    def _first(self, block: int) -> int:
        return self._stops[block - 1] if block else 0

    def _size(self, block: int) -> int:
        return self._stops[block] - self._first(block)


def _shares(number: int, mixed: int, count: int, window: int) -> tuple[int, list[int]]:
    """Returns how the samples of a block are shared out over the slides of the window.

    How many each slide gets follows from the arguments: a place is found without mixing all before it.

    Args:
        number: The block's, in the order.
        mixed: How many of its samples are mixed.
        count: How many blocks there are.
        window: How many blocks are mixed.

    Returns:
        The first slide that reads some of them, and where the shares of it and those after it are cut.
    """
    # The first blocks are there from the first slide on, and the last ones up to the last slide: so the
    # order neither begins nor ends with few of them.
    earliest = max(0, number - window + 1)
    slides = min(number, count - window) - earliest + 1
    # Where blocks have few samples, rounding must not favour the same slides for each block: multiples of the
    # golden ratio spread it evenly.
    shift = number * 0x9E3779B1 & 0xFFFFFFFF
    return earliest, [
        ((slide * mixed << 32) // slides + shift) >> 32 for slide in range(slides + 1)
    ]


def _find_slide(sizes: Sequence[int], window: int, skip: int) -> tuple[int, int]:
    """Returns the slide in which a place is, and how many samples of the slide come before the place.

    Args:
        sizes: The number of samples of each block, in their order; may be empty for the first place.
        window: How many blocks are mixed.
        skip: The number of the place.
    """
    if skip == 0:
        return 0, 0
    lengths = deque([0] * window)
    for number, size in enumerate(sizes):
        apart = int(size >= _MANY)
        _, bounds = _shares(number, size - apart, len(sizes), window)
        lengths[0] += apart
        for slide, (begin, end) in enumerate(pairwise(bounds)):
            lengths[slide] += end - begin
        if number >= window - 1:
            length = lengths.popleft()
            if skip < length:
                return number - window + 1, skip
            skip -= length
            lengths.append(0)
    raise ValueError(f"a place is skipped that is {skip} behind the last one")


def cut(start_of: Callable[[int], int], count: int, size: int) -> Iterator[int]:
    """Yields where shuffle blocks end: a block has the samples that start before the next multiple of `size`.

    So blocks begin where leaves do, and share no leaf except the one in which their last sample ends.

    Args:
        start_of: Returns the first byte of a sample, from 0 to `count` - 1; called for a few samples only.
            If samples are not in the order of their bytes, shuffle blocks still are runs of numbers.
        count: Number of samples.
        size: Bytes of a shuffle block.
    """
    stop, step = 0, 1
    while stop < count:
        first, bound = stop, (start_of(stop) // size + 1) * size
        low, high = first + 1, min(first + step, count)
        while high < count and start_of(high) < bound:
            step *= 2
            low, high = high, min(first + step, count)
        stop = bisect_left(range(count), bound, low, high, key=start_of)
        step = stop - first
        yield stop


def keyed_random(*key: object) -> random.Random:
    """Returns a generator that depends on nothing but the key, in every process and on every platform.

    The user's global random state is never touched.
    """
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return random.Random(digest)  # noqa: S311 - an order of samples, no secret
