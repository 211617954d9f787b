"""Prefetch hints: sample numbers that carry the numbers of samples that will be read after them.

A `DataLoader` passes only numbers to its workers, and only a few batches of them at a time.
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
    """The number of a sample with a prefetch hint; otherwise a plain int.

    Attributes:
        soon: Numbers of the samples to fetch, in groups.
    """

    soon: Sequence[Sequence[int]]

    def __new__(cls, number: int, soon: Sequence[Sequence[int]]) -> Self:
        upcoming = super().__new__(cls, number)
        upcoming.soon = soon
        return upcoming

    def __reduce__(self) -> tuple[type[Upcoming], tuple[int, Sequence[Sequence[int]]]]:
        return Upcoming, (int(self), self.soon)


def read_soon(indices: Iterable[SupportsIndex]) -> list[int]:
    """Returns the sample numbers in the prefetch hints of a batch."""
    hints = [index.soon for index in indices if isinstance(index, Upcoming)]
    return [number for parts in hints for part in parts for number in part]


def numbers_of(
    steps: Callable[[int, int, int], Iterator[WindowStep]], lanes: int, *, hinted: bool
) -> Callable[[int, int, int], Iterator[int]]:
    """Returns a function of start, stop and skip that yields the sample numbers of a range of an order.

    Args:
        steps: Yields the steps of a range.
        lanes: Number of lanes from which the reader reads.
        hinted: Whether numbers carry prefetch hints for the next steps, which then have to fit in memory.
    """

    def numbers(start: int, stop: int, skip: int) -> Iterator[int]:
        found = steps(start, stop, skip)
        return with_hints(found, ahead(lanes), unhinted(lanes)) if hinted else samples_of(found)

    return numbers


def with_hints(steps: Iterator[WindowStep], ahead: int, unhinted: float) -> Iterator[int]:
    """Yields the samples of steps, some of them with a prefetch hint for the next steps.

    Args:
        steps: The steps, in order.
        ahead: Number of steps that are fetched in advance.
        unhinted: Fraction of a step that is read before the next steps are fetched. The cache evicts the
            least recently used blocks, which would be those of this step if none of it had been read.
    """
    return chain.from_iterable(_hinted_steps(steps, ahead, unhinted))


def _hinted_steps(
    steps: Iterator[WindowStep], ahead: int, unhinted: float
) -> Iterator[Sequence[int]]:
    """Yields the samples of each step; see `with_hints`."""
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
        if needed:  # the first step's blocks, with its first sample
            samples[0], needed = Upcoming(samples[0], needed), []
        hinted = min(1 + int(len(samples) * unhinted), len(samples) - 1)
        if upcoming:
            number = samples[hinted]
            soon = [*number.soon, *upcoming] if isinstance(number, Upcoming) else upcoming
            samples[hinted], upcoming = Upcoming(number, soon), []
        yield samples
