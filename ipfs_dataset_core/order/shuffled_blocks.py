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
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.options import cached_bytes
from ipfs_dataset_core.order.sharding import wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Bytes. A shuffle block has one leaf more than its bytes fill, since samples begin anywhere: small ones are
# fetched nearly twice, and of large ones few fit in memory.
_BLOCK_BYTES = 4 << 20
# Of so many samples in a block, one that is not mixed makes no difference.
_MANY = 32
# So that while one step is waited for, another is on its way.
STEPS_AHEAD = 2


def default_block(memory: int) -> int:
    """Returns how many bytes a shuffle block has, so that several fit in `memory` bytes."""
    return max(1, min(_BLOCK_BYTES, memory // 8))


def default_window(memory: int, block: int) -> int:
    """Returns how many shuffle blocks to mix, so that the next steps fit in `memory` bytes if possible."""
    fitting = cached_bytes(memory) // (block + LEAF_BYTES)
    return max(1, min(fitting * 8 // 11, fitting - STEPS_AHEAD))


def fits(memory: int, window: int, block: int) -> bool:
    """Tells whether `memory` bytes hold what a step of the order needs, and what the next ones need."""
    blocks = window - 1 + (1 + STEPS_AHEAD) * _blocks_per_step(window)
    return blocks * (block + LEAF_BYTES) <= cached_bytes(memory)


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

    def steps(self, start: int, stop: int) -> Iterator[WindowStep]:
        """Yields the samples from one place in the order to another; places beyond its end start over."""
        most = _blocks_per_step(self._window)
        for first, last in wrapped(start, stop, len(self)):
            slides = self._slides(first, last)
            while together := list(islice(slides, most)):
                entering = chain.from_iterable(slide.entering for slide in together)
                yield WindowStep(list(samples_of(together)), list(entering))

    def _slides(self, start: int, stop: int) -> Iterator[WindowStep]:
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, stop) + 1
        count = last - first
        window = min(self._window, count)
        random = keyed_random("window", *self._key, start)
        slides: deque[list[int]] = deque([] for _ in range(window))
        entering: list[Sequence[int]] = []
        for number in range(count):
            block = self._cut(first + number, start, stop)
            entering.append(block)
            # The first blocks are there from the first step on, and the last ones up to the last step: so
            # the order neither begins nor ends with few of them.
            shares = 1 + min(number, count - window) - max(0, number - window + 1)
            mixed = block[:-1] if len(block) >= _MANY else block
            for sample in mixed:
                slides[int(random.random() * shares)].append(sample)
            # The last one may end in a leaf that no other needs, and which would be evicted by the time.
            slides[0].extend(block[len(mixed) :])
            if number >= window - 1:
                slides.append([])
                samples = slides.popleft()
                random.shuffle(samples)
                yield WindowStep(samples, entering)
                entering = []

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


def cut(start_of: Callable[[int], int], count: int, size: int) -> Iterator[int]:
    """Yields where shuffle blocks end: the samples of one start before the next multiple of `size` bytes.

    So they begin where leaves do, and share no leaf except the one that their last sample ends in.

    Args:
        start_of: Returns the first byte of a sample, from 0 to `count` - 1; called for a few samples only.
            Where samples are not in the order of their bytes, shuffle blocks are runs of numbers all the
            same.
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
