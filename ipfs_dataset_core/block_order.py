"""A shuffled order in which neighbours stay near each other in time; pure, and never all in memory.

Blocks, runs of consecutive samples, are permuted; then the samples of each window of blocks. So whoever
keeps a window's bytes reads each byte about once. A stretch of the order depends on nothing but the key and
its place, so that ranks and workers need not talk.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from ipfs_dataset_core.cache import cached_bytes
from ipfs_dataset_core.layout import LEAF_BYTES
from ipfs_dataset_core.randomness import keyed_random
from ipfs_dataset_core.shares import part, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# A block has one leaf more than its bytes fill, for samples begin anywhere: small blocks are fetched nearly
# twice, large ones mix badly.
BLOCK_BYTES = 2 << 20


def default_window(memory: int, block: int = BLOCK_BYTES) -> int:
    """Returns how many blocks to mix with so much memory: the window and the next one fit."""
    return max(1, cached_bytes(memory) // (2 * (block + LEAF_BYTES)))


def both_fit(memory: int, window: int, block: int = BLOCK_BYTES) -> bool:
    """Tells whether so much memory holds a window of blocks and the next one, too."""
    return 2 * window * (block + LEAF_BYTES) <= cached_bytes(memory)


class BlockOrder:
    """One epoch's order of samples.

    Args:
        stops: Where each block of samples ends, by number.
        window: How many blocks are mixed.
        key: What the order depends on, besides those.
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

    def between(self, start: int, stop: int) -> Iterator[int]:
        """Yields the samples at some places of the order; those beyond its end start over."""
        return chain.from_iterable(self.windows(start, stop))

    def windows(self, start: int, stop: int) -> Iterator[list[int]]:
        """Yields the same, a window at a time."""
        for first, last in wrapped(start, stop, len(self)):
            yield from self._windows(first, last)

    def _windows(self, start: int, stop: int) -> Iterator[list[int]]:
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, stop) + 1
        windows = -(-(last - first) // self._window)
        for number in range(windows):
            low, high = part(last - first, number, windows)
            samples: list[int] = []
            for place in range(first + low, first + high):
                samples += self._cut(place, start, stop)
            keyed_random("window", *self._key, start, number).shuffle(samples)
            yield samples

    def _cut(self, place: int, start: int, stop: int) -> range:
        """Returns the samples of the block at a place of the order, as far as they are asked for."""
        block, end = self._blocks[place], self._ends[place]
        begin = end - self._size(block)
        shift = self._first(block) - begin
        return range(max(begin, start) + shift, min(end, stop) + shift)

    def _first(self, block: int) -> int:
        return self._stops[block - 1] if block else 0

    def _size(self, block: int) -> int:
        return self._stops[block] - self._first(block)


def cut(start_of: Callable[[int], int], count: int, size: int) -> Iterator[int]:
    """Yields where blocks of samples end that start within `size` bytes, each of at least one sample.

    Args:
        start_of: Returns where a sample starts, from 0 to `count` - 1; asked of a few only. Where samples
            are not in the order of their bytes, blocks are runs of them all the same.
        count: How many samples there are.
        size: Bytes.
    """
    stop, step = 0, 1
    while stop < count:
        first, bound = stop, start_of(stop) + size
        low, high = first + 1, min(first + step, count)
        while high < count and start_of(high) < bound:
            step *= 2
            low, high = high, min(first + step, count)
        stop = bisect_left(range(count), bound, low, high, key=start_of)
        step = stop - first
        yield stop
