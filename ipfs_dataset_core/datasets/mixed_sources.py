"""The sources of a mixture: datasets that are read by number, and streams that are read to the end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from ipfs_dataset_core.datasets.composed import each_or_alone, read_each
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import SampleAccess
from ipfs_dataset_core.datasets.map_style_check import check_map_style
from ipfs_dataset_core.datasets.resumable import ResumableStream
from ipfs_dataset_core.datasets.shuffle import close_if_possible, datasets_below
from ipfs_dataset_core.datasets.shuffle_source import source_of as samples_by_number
from ipfs_dataset_core.errors import StateError
from ipfs_dataset_core.order.dataset_blocks import blocks_of, content_of
from ipfs_dataset_core.order.global_order import LaneReader
from ipfs_dataset_core.order.order_state import number_in, warn_of_other_order
from ipfs_dataset_core.order.prefetch_hints import Upcoming, numbers_of
from ipfs_dataset_core.order.sampler import BlockShuffleSampler
from ipfs_dataset_core.order.shuffled_blocks import (
    ShuffleBlockOrder,
    default_window,
    fits,
)
from ipfs_dataset_core.runtime.whole_numbers import MOST_SEED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.shuffle_source import SamplesByNumber
    from ipfs_dataset_core.order.dataset_blocks import DatasetBlocks
    from ipfs_dataset_core.order.global_order import Lanes
    from ipfs_dataset_core.order.mixture import MixtureSchedule


class NumberedSource:
    """A map-style dataset, read in shuffled blocks if it has them.

    Args:
        name: Its name in the mixture.
        dataset: The dataset, or a sampler of one, whose blocks, window and seed are then used.
        shuffle: Whether each epoch has a different order.
    """

    def __init__(self, name: str, dataset: Any, *, shuffle: bool) -> None:
        sampler = dataset if isinstance(dataset, BlockShuffleSampler) else None
        self.name = name
        self.dataset: Any = dataset if sampler is None else sampler.dataset
        self._seed = 0 if sampler is None else sampler.seed
        self._shuffle = shuffle
        self._blocks: DatasetBlocks | None = None
        self._looked = False
        # Number of blocks mixed in all lanes together; None for as many as memory can hold.
        self.mixed: int | None = None
        self._size: int | None = None
        if sampler is not None:
            self._size, self.mixed = sampler.block_bytes, sampler.mixed_blocks

    def count(self) -> int:
        """Returns the number of samples."""
        return len(self.dataset)

    def content_id(self) -> str:
        """Returns an identifier of its samples; "" if unknown."""
        if self.blocks is not None:
            return self.blocks.content_id()
        return content_of(self.dataset)

    def order_dict(self) -> dict[str, Any]:
        """Returns the seed of the given sampler, for the state of the mixture."""
        return {"seed": self._seed}

    def load_order_dict(self, order: Any) -> bool:
        """Takes over the seed of a state; returns whether it changed.

        Raises:
            StateError: The state has no valid seed.
        """
        if not isinstance(order, Mapping) or order.keys() != {"seed"}:
            raise StateError(
                f"this state has {order!r:.200} as the order of the source {self.name!r}"
            )
        seed, before = number_in(order, "seed", least=-MOST_SEED, most=MOST_SEED), self._seed
        name = f"seed of {self.name}"
        warn_of_other_order({name: before}, {name: seed})
        self._seed = seed
        return seed != before

    @property
    def blocks(self) -> DatasetBlocks | None:
        """Its shuffle blocks; None if it has none."""
        if not self._looked:
            self._blocks, self._looked = blocks_of(self.dataset), True
            if self._blocks is not None and self._size is not None:
                self._blocks.size = self._size
        return self._blocks

    def window(self, lanes: Lanes) -> int:
        """Returns the number of blocks mixed in each lane."""
        if self.blocks is None:
            return 1
        memory, size = self.blocks.block_memory(), self.blocks.size
        return max(1, (self.mixed or default_window(memory, size)) // lanes.count)

    def numbers(
        self, lanes: Lanes, lanes_read: int, *key: object
    ) -> Callable[[int, int, int], Iterator[int]]:
        """Returns a function that yields the sample numbers of a range of the order.

        Its arguments are the first place, the place after the last, and the number of places to skip.

        Args:
            lanes: The lanes of the mixture.
            lanes_read: Number of lanes from which this reader reads.
            key: Values that determine the order.
        """
        if not self._shuffle:
            return lambda start, stop, skip: iter(range(start + skip, stop))
        if self.blocks is None:
            order = ShuffleBlockOrder(range(1, self.count() + 1), 1, *key)
            return numbers_of(order.steps, lanes_read, hinted=False)
        window, size = self.window(lanes), self.blocks.size
        steps = self.blocks.order(window, self._seed, *key)
        hinted = fits(self.blocks.block_memory(), window, size, lanes_read)
        return numbers_of(steps, lanes_read, hinted=hinted)

    def read(self, numbers: Sequence[int]) -> Iterator[Any]:
        """Yields samples, fetched together; a skipped sample is replaced by the next that can be read."""
        if self.blocks is not None and self.blocks.are_composed:
            hints = [
                part for number in numbers if isinstance(number, Upcoming) for part in number.soon
            ]
            if hints:
                self.blocks.prefetch(number for part in hints for number in part)
            numbers = list(map(int, numbers))
        for number, samples in zip(numbers, self._read_each(numbers), strict=True):
            yield samples[0] if samples else self._read_or_next(int(number))

    def _read_each(self, numbers: Sequence[int]) -> Iterable[list[Any]]:
        if isinstance(self.dataset, SampleAccess):
            return each_or_alone(partial(self.dataset.read_each_or_skip, replaces=True), numbers)
        return each_or_alone(partial(read_each, self.dataset), numbers)

    def _read_or_next(self, number: int) -> Any:
        count = self.count()
        for tried in range(1, count):
            if found := read_each(self.dataset, [(number + tried) % count])[0]:
                return found[0]
        raise ValueError(f"the source {self.name!r} has no sample that can be read")

    def close(self) -> None:
        """Closes everything that this process opened."""
        for dataset in datasets_below(self.dataset):
            close_if_possible(dataset)


class StreamSource:
    """A stream; every reader reads all of it, and uses the samples at its own places.

    Args:
        name: Its name in the mixture.
        stream: The stream.
    """

    def __init__(self, name: str, stream: Any) -> None:
        self.name = name
        self.stream = stream

    def count(self) -> int | None:
        """Returns the number of samples; None if all of the stream would have to be read."""
        view: Any = alone(self.stream)
        try:
            return len(view)
        except TypeError:
            return None

    def content_id(self) -> str:
        """Returns an identifier of its samples; "" if unknown."""
        return content_of(self.stream)

    def order_dict(self) -> dict[str, Any]:
        """Returns the values that determine the order of the stream if one reader reads all of it."""
        view: Any = alone(self.stream)
        order: dict[str, Any] = view.order_dict()
        return order

    def load_order_dict(self, order: Any) -> bool:
        """Takes over the order of a state; returns whether it changed."""
        before = self.order_dict()
        self.stream.load_order_dict(order)
        return before != self.order_dict()

    def by_number(self, *, shuffle: bool) -> Source:
        """Returns a source that reads the stream by number, or this one if it allows no random access."""
        # The `__iter__` of a subclass may join neighbouring samples, or also read another dataset.
        if type(self.stream).__iter__ is not IPFSIterableDataset.__iter__:
            return self
        samples = samples_by_number(self.stream)
        if samples is None:
            return self
        return NumberedSource(self.name, _StreamByNumber(self.stream, samples), shuffle=shuffle)

    def close(self) -> None:
        """Closes everything that this process opened."""
        close_if_possible(self.stream)


class _StreamByNumber:
    """A stream as a map-style dataset.

    Args:
        stream: The stream.
        samples: Its samples.
    """

    def __init__(self, stream: IPFSIterableDataset, samples: SamplesByNumber) -> None:
        self._stream = stream
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Returns samples, fetched together; skipped samples are replaced."""
        found = self._samples.read(iter(numbers), hinted=True, replaces=True)
        return [sample for _, sample in found]

    def block_memory(self) -> int:
        """Returns the number of bytes of verified blocks that each process keeps in memory."""
        return self._samples.memory

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns the end of each run of samples of about `size` bytes, as the number of the next sample."""
        return self._samples.block_stops(size)

    def content_id(self) -> str:
        """Returns the CIDs of the stream."""
        return self._samples.content_id()

    def close(self) -> None:
        """Closes the stream's connections in this process."""
        self._stream.close()


