"""A sampler that shuffles a map-style dataset so that its blocks are fetched about once an epoch."""

from __future__ import annotations

from collections import deque
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, Any, SupportsIndex

from torch.utils.data import Sampler

from ipfs_dataset_core.options import parse_size
from ipfs_dataset_core.order.dataset_blocks import DatasetBlocks
from ipfs_dataset_core.order.reader_rank import Job, current_job
from ipfs_dataset_core.order.sharding import DISTRIBUTIONS, ReaderRank, batch_ranges, rank_range
from ipfs_dataset_core.order.shuffled_blocks import STEPS_AHEAD, default_window, fits, samples_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from ipfs_dataset_core.order.sharding import Distribution
    from ipfs_dataset_core.order.shuffled_blocks import WindowStep

# One sample in so many of a step is read before more is fetched: each leaf once, mostly.
_READ_FIRST = 8


class BlockShuffleSampler(Sampler[int]):
    """Yields numbers of samples in a random order in which samples that lie together stay near each other.

    Shuffle blocks are permuted, and samples are drawn from a window that slides over them. What a window
    needs is kept in memory, so that an epoch fetches each block about once, where a full shuffle fetches one
    for nearly every sample. Each rank has shuffle blocks of its own. So has each worker, if ``batch_size``
    and ``num_workers`` are those of the `DataLoader`.

    Args:
        dataset: An `IPFSDataset`, or a dataset that was imported.
        seed: What the order depends on, besides the epoch; the same for all ranks.
        block_bytes: How many bytes a shuffle block has; a number, or text such as ``"8M"``. By default 4 MiB,
            or an eighth of the dataset's `memory` where that is less.
        window_bytes: How many bytes are mixed, by default about half of the dataset's `memory`. More mixes
            better, and should stay below `memory`; but then the next window is not fetched while this one is
            read.
        batch_size: The loader's.
        num_workers: The loader's.
        num_replicas: Number of ranks, by default that of torch.distributed or the environment.
        rank: The number of this rank.
        distribution: As for `IPFSIterableDataset`; where `num_replicas` is given it is ``"pad"`` by default.

    Raises:
        TypeError: The dataset has no `block_stops` and `block_memory`.
        ValueError: Arguments do not go together.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        seed: int = 0,
        block_bytes: int | str | None = None,
        window_bytes: int | str | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        distribution: Distribution | None = None,
    ) -> None:
        if block_bytes is not None:
            block_bytes = _at_least_one("block_bytes", parse_size(block_bytes))
        self._dataset = dataset
        self._blocks = DatasetBlocks(dataset, block_bytes)
        block, memory = self._blocks.size, self._blocks.block_memory()
        self._window = default_window(memory, block)
        if window_bytes is not None:
            self._window = -(-_at_least_one("window_bytes", parse_size(window_bytes)) // block)
        # What is fetched too early pushes out of memory what is being read.
        self._fits = fits(memory, self._window, block)
        self._seed = seed
        self._batch = _at_least_one("batch_size", 1 if batch_size is None else batch_size)
        self._workers = _workers(num_workers, batch_size)
        self._job = _job(num_replicas, rank)
        self._distribution = _known(distribution)
        self._epoch = 0

    def __iter__(self) -> Iterator[int]:
        steps = self._blocks.steps(self._window, self._seed, self._epoch)
        start, stop = self._range()

        def between(start: int, stop: int) -> Iterator[int]:
            return self._numbers(steps(start, stop))

        if self._workers == 1:
            return between(start, stop)
        *shares, rest = batch_ranges(start, stop, self._batch, self._workers)
        readers = [between(*share) for share in shares]
        return chain(
            _in_turn(readers, (rest[0] - start) // self._batch, self._batch), between(*rest)
        )

    def __len__(self) -> int:
        """Returns the number of samples for this rank."""
        start, stop = self._range()
        return stop - start

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch; without it, every epoch has the same order."""
        self._epoch = epoch

    def _numbers(self, steps: Iterator[WindowStep]) -> Iterator[int]:
        """Yields the samples of steps, with prefetch hints for the next ones."""
        if not self._fits:
            return samples_of(steps)
        # A subset translates the numbers, and so loses hints that are attached to them.
        return self._prefetching(steps) if self._blocks.are_of_subset else _with_hints(steps)

    def _prefetching(self, steps: Iterator[WindowStep]) -> Iterator[int]:
        """Yields samples step by step, while what the next ones need is fetched in this process."""
        for samples, entering in _with_what_follows(steps):
            yield from samples
            if entering:
                self._blocks.prefetch(chain.from_iterable(entering))

    def _range(self) -> tuple[int, int]:
        job = self._job or current_job()
        reader = ReaderRank(job.rank, job.world)
        return rank_range(len(self._dataset), reader, self._distribution or job.distribution)


