"""The order of samples, the same for all contestants of a task. Imports only the standard library."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.model import Job

T = TypeVar("T")
BATCH = 64


def shuffled(job: Job) -> list[int]:
    """Returns the numbers of all members in random order."""
    numbers = list(range(job.facts["members"]))
    random.Random(7).shuffle(numbers)
    return numbers


def a_part(job: Job) -> list[int]:
    """Returns the numbers of one in twenty of the members, at random."""
    return shuffled(job)[: max(1, job.facts["members"] // 20)]


def batches(numbers: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """Yields the numbers in batches."""
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