Source = NumberedSource | StreamSource


def source_of(name: str, dataset: Any, *, shuffle: bool) -> Source:
    """Returns a source for a dataset given by the user.

    Raises:
        TypeError: The dataset cannot be mixed.
    """
    if isinstance(dataset, BlockShuffleSampler):
        return NumberedSource(name, dataset, shuffle=shuffle)
    if isinstance(dataset, ResumableStream):
        return StreamSource(name, dataset)
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"the source {name!r} is a {type(dataset).__name__}, which distributes its samples itself: a "
            "mixture takes map-style datasets, and streams of this library"
        )
    check_map_style(
        dataset,
        f"the source {name!r} is a {type(dataset).__name__}: a mixture takes map-style datasets, with len() "
        "and [], and streams of this library",
    )
    return NumberedSource(name, dataset, shuffle=shuffle)


def alone(stream: Any) -> Any:
    """Returns a view of a stream that yields all samples in every process, with an epoch of its own."""
    view: Any = stream.with_split("none")
    _detach(view)
    return view


def _detach(view: Any) -> None:
    if view.has_progress:
        view._start_progress(view._batch)  # noqa: SLF001 - a copy of our own
    for value in vars(view).values():
        if isinstance(value, ResumableStream):
            _detach(value)


class NumberedReader:
    """Reads the places of one source, in ascending order.

    Args:
        source: The source.
        number: The number of the source in the schedule.
        schedule: The source of every place.
        lanes: The lanes of the mixture.
        lanes_read: Number of lanes from which this reader reads.
        key: Values that determine the order.
    """

    def __init__(
        self,
        source: NumberedSource,
        number: int,
        schedule: MixtureSchedule,
        lanes: Lanes,
        lanes_read: int,
        *key: object,
    ) -> None:
        self.source = source
        self._number = number
        self._schedule = schedule
        self._lanes = lanes
        self._lanes_read = lanes_read
        self._key = key
        self._count = source.count()
        # The place in the mixture at which the current pass over the source ends.
        self._stop = -1

    def at(self, place: int, lane: int, before: int) -> int:
        """Returns the number of the sample at a place.

        Args:
            place: The place.
            lane: Its lane.
            before: How often the source occurred before in the lane.
        """
        if place >= self._stop:
            self._begin_turn(place)
        index = before - self._begins[lane]
        reader = self._readers.get(lane)
        if reader is None:
            start = self._starts[lane]
            stop = start + self._sizes[lane]
            reader = self._readers[lane] = LaneReader(self._numbers(start, stop, index), index)
        return reader.read(index)

    def _begin_turn(self, place: int) -> None:
        count, schedule, number = self._count, self._schedule, self._number
        turn = sum(schedule.counts(number, place)) // count
        start = schedule.place(number, turn * count) if turn else 0
        self._stop = schedule.place(number, (turn + 1) * count)
        self._begins = schedule.counts(number, start)
        ends = schedule.counts(number, self._stop)
        self._sizes = [end - begin for begin, end in zip(self._begins, ends, strict=True)]
        self._starts = [sum(self._sizes[:lane]) for lane in range(len(self._sizes))]
        self._numbers = self.source.numbers(self._lanes, self._lanes_read, *self._key, turn)
        self._readers: dict[int, LaneReader] = {}