def _with_what_follows(
    steps: Iterator[WindowStep],
) -> Iterator[tuple[list[int], list[Sequence[int]]]]:
    """Yields samples step by step, and with the first ones of a step what is to be fetched after them."""
    coming = deque(islice(steps, 1))
    entering = [block for step in coming for block in step.entering]
    while coming:
        step = coming.popleft()
        # Until the consumer continues, nothing is known to be read here. And a cache evicts first what was
        # not read for longest: without a few reads of this step, its own blocks would be evicted.
        first = 1 + len(step.samples) // _READ_FIRST
        following = list(islice(steps, STEPS_AHEAD - len(coming)))
        entering += chain.from_iterable(one.entering for one in following)
        yield step.samples[:first], entering
        entering = []
        coming += following
        yield step.samples[first:], []


def _with_hints(steps: Iterator[WindowStep]) -> Iterator[int]:
    """Yields samples step by step; a hint is attached to one of them: what the next ones need."""
    soon: list[Sequence[int]] = []
    for samples, entering in _with_what_follows(steps):
        soon += entering
        if soon and samples:
            yield from samples[:-1]
            yield Upcoming(samples[-1], soon)
            soon = []
        else:
            yield from samples


def _in_turn(readers: Sequence[Iterator[int]], batches: int, size: int) -> Iterator[int]:
    """Yields a batch of each reader in turn, as the loader hands them to its workers."""
    for reader in islice(cycle(readers), batches):
        yield from islice(reader, size)


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} is at least 1, not {value!r}")
    return value


def _workers(num_workers: int, batch_size: int | None) -> int:
    if num_workers < 0:
        raise ValueError(f"num_workers is at least 0, not {num_workers!r}")
    if num_workers > 1 and batch_size is None:
        raise ValueError("num_workers needs batch_size: workers are given whole batches in turn")
    return max(1, num_workers)


def _job(num_replicas: int | None, rank: int | None) -> Job | None:
    if num_replicas is None and rank is None:
        return None
    if num_replicas is None or rank is None or not 0 <= rank < num_replicas:
        raise ValueError(
            f"rank is from 0 to num_replicas - 1, and both are given or neither, not rank={rank!r} and "
            f"num_replicas={num_replicas!r}"
        )
    return Job(rank, num_replicas, in_step=True)


def _known(distribution: Distribution | None) -> Distribution | None:
    if distribution is not None and distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution is one of {DISTRIBUTIONS}, not {distribution!r}")
    return distribution


class Upcoming(int):
    """The number of a sample, an int, with a prefetch hint attached: the samples that follow soon.

    A loader passes nothing but numbers to its workers, a few batches at a time.

    Attributes:
        soon: The numbers of these samples, in parts.
    """

    soon: Sequence[Sequence[int]]

    def __new__(cls, number: int, soon: Sequence[Sequence[int]]) -> Self:
        upcoming = super().__new__(cls, number)
        upcoming.soon = soon
        return upcoming

    def __reduce__(self) -> tuple[type[Upcoming], tuple[int, Sequence[Sequence[int]]]]:
        return Upcoming, (int(self), self.soon)


def read_soon(indices: Iterable[SupportsIndex]) -> list[int]:
    """Returns the samples that the hints in the numbers of a batch name."""
    said = (index.soon for index in indices if isinstance(index, Upcoming))
    return [number for parts in said for part in parts for number in part]
