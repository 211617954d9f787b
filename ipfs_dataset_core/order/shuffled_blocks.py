"""The order of a shuffled epoch that keeps neighbours near each other: pure, computed step by step.

Shuffle blocks, runs of consecutive samples of about 4 MiB, are permuted. A window slides over them, one block
at a time, and at each step a random share of every block in the window is read. A reader that keeps the bytes
of one window in memory therefore fetches each byte about once. Because one block enters and one leaves at
each step, the window mixes as many blocks as one of twice the memory that is replaced as a whole. A range of
the order depends only on the key and its bounds, so ranks and workers do not have to communicate.
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

# Sizes in bytes. A shuffle block touches one leaf more than its bytes fill, because samples begin anywhere:
# small blocks would be fetched nearly twice, and only few large blocks fit in memory.
_BLOCK_BYTES = 4 << 20
# In blocks with at least this many samples, one sample that is not mixed makes no difference.
_MANY = 32
# Number of steps fetched in advance: while one is awaited, another is on its way.
STEPS_AHEAD = 2


def default_block(memory: int) -> int:
    """Returns a size in bytes for shuffle blocks such that several fit in `memory` bytes."""
    return max(1, min(_BLOCK_BYTES, memory // 8))


def default_window(memory: int, block: int) -> int:
    """Returns the number of shuffle blocks to mix so that the next steps fit in `memory` if possible."""
    fitting = cached_bytes(memory) // (block + LEAF_BYTES)
    return max(1, min(fitting * 8 // 11, fitting - STEPS_AHEAD))


def fits(memory: int, window: int, block: int, lanes: int = 1) -> bool:
    """Returns whether `memory` bytes suffice for a step of the order and the next ones.

    Args:
        memory: Number of bytes.
        window: Number of shuffle blocks mixed in each lane.
        block: Approximate size of a shuffle block in bytes.
        lanes: Number of lanes read in turn; they begin their blocks at different times.
    """
    early = 1.0 if lanes == 1 else 1 - unhinted(lanes)
    blocks = window - 1 + (1 + ahead(lanes) * early) * _blocks_per_step(window)
    return lanes * blocks * (block + LEAF_BYTES) <= cached_bytes(memory)


def ahead(lanes: int) -> int:
    """Returns the number of steps of each lane that are fetched in advance."""
    return STEPS_AHEAD if lanes == 1 else 1


def unhinted(lanes: int) -> float:
    """Returns the fraction of each step that is read before the next steps are fetched.

    Part of a step has to be read first, because the cache evicts the least recently used blocks. With several
    lanes, about one at a time reaches its next block, and fetching it late takes less memory.
    """
    return 0.125 if lanes == 1 else 0.75


def _blocks_per_step(window: int) -> int:
    # With fewer, memory would hold a larger window; with more, a reader waits less often for a source.
    return max(1, window // 8)


class WindowStep(NamedTuple):
    """One step of an order: samples that are read while the blocks of the next steps are fetched.

    Args:
        samples: Sample numbers, in order.
        entering: The samples of each shuffle block that is needed for the first time; some of them are read
            in later steps.
    """

    samples: list[int]
    entering: list[Sequence[int]]


def samples_of(steps: Iterable[WindowStep]) -> Iterator[int]:
    """Yields the samples of steps, in order."""
    return chain.from_iterable(step.samples for step in steps)


class ShuffleBlockOrder:
    """The order of samples of one epoch.

    Args:
        stops: The end of each shuffle block, as the number of the next sample.
        window: Number of shuffle blocks that are mixed.
        key: Further values that determine the order.
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
        """Yields the steps of a range of the permuted blocks, mixed within the window.

        Args:
            start: Start of the range, in samples.
            stop: End of the range; beyond the end of the order it wraps around.
            skip: Number of samples at the start to skip; they are counted without being mixed.
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
                # The last sample may end in a leaf that no other sample needs, which would be evicted before
                # a later step.
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
        """Returns the samples of the block at a position of the order that lie between `start` and `stop`."""
        block, end = self._blocks[place], self._ends[place]
        begin = end - self._size(block)
        shift = self._first(block) - begin
        return range(max(begin, start) + shift, min(end, stop) + shift)

    def _first(self, block: int) -> int:
        return self._stops[block - 1] if block else 0

    def _size(self, block: int) -> int:
        return self._stops[block] - self._first(block)


def _shares(number: int, mixed: int, count: int, window: int) -> tuple[int, list[int]]:
    """Returns how the samples of a block are distributed over the steps of the window.

    The number per step depends only on the arguments, so a place can be found without mixing all before it.

    Args:
        number: Position of the block in the order.
        mixed: Number of its samples that are mixed.
        count: Number of blocks.
        window: Number of blocks that are mixed.

    Returns:
        The first step that reads some of them, and the boundaries between the shares of the steps.
    """
    # The first blocks take part from the first step on, and the last ones up to the last step, so that the
    # order neither begins nor ends with few of them.
    earliest = max(0, number - window + 1)
    slides = min(number, count - window) - earliest + 1
    # If blocks have few samples, rounding must not favour the same steps for each block: multiples of the
    # golden ratio spread the rounding evenly.
    shift = number * 0x9E3779B1 & 0xFFFFFFFF
    return earliest, [
        ((slide * mixed << 32) // slides + shift) >> 32 for slide in range(slides + 1)
    ]


def _find_slide(sizes: Sequence[int], window: int, skip: int) -> tuple[int, int]:
    """Returns the step that contains a place, and the number of samples of the step before the place.

    Args:
        sizes: Number of samples of each block, in order; may be empty for the first place.
        window: Number of blocks that are mixed.
        skip: Number of the place.
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
    raise ValueError(f"the place to skip to is {skip} after the last one")


def cut(start_of: Callable[[int], int], count: int, size: int) -> Iterator[int]:
    """Yields the ends of shuffle blocks: a block has the samples that start before the next multiple of size.

    Blocks therefore begin where leaves do, and share no leaf except the one in which their last sample ends.

    Args:
        start_of: Returns the offset of a sample in bytes, from 0 to `count` - 1; called for a few samples
            only. If samples are not in the order of their bytes, shuffle blocks are still runs of numbers.
        count: Number of samples.
        size: Size of a shuffle block in bytes.
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
    """Returns a generator that depends only on the key, in every process and on every platform.

    The user's global random state is not touched.
    """
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return random.Random(digest)  # noqa: S311 - an order of samples, not a secret