class StreamReader:
    """Reads a whole stream repeatedly.

    Args:
        source: The source.
        number: The number of the source in the schedule.
        schedule: The source of every place.
        epoch: The epoch of the mixture.
    """

    def __init__(
        self, source: StreamSource, number: int, schedule: MixtureSchedule, epoch: int
    ) -> None:
        self.source = source
        self._number = number
        self._schedule = schedule
        self._epoch = epoch
        self._view = alone(source.stream)
        self.count = source.count()
        self._samples: Iterator[Any] | None = None
        self._turn = self._read = 0
        self._sample: Any = None

    def reaches(self, place: int) -> bool:
        """Returns whether the first pass of the stream has samples for all places before the given one."""
        index = sum(self._schedule.counts(self._number, place))
        if self.count is None and index:
            self._go_to(0, index)
        return self.count is None or index <= self.count

    def at(self, place: int) -> Any:
        """Returns the sample at a place."""
        index = sum(self._schedule.counts(self._number, place))
        if self.count is None:
            self._go_to(0, index + 1)
        if self.count is not None and index >= self._read_in_all:
            turn, number = divmod(index, self.count)
            if not self._go_to(turn, number + 1):
                raise ValueError(
                    f"the source {self.source.name!r} ended after {self._read} samples, but has {self.count}"
                )
        return self._sample

    @property
    def _read_in_all(self) -> int:
        return self._turn * (self.count or 0) + self._read

    def _go_to(self, turn: int, read: int) -> bool:
        """Reads a turn up to a number of samples; returns whether it has that many."""
        if self._samples is None or turn != self._turn:
            # A stream with a state starts at the sample; in others, all samples before it are read.
            begins_there = self._view.has_progress and not self._view.replays
            skipped = read - 1 if begins_there else 0
            self._begin_turn(turn, skipped)
            self._read_up_to(read)
            if self.count is None and self._read == skipped < read:
                self._begin_turn(turn, 0)  # ended earlier: read to the end to find out where
        self._read_up_to(read)
        if self._read < read:
            self.count = self._read if self.count is None else self.count
            return False
        return True

    def _begin_turn(self, turn: int, skipped: int) -> None:
        """Begins to read the stream again, without its first samples."""
        self._turn = turn
        self._view.move(self._epoch + turn, skipped)
        self._samples, self._read = iter(self._view), skipped

    def _read_up_to(self, read: int) -> None:
        assert self._samples is not None
        for sample in islice(self._samples, read - self._read):
            self._sample = sample
            self._read += 1
