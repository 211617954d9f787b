"""Numbers of samples that say what will be read soon: so a sampler reaches the worker that reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Self


class Upcoming(int):
    """The number of a sample, after which whoever reads it will read others; else an int like any.

    A loader gives its workers numbers and nothing else, and a few batches of them at a time.

    Attributes:
        soon: The numbers of those others, in parts.
    """

    soon: Sequence[Sequence[int]]

    def __new__(cls, number: int, soon: Sequence[Sequence[int]]) -> Self:
        upcoming = super().__new__(cls, number)
        upcoming.soon = soon
        return upcoming

    def __reduce__(self) -> tuple[type[Upcoming], tuple[int, Sequence[Sequence[int]]]]:
        return Upcoming, (int(self), self.soon)


def read_soon(indices: Iterable[SupportsIndex]) -> list[int]:
    """Returns what the numbers of a batch say will be read after it."""
    said = (index.soon for index in indices if isinstance(index, Upcoming))
    return [number for parts in said for part in parts for number in part]
