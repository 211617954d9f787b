"""The samples of a dataset by number, as required for shuffling, for any kind of dataset."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from torch.utils.data import IterableDataset

from ipfs_dataset_core.datasets.composed import each_or_alone, read_each
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.streaming import read_numbers
from ipfs_dataset_core.order.dataset_blocks import blocks_of, content_of
from ipfs_dataset_core.order.laned_order import Leaving, blocks_in_order
from ipfs_dataset_core.order.prefetch_hints import Upcoming
from ipfs_dataset_core.order.shuffled_blocks import ShuffleBlockOrder, default_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core.datasets.shards import ConcatenatedShards
    from ipfs_dataset_core.order.dataset_blocks import DatasetBlocks
    from ipfs_dataset_core.order.laned_order import Steps

# Number of samples of a map-style dataset fetched together.
_BATCH = 64
# Number of samples in a step if samples are scattered.
_STEP = 1024


class SamplesByNumber(Protocol):
    """Samples by number.

    Attributes:
        block: Approximate size of a shuffle block in bytes; 0 if it is unknown which samples are stored
            together.
        memory: Number of bytes of blocks that each process keeps in memory.
    """

    block: int
    memory: int

    def __len__(self) -> int:
        """Returns the number of samples."""

    def content_id(self) -> str:
        """Returns an identifier of the samples; "" if unknown."""

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns the end of each block of about `size` bytes, as the number of the next sample."""

    def steps(self, block: int, window: int, *key: object) -> Steps:
        """Returns a function that yields the steps of a range of the order before the buffer."""

    def read(
        self, numbers: Iterator[int], *, hinted: bool, replaces: bool
    ) -> Iterator[tuple[int, Any]]:
        """Yields numbers with their samples.

        Args:
            numbers: The numbers of the samples.
            hinted: Whether they carry prefetch hints.
            replaces: Whether a skipped sample is replaced by another.
        """


class StreamByNumber(SamplesByNumber):
    """The samples of an `IPFSIterableDataset` that allows random access to all of them.

    Args:
        stream: The dataset.
        joined: Its samples.
    """

    def __init__(self, stream: IPFSIterableDataset, joined: ConcatenatedShards) -> None:
        self._stream = stream
        self._joined = joined
        self.memory = stream.block_memory()
        self.block = default_block(self.memory)

    def __len__(self) -> int:
        return len(self._joined)

    def content_id(self) -> str:
        return self._stream.content_id()

    def block_stops(self, size: int) -> Sequence[int]:
        return self._joined.block_stops(size)

    def steps(self, block: int, window: int, *key: object) -> Steps:
        return ShuffleBlockOrder(self.block_stops(block), window, *key).steps

    def read(
        self, numbers: Iterator[int], *, hinted: bool, replaces: bool
    ) -> Iterator[tuple[int, Any]]:
        skipping = self._stream.skipping(self._joined, replaces=replaces)
        found = read_numbers(numbers, self._joined, skipping, hinted=hinted)
        return self._stream.transformed_pairs(found)


