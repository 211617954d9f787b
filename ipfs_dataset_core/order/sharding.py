"""The samples that each rank and each of its workers reads: pure functions, equal in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Distribution = Literal["pad", "drop", "uneven"]
DISTRIBUTIONS: tuple[Distribution, ...] = ("pad", "drop", "uneven")
# Who shares the samples: ranks and their workers, the workers of each rank alone, or nobody.
Split = Literal["auto", "workers", "none"]
SPLITS: tuple[Split, ...] = ("auto", "workers", "none")


def known_distribution(distribution: Distribution | None) -> Distribution | None:
    """Checks and returns the distribution that a user gave.

    Raises:
        ValueError: The value is not one of the choices.
    """
    if distribution is not None and distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution must be one of {DISTRIBUTIONS}, not {distribution!r}")
    return distribution


def known_split(split: Split) -> Split:
    """Checks and returns the split that a user gave.

    Raises:
        ValueError: The value is not one of the choices.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
    return split


def makes_ranks_equal(world: int, distribution: Distribution) -> bool:
    """Returns whether samples are added or left out so that several ranks get equally many."""
    return world > 1 and distribution != "uneven"


@attrs.frozen
class ReaderRank:
    """One reader: a worker of a rank.

    Args:
        rank: Number of this process in the distributed job, from 0.
        world: Number of such processes.
        worker: Number of this DataLoader worker in its process, from 0.
        workers: Number of workers of the process.
    """

    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1

    @property
    def index(self) -> int:
        """The number of this reader among all readers of the job."""
        return self.rank * self.workers + self.worker

    @property
    def count(self) -> int:
        """Number of readers of the job."""
        return self.world * self.workers


def part(total: int, index: int, count: int) -> tuple[int, int]:
    """Returns the start and stop of part `index` of `count` nearly equal, contiguous parts of `total`."""
    return total * index // count, total * (index + 1) // count


def sample_ranges(
    total: int, reader: ReaderRank, distribution: Distribution
) -> list[tuple[int, int]]:
    """Returns the ranges of sample numbers that one reader reads, in order.

    Args:
        total: Number of samples.
        reader: The reader.
        distribution: ``"uneven"`` reads each sample exactly once; ``"pad"`` gives every rank the same number
            by repeating a few first samples, ``"drop"`` by leaving out a few last ones.
    """
    return list(wrapped(*range_of_reader(total, reader, distribution), total))


def range_of_reader(total: int, reader: ReaderRank, distribution: Distribution) -> tuple[int, int]:
    """Returns the range of one reader; numbers from `total` on wrap around to 0."""
    start, stop = rank_range(total, reader, distribution)
    first, last = part(stop - start, reader.worker, reader.workers)
    return start + first, start + last


def rank_range(total: int, reader: ReaderRank, distribution: Distribution) -> tuple[int, int]:
    """Returns the range of one rank, including all workers; numbers from `total` on wrap around to 0."""
    if distribution == "pad":
        stretched = -(-total // reader.world) * reader.world
    elif distribution == "drop":
        stretched = total // reader.world * reader.world
    else:
        stretched = total
    return part(stretched, reader.rank, reader.world)


def wrapped(start: int, stop: int, total: int) -> Iterator[tuple[int, int]]:
    """Yields the parts of a range, split at multiples of `total` and reduced modulo `total`."""
    while start < stop:
        turn = start // total
        end = min(stop, (turn + 1) * total)
        yield start - turn * total, end - turn * total
        start = end


def overlaps(weights: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yields ``(shard, first, last)`` for each shard that overlaps a range of the concatenated weights."""
    base = 0
    for shard, weight in enumerate(weights):
        first, last = max(start - base, 0), min(stop - base, weight)
        if first < last:
            yield shard, first, last
        base += weight
