"""Prefetch hints: numbers of samples that carry the numbers of others, which will be read after them.

A `DataLoader` gives its workers numbers and nothing else, and only a few batches of them at a time.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice
from typing import TYPE_CHECKING, SupportsIndex

from ipfs_dataset_core.order.shuffled_blocks import ahead, samples_of, unhinted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Self

    from ipfs_dataset_core.order.shuffled_blocks import WindowStep


class Upcoming(int):
    """The number of a sample that carries a prefetch hint; in all else it is a plain int.

    Attributes:
        soon: The numbers of the samples to fetch, in parts.
    """

    soon: Sequence[Sequence[int]]

    def __new__(cls, number: int, soon: Sequence[Sequence[int]]) -> Self:
        upcoming = super().__new__(cls, number)
        upcoming.soon = soon
        return upcoming

    def __reduce__(self) -> tuple[type[Upcoming], tuple[int, Sequence[Sequence[int]]]]:
        return Upcoming, (int(self), self.soon)


def read_soon(indices: Iterable[SupportsIndex]) -> list[int]:
    """Returns the numbers of the samples in the prefetch hints of a batch."""
    hints = [index.soon for index in indices if isinstance(index, Upcoming)]
    return [number for parts in hints for part in parts for number in part]


def numbers_of(
    steps: Callable[[int, int, int], Iterator[WindowStep]], lanes: int, *, hinted: bool
) -> Callable[[int, int, int], Iterator[int]]:
    """Returns a function of start, stop and skip that yields the numbers of a stretch of an order.

    Args:
        steps: Yields the steps of the stretch.
        lanes: From how many lanes the reader reads.
        hinted: Whether numbers carry hints at what the next steps need; only sensible if it fits in memory.
    """

    def numbers(start: int, stop: int, skip: int) -> Iterator[int]:
        found = steps(start, stop, skip)
        return with_hints(found, ahead(lanes), unhinted(lanes)) if hinted else samples_of(found)

    return numbers


def with_hints(steps: Iterator[WindowStep], ahead: int, unhinted: float) -> Iterator[int]:
    """Yields the samples of steps, some of them with a hint at what the next steps need.

    Args:
        steps: In their order.
        ahead: How many steps are fetched before they are read.
        unhinted: The part of a step that is read before the next ones are fetched. The cache evicts the least
            recently used blocks, which would be those of this step if none of it had been read.
    """
    return chain.from_iterable(_hinted_steps(steps, ahead, unhinted))


def _hinted_steps(
    steps: Iterator[WindowStep], ahead: int, unhinted: float
) -> Iterator[Sequence[int]]:
    """Yields the samples of each step, see `with_hints`."""
    coming = deque(islice(steps, 1))
    needed: list[Sequence[int]] = [block for step in coming for block in step.entering]
    upcoming: list[Sequence[int]] = []
    while coming:
        samples = list(coming.popleft().samples)
        following = list(islice(steps, ahead - len(coming)))
        upcoming += chain.from_iterable(step.entering for step in following)
        coming += following
        if not samples:
            continue
        if needed:  # what the first step needs, with its first sample
            samples[0], needed = Upcoming(samples[0], needed), []
        hinted = min(1 + int(len(samples) * unhinted), len(samples) - 1)
        if upcoming:
            number = samples[hinted]
            soon = [*number.soon, *upcoming] if isinstance(number, Upcoming) else upcoming
            samples[hinted], upcoming = Upcoming(number, soon), []
        yield samples