class MapStyleByNumber(SamplesByNumber):
    """The samples of a map-style dataset.

    Args:
        dataset: The dataset.
        blocks: Its shuffle blocks; None if it has none.
    """

    def __init__(self, dataset: Any, blocks: DatasetBlocks | None) -> None:
        self._dataset = dataset
        self._blocks = blocks
        self.block = 0 if blocks is None else blocks.size
        self.memory = 0 if blocks is None else blocks.block_memory()

    def __len__(self) -> int:
        return len(self._dataset)

    def content_id(self) -> str:
        return content_of(self._dataset) if self._blocks is None else self._blocks.content_id()

    def block_stops(self, size: int) -> Sequence[int]:
        if self._blocks is None:
            return range(size, len(self) + size, size)
        return self._blocks.stops(size)

    def steps(self, block: int, window: int, *key: object) -> Steps:
        if self._blocks is None:
            stops = [*range(_STEP, len(self), _STEP), len(self)]
            return blocks_in_order(stops)
        self._blocks.size = block
        return self._blocks.order(window, *key)

    def read(
        self, numbers: Iterator[int], *, hinted: bool, replaces: bool
    ) -> Iterator[tuple[int, Any]]:
        del hinted, replaces  # the dataset prefetches and skips samples itself
        dataset = self._dataset
        if self._blocks is None:
            yield from ((number, dataset[number]) for number in map(int, numbers))
            return
        composed = self._blocks.are_composed
        while batch := list(islice(numbers, _BATCH)):
            if composed:  # the inner datasets have other numbers
                soon = [n for number in batch if isinstance(number, Upcoming) for n in number.soon]
                self._blocks.prefetch(sample for part in soon for sample in part)
                batch = list(map(int, batch))
            for number, found in zip(
                batch, each_or_alone(partial(read_each, dataset), batch), strict=True
            ):
                yield from ((number, sample) for sample in found)


def read_as_they_enter(
    numbers: Iterator[int], source: SamplesByNumber, *, hinted: bool, replaces: bool
) -> Iterator[tuple[int, Any]]:
    """Yields numbers with their samples, which are read when they enter the buffer and are kept in it.

    Samples that are stored together are therefore read together, however large the buffer is.

    Args:
        numbers: The numbers in the order in which they leave the buffer.
        source: The samples.
        hinted: See `SamplesByNumber.read`.
        replaces: See `SamplesByNumber.read`.
    """
    buffer = _Buffer(numbers)
    found = source.read(buffer.entering(), hinted=hinted, replaces=replaces)
    return buffer.leaving(found)


class _Buffer:
    """Holds samples that entered a buffer of numbers, until they leave it.

    Args:
        numbers: The numbers in the order in which they leave.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        # The numbers that leave next, and how many numbers must have entered by then.
        self._leaving: deque[tuple[int, int]] = deque()
        self._asked: deque[int] = deque()
        self._held: dict[int, list[Any]] = {}

    def entering(self) -> Iterator[int]:
        """Yields the numbers that enter, with their hints."""
        count, leaving, asked = 0, self._leaving, self._asked
        for number in self._numbers:
            if not isinstance(number, Leaving):  # only the number itself enters
                count += 1
                leaving.append((int(number), count))
                asked.append(int(number))
                yield number
                continue
            soon, entered = number.soon, number.entered
            count += len(entered)
            leaving.append((int(number), count))
            asked.extend(entered)
            if soon and entered:
                yield Upcoming(entered[0], soon)
                yield from entered[1:]
            else:
                yield from entered

    def leaving(self, found: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Yields the numbers that leave, with their samples.

        Args:
            found: The samples that enter, without skipped ones.
        """
        leaving, asked, held = self._leaving, self._asked, self._held
        entered = 0
        for number, sample in found:
            if number in held:  # the sequence starts over
                held[number].append(sample)
            else:
                held[int(number)] = [sample]
            entered += 1
            while asked.popleft() != number:  # the numbers before it were skipped
                entered += 1
            while leaving and leaving[0][1] <= entered:
                leaver = leaving.popleft()[0]
                samples = held.pop(leaver, None)
                if samples:  # not skipped
                    yield leaver, samples.pop()
                    if samples:
                        held[leaver] = samples
        for leaver, _ in leaving:
            if samples := held.get(leaver):
                yield leaver, samples.pop()


def source_of(dataset: Any) -> SamplesByNumber | None:
    """Returns the samples of a dataset by number; None if the dataset can only be iterated over."""
    if isinstance(dataset, IPFSIterableDataset):
        joined = dataset.numbered_samples()
        return None if joined is None else StreamByNumber(dataset, joined)
    if isinstance(dataset, IterableDataset):
        return None
    return MapStyleByNumber(dataset, blocks_of(dataset))
