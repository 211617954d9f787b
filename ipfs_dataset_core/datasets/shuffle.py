"""Shuffles another dataset with a buffer, and by shuffle blocks where the dataset has them."""

from __future__ import annotations

import copy
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch.utils.data import ChainDataset, ConcatDataset, IterableDataset, Subset

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset, check_length_holds
from ipfs_dataset_core.order.dataset_blocks import blocks_of
from ipfs_dataset_core.order.reader_rank import (
    SharedEpoch,
    current_job,
    current_reader_rank,
    job_to_carry,
)
from ipfs_dataset_core.order.sharding import ReaderRank, known_split, sample_ranges
from ipfs_dataset_core.order.shuffled_blocks import default_window, keyed_random, samples_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator

    from torch.utils.data import Dataset
    from typing_extensions import Self

    from ipfs_dataset_core.order.reader_rank import Job
    from ipfs_dataset_core.order.sharding import Split

T = TypeVar("T")

# How many samples of a map-style dataset are fetched together.
_BATCH = 64


class ShuffleDataset(IterableDataset[Any]):
    """Yields another dataset's samples in a random order, by keeping some of them in a buffer.

    A sample can come early or late by about the size of the buffer; a larger buffer shuffles better and
    takes more memory. What goes into it is shuffled already where the dataset has shuffle blocks, samples
    that lie together: an `IPFSDataset`, an imported dataset, a `Subset` or `ConcatDataset` of such, and an
    `IPFSIterableDataset` without an ``__iter__`` of its own come in shuffled blocks. Each rank and worker
    shuffles its own share; of a map-style dataset, every rank gets equally many samples where
    torch.distributed runs, by reading a few twice.

    Args:
        dataset: Map-style or iterable.
        buffer_size: How many samples each reader holds.
        seed: What the order depends on, besides the epoch.
        split: As for `IPFSIterableDataset`; without it, a stream splits its samples as it was told to.

    Raises:
        ValueError: `split` is given for a stream of another library, which splits its samples itself.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        buffer_size: int = 1000,
        *,
        seed: int = 0,
        split: Split = "auto",
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"buffer_size is at least 1, not {buffer_size!r}")
        self._dataset = dataset
        self._buffer_size = buffer_size
        self._split = known_split(split)
        if split != "auto" and isinstance(dataset, IterableDataset):
            if not isinstance(dataset, (IPFSIterableDataset, ShuffleDataset)):
                raise ValueError(
                    f"{type(dataset).__name__} splits its samples itself: no split={split!r} reaches it"
                )
            self._dataset = dataset.with_split(split)
        self._seed = seed
        self._carried: Job | None = None
        self._epoch = SharedEpoch()

    def __iter__(self) -> Iterator[Any]:
        job = current_job(self._carried, split=self._split)
        reader = current_reader_rank(job, split=self._split)
        epoch = self._epoch.get()
        generator = keyed_random("buffer", self._seed, epoch, reader.index, reader.count)
        return shuffled(self._samples(reader, job, epoch), self._buffer_size, generator)

    def __len__(self) -> int:
        """Returns the number of samples for this rank.

        Raises:
            TypeError: The dataset below has no `len`, or a subclass has an ``__iter__`` of its own.
        """
        check_length_holds(self)
        length = len(self._dataset)  # type: ignore[arg-type]
        if isinstance(self._dataset, IterableDataset):
            return length
        job = current_job(self._carried, split=self._split)
        ranges = sample_ranges(length, ReaderRank(job.rank, job.world), job.distribution)
        return sum(stop - start for start, stop in ranges)

    def __bool__(self) -> bool:
        """Returns True, as for any iterable dataset: asking must neither read nor fail."""
        return True

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch, for the wrapped dataset too."""
        self._epoch.set(epoch)
        for dataset in datasets_below(self._dataset):
            set_below = getattr(dataset, "set_epoch", None)
            if set_below is not None:
                set_below(epoch)

    def close(self) -> None:
        """Closes the connections of the wrapped dataset in this process; a later use opens them again."""
        for dataset in datasets_below(self._dataset):
            close_if_possible(dataset)

    def with_split(self, split: Split) -> Self:
        """Returns a view of this dataset whose samples are split otherwise; see `IPFSIterableDataset`."""
        view = copy.copy(self)
        view._split, view._carried = split, self._carried  # noqa: SLF001 - of the same class
        if isinstance(self._dataset, (IPFSIterableDataset, ShuffleDataset)):
            view._dataset = self._dataset.with_split(split)  # noqa: SLF001
        return view

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_carried": job_to_carry(self._carried)}

    def _samples(self, reader: ReaderRank, job: Job, epoch: int) -> Iterable[Any]:
        dataset: Any = self._dataset
        if not isinstance(dataset, IterableDataset):
            return self._numbered(sample_ranges(len(dataset), reader, job.distribution), epoch)
        # What overrides it may join neighbours, or read another dataset beside it.
        if type(dataset).__iter__ is IPFSIterableDataset.__iter__:
            return cast("IPFSIterableDataset", dataset).in_shuffled_blocks(self._seed)
        return dataset

    def _numbered(self, ranges: Iterable[tuple[int, int]], epoch: int) -> Iterator[Any]:
        dataset: Any = self._dataset
        blocks = blocks_of(dataset)
        if blocks is None:
            yield from (dataset[index] for start, stop in ranges for index in range(start, stop))
            return
        window = default_window(blocks.block_memory(), blocks.size)
        steps = blocks.order(window, self._seed, epoch)
        numbers = chain.from_iterable(samples_of(steps(start, stop, 0)) for start, stop in ranges)
        while batch := list(islice(numbers, _BATCH)):
            if hasattr(dataset, "__getitems__"):
                yield from dataset.__getitems__(batch)
            else:  # a ConcatDataset
                yield from map(dataset.__getitem__, batch)


def shuffled(samples: Iterable[T], size: int, generator: random.Random) -> Iterator[T]:
    """Yields `samples` in random order through a buffer of `size`."""
    samples = iter(samples)
    buffer = list(islice(samples, size))
    pick = generator.random
    for sample in samples:
        position = int(pick() * size)
        yield buffer[position]
        buffer[position] = sample
    for left in range(len(buffer), 0, -1):
        position = int(pick() * left)
        yield buffer[position]
        buffer[position] = buffer[left - 1]


def datasets_below(dataset: Any) -> Iterator[Any]:
    """Yields the datasets that torch's own combinations of datasets read, or the dataset itself."""
    if isinstance(dataset, Subset):
        yield from datasets_below(dataset.dataset)
    elif isinstance(dataset, (ConcatDataset, ChainDataset)) and isinstance(
        dataset.datasets, (list, tuple)
    ):
        for joined in dataset.datasets:
            yield from datasets_below(joined)
    else:
        yield dataset


def close_if_possible(dataset: Any) -> None:
    """Closes a dataset that has `close`."""
    close = getattr(dataset, "close", None)
    if close is not None:
        close()
