"""Shuffles another dataset with a buffer, and by shuffle blocks if the dataset has them."""

from __future__ import annotations

import copy
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from torch.utils.data import IterableDataset, Subset

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset, check_length_holds
from ipfs_dataset_core.datasets.map_style_check import check_map_style
from ipfs_dataset_core.datasets.resumable import (
    BELOW,
    READERS,
    SHARING,
    Reading,
    ResumableStream,
    StreamIterator,
)
from ipfs_dataset_core.datasets.shuffle_source import read_as_they_enter, source_of
from ipfs_dataset_core.errors import StateError
from ipfs_dataset_core.order.dataset_blocks import content_of, parts_of
from ipfs_dataset_core.order.global_order import Lanes
from ipfs_dataset_core.order.laned_order import (
    LanedOrder,
    default_lanes,
    lanes_given,
    lanes_of_reader,
)
from ipfs_dataset_core.order.order_state import OrderState
from ipfs_dataset_core.order.reader_rank import job_to_carry, reader_of_stream
from ipfs_dataset_core.order.sharding import (
    ReaderRank,
    known_distribution,
    known_split,
    makes_ranks_equal,
)
from ipfs_dataset_core.order.shuffled_blocks import default_window, keyed_random
from ipfs_dataset_core.order.stream_places import ReaderPlaces, stop_of_stream
from ipfs_dataset_core.runtime.whole_numbers import known_seed, whole_number

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Mapping

    from torch.utils.data import Dataset
    from typing_extensions import Self

    from ipfs_dataset_core.datasets.shuffle_source import SamplesByNumber
    from ipfs_dataset_core.order.reader_rank import Job
    from ipfs_dataset_core.order.sharding import Distribution, Split

T = TypeVar("T")

# All but one in twenty samples leave the buffer after this many times its size.
_HELD = 3


@attrs.frozen(kw_only=True)
class _Order:
    """Everything that determines the order, besides seed and epoch."""

    buffer: int
    block: int
    window: int
    lanes: Lanes
    chunk: int | None = None

    def chunk_in(self, world: int, batch: int | None) -> int:
        if self.chunk is not None:
            return self.chunk
        return max(self.lanes.ranks, (batch or 1) * world)


class ShuffleDataset(ResumableStream):
    """Yields the samples of another dataset in random order, using a buffer.

    A sample can move by about the size of the buffer; a larger buffer shuffles better. If the dataset has
    shuffle blocks, groups of samples that are stored together, the input of the buffer is already shuffled.
    That applies to an `IPFSDataset`, an imported dataset, a `Subset` or `ConcatDataset` of these, and an
    `IPFSIterableDataset` without an ``__iter__`` of its own.

    If the samples of the dataset are numbered, the buffer holds numbers, the order is one global sequence for
    any number of ranks and workers, and a resumed epoch reads nothing before its place. For other streams the
    buffer holds the samples themselves: each reader shuffles its own share, and a resumed epoch is read from
    its beginning.

    Args:
        dataset: Map-style or iterable.
        buffer_size: Number of samples in the buffer.
        seed: Determines the order, together with the epoch.
        batch_size: The loader's batch size, as for `IPFSIterableDataset`; by default that of a wrapped
            stream.
        lanes: As for `IPFSIterableDataset`; by default as many as the `memory` of the wrapped dataset can
            hold.
        distribution: As for `IPFSIterableDataset`; by default that of a wrapped stream.
        split: As for `IPFSIterableDataset`; by default that of a wrapped stream.

    Raises:
        TypeError: `dataset` is neither a stream nor a map-style dataset.
        ValueError: `split` is given for a stream of another library, which splits its samples itself.
    """

    _fields_of_state = (BELOW, READERS)

    def __init__(
        self,
        dataset: Dataset[Any],
        buffer_size: int = 1000,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        lanes: int | tuple[int, int] | None = None,
        distribution: Distribution | None = None,
        split: Split = "auto",
    ) -> None:
        if not isinstance(dataset, IterableDataset):
            check_map_style(
                dataset,
                "a ShuffleDataset takes a stream, or a map-style dataset with len() and [], not a "
                f"{type(dataset).__name__}",
            )
        self._dataset = dataset
        self._buffer_size = whole_number("buffer_size", buffer_size, least=1)
        self._split = known_split(split)
        if split != "auto" and isinstance(dataset, IterableDataset):
            if not isinstance(dataset, (IPFSIterableDataset, ShuffleDataset)):
                raise ValueError(
                    f"{type(dataset).__name__} splits its samples itself: split={split!r} has no effect on it"
                )
            self._dataset = dataset.with_split(split)
        self._seed = known_seed(seed)
        below = dataset if isinstance(dataset, IPFSIterableDataset) else None
        self._lanes = None if lanes is None else lanes_given(lanes)
        self._given_distribution = known_distribution(distribution) or getattr(
            below, "_distribution", None
        )
        self._carried: Job | None = None
        self._order: _Order | None = None
        self._known_source: SamplesByNumber | None = None
        if batch_size is None:
            batch_size = getattr(below, "_batch", None)
        self._start_progress(batch_size)

    def __repr__(self) -> str:
        """Returns the dataset and the parameters of the shuffling."""
        how = f"buffer of {self._buffer_size}, seed {self._seed}"
        return f"<{type(self).__name__} {how}, of {self._dataset!r}>"

    def __iter__(self) -> Iterator[Any]:
        return StreamIterator(self)

    def __len__(self) -> int:
        """Returns the number of samples for this rank; after loading a state, of the remaining samples.

        Raises:
            TypeError: The wrapped dataset has no `len`, or a subclass has an ``__iter__`` of its own.
        """
        check_length_holds(self)
        source = self._source()
        if source is None:
            whole = len(self._dataset)  # type: ignore[arg-type]
            return max(0, whole - self._read_by_rank(self._start_of_length()))
        job, _ = reader_of_stream(self._carried, self._effective_split)
        if isinstance(self._dataset, IPFSIterableDataset):
            self._dataset.check_countable(replaces=self._replaces(job))
        total = len(source)
        start = self._start_of_length()
        return self._places(ReaderRank(job.rank, job.world), start, total, job).of_rank

    def __bool__(self) -> bool:
        """Returns True, as for any iterable dataset: a truth test must neither read nor fail."""
        return True

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch, also for the wrapped dataset.

        If it is never called, each epoch that was read to its end is followed by the next one.
        """
        super().set_epoch(epoch)
        self._set_below(epoch)

    def content_id(self) -> str:
        """Returns what the samples below are made of, "" where that is unknown."""
        source = self._source()
        return content_of(self._dataset) if source is None else source.content_id()

    def sharing(self) -> str:
        if self._source() is not None:
            return ""
        return ", ".join(stream.shares() for stream in self._streams_below().values())

    def _places_of_ranks(self) -> int | None:
        job, _ = reader_of_stream(self._carried, self._effective_split)
        source = self._source()
        return None if source is None or job.world == 1 else self._stop_for(len(source), 0, job)

    def close(self) -> None:
        """Closes the connections of the wrapped dataset in this process; a later use opens them again."""
        for dataset in datasets_below(self._dataset):
            close_if_possible(dataset)

    def with_split(self, split: Split) -> Self:
        """Returns a view of this dataset whose samples are split differently; see `IPFSIterableDataset`."""
        view = copy.copy(self)
        view._split, view._carried = known_split(split), self._carried  # noqa: SLF001 - of the same class
        if isinstance(self._dataset, (IPFSIterableDataset, ShuffleDataset)):
            view._dataset = self._dataset.with_split(split)  # noqa: SLF001
        return view

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_carried": job_to_carry(self._carried), "_record": None}

    @property
    def _may_be_numbered(self) -> bool:
        """Whether the wrapped samples may be numbered."""
        if not isinstance(self._dataset, IterableDataset):
            return True
        # The `__iter__` of a subclass may join neighbouring samples, or also read another dataset.
        return type(self._dataset).__iter__ is IPFSIterableDataset.__iter__

    @property
    def replays(self) -> bool:
        """Whether a resumed epoch is read from its start, because the samples below have no numbers."""
        return self._source() is None

    @property
    def _depends_on_epoch(self) -> bool:
        return True

    def _streams_below(self) -> dict[str, ResumableStream]:
        """The streams below that have orders of their own, by number."""
        below = enumerate(datasets_below(self._dataset))
        return {str(n): stream for n, stream in below if isinstance(stream, ResumableStream)}

    def _source(self) -> SamplesByNumber | None:
        if self._known_source is None and self._may_be_numbered:
            self._known_source = source_of(self._dataset)
        return self._known_source

    @property
    def _effective_split(self) -> Split:
        if self._split == "auto" and isinstance(self._dataset, IPFSIterableDataset):
            return getattr(self._dataset, "_split", "auto")
        return self._split

    def _set_below(self, epoch: int) -> None:
        for dataset in datasets_below(self._dataset):
            set_below = getattr(dataset, "set_epoch", None)
            if set_below is not None:
                set_below(epoch)

    def _order_of(self, source: SamplesByNumber) -> _Order:
        if self._order is None:
            block, memory = source.block, source.memory
            lanes, mixed = self._lanes or Lanes(), 1
            if block:
                lanes = self._lanes or default_lanes(memory, block)
                window = default_window(memory, block)
                behind = self._blocks_behind(source)
                mixed = (window if 2 * behind > window else window - behind) // lanes.count
            self._order = _Order(
                buffer=self._buffer_size, block=block, window=max(1, mixed), lanes=lanes
            )
        return self._order

    def _blocks_behind(self, source: SamplesByNumber) -> int:
        """Returns the number of shuffle blocks that contain the samples whose numbers are in the buffer."""
        blocks, count = len(source.block_stops(source.block)), len(source)
        return -(-_HELD * self._buffer_size * blocks // max(1, count))

    def _places(self, reader: ReaderRank, start: int, total: int, job: Job) -> ReaderPlaces:
        stop = self._stop_for(total, start, job)
        return ReaderPlaces(reader, self._batch or 1, start, stop, contiguous=False)

    def _stop_for(self, total: int, start: int, job: Job) -> int:
        distribution = self._given_distribution or job.distribution
        return stop_of_stream(total, start, job.world, self._batch, distribution)

    def _world(self) -> int:
        return reader_of_stream(self._carried, self._effective_split)[0].world

    def _total(self) -> int | None:
        source = self._source()
        return None if source is None else len(source)

    def _order_state(self, epoch: int, position: int) -> OrderState:
        source = self._source()
        if source is None:
            return OrderState(
                order="buffer over a stream",
                data=self.content_id(),
                samples=None,
                seed=self._seed,
                epoch=epoch,
                position=position,
                parameters={"buffer": self._buffer_size},
            )
        order = self._order_of(source)
        return OrderState(
            order="buffer over shuffled blocks" if order.block else "buffer over numbers",
            data=source.content_id(),
            samples=len(source),
            seed=self._seed,
            epoch=epoch,
            position=position,
            parameters={
                "buffer": order.buffer,
                "block_bytes": max(1, order.block),
                "window": order.window,
                "lanes": order.lanes.ranks,
                "worker_lanes": order.lanes.workers,
                "chunk": self._progress.chunk or order.chunk_in(self._world(), self._batch),
            },
            derived=frozenset({"chunk"}),
        )

    def _adopt(self, found: OrderState, state: Mapping[str, Any]) -> None:
        source = self._source()
        if source is None:
            self._load_below(self._streams_below(), state.get(BELOW, {}))
        elif BELOW in state:
            raise StateError(f"this state has {BELOW}, and samples below are read by number")
        self._seed, parameters = found.seed, found.parameters
        self._buffer_size = parameters["buffer"]
        if source is not None:
            self._order = _Order(
                buffer=parameters["buffer"],
                block=parameters["block_bytes"] if source.block else 0,
                window=parameters["window"],
                lanes=Lanes(parameters["lanes"], parameters["worker_lanes"]),
                chunk=parameters["chunk"],
            )

    def _reading(self, epoch: int, start: int) -> Reading:
        job, reader = reader_of_stream(self._carried, self._effective_split)
        source = self._source()
        if source is None:
            before = self._read_before(start, reader)
            self._set_below(epoch)
            key = ("buffer", self._seed, epoch, reader.index, reader.count)
            share = _Share(self._dataset, self._buffer_size, *key)
            return Reading(
                epoch=epoch,
                start=start,
                reader=reader,
                batch=self._batch or 1,
                in_parts=lambda: reader.count > 1,
                read=lambda taken: chain.from_iterable(_read_share(share, reader, before, taken)),
                read_on=lambda _: share.read_on(),
            )
        return Reading(
            epoch=epoch,
            start=start,
            reader=reader,
            batch=self._batch or 1,
            in_parts=lambda: False,
            read=lambda taken: self._by_number(
                source,
                reader,
                epoch,
                self._places(reader, start, len(source), job).turns(taken),
                replaces=self._replaces(job),
            ),
        )

    def _state_at(self, epoch: int, place: int) -> dict[str, Any]:
        state = super()._state_at(epoch, place)
        if self._source() is not None:
            return state
        if below := self._streams_below():
            state[BELOW] = {name: stream.order_dict() for name, stream in below.items()}
        if place:  # each reader shuffles its own share
            progress = self._progress
            of_start = (progress.epoch, progress.start) == (epoch, place) and any(progress.readers)
            mine = (self._world(), max(1, progress.workers), self._batch or 1)
            ranks, workers, batch = progress.readers if of_start else mine
            state[READERS] = [ranks, workers, batch]
            if ranks * workers > 1 and (sharing := self.sharing()):
                state[SHARING] = sharing
        return state

    def _read_before(self, start: int, reader: ReaderRank) -> int:
        """Returns the number of samples that a reader of a stream without numbers read before a place.

        Raises:
            StateError: The place belongs to other readers, which had other samples.
        """
        if not start:
            return 0
        batch = self._batch or 1
        ranks, workers, size = self._progress.readers
        if (ranks, workers) != (reader.world, reader.workers) or (
            reader.count > 1 and size != batch
        ):
            raise StateError(
                f"this state is of {ranks} ranks with {workers} readers each and batches of "
                f"{size}, but this job has {reader.world} ranks with {reader.workers} readers each "
                f"and batches of {batch}: the samples of the wrapped dataset are not numbered, so "
                "that each reader shuffles its share, and only as many readers can go on"
            )
        if reader.count == 1:
            return start
        turns, rest = divmod(start // (batch * reader.world), reader.workers)
        return (turns + (reader.worker < rest)) * batch

    def _read_by_rank(self, start: int) -> int:
        """Returns the number of samples that each rank of a stream without numbers read before a place."""
        ranks, workers, batch = self._progress.readers
        if not start or ranks * workers <= 1:
            return start
        return start // (batch * ranks) * batch

    def _replaces(self, job: Job) -> bool:
        """Returns whether a skipped sample is replaced by another, because ranks have to be equal."""
        distribution = self._given_distribution or job.distribution
        return self._batch is not None or makes_ranks_equal(job.world, distribution)

    def _by_number(
        self,
        source: SamplesByNumber,
        reader: ReaderRank,
        epoch: int,
        places: Iterator[range],
        *,
        replaces: bool,
    ) -> Iterator[Any]:
        order, total = self._order_of(source), len(source)
        self._progress.chunk = order.chunk_in(reader.world, self._batch)
        if not total:
            return iter(())
        key = (self._seed, epoch)
        laned = LanedOrder(
            total=total,
            steps=source.steps(order.block, order.window, *key),
            lanes=order.lanes,
            chunk=order.chunk_in(reader.world, self._batch),
            window=order.window,
            block=order.block,
            buffer=order.buffer,
            key=key,
        )
        lanes = lanes_of_reader(order.lanes, reader, self._batch)
        hinted = laned.is_hinted(source.memory, lanes)
        # If memory cannot hold the blocks of the buffered numbers, the buffer holds samples.
        holds = source.block and 2 * self._blocks_behind(source) > default_window(
            source.memory, source.block
        )
        holds = bool(holds) and lanes * reader.count == order.lanes.count
        numbers = laned.numbers(places, lanes=lanes, hinted=hinted, holding=holds)
        if holds:
            found = read_as_they_enter(numbers, source, hinted=hinted, replaces=replaces)
        else:
            found = source.read(numbers, hinted=hinted, replaces=replaces)
        return map(itemgetter(1), found)


class _Share:
    """A reader's share of a stream without numbers, shuffled by a buffer.

    Args:
        dataset: The stream.
        size: How many samples the buffer holds.
        key: What the order depends on.
    """

    def __init__(self, dataset: Any, size: int, *key: object) -> None:
        self._dataset = dataset
        self._size = size
        self._key = key

    def read(self) -> Iterator[Any]:
        """Yields the samples from the first on."""
        self._samples: Iterator[Any] = iter(self._dataset)
        self._random = keyed_random(*self._key)
        self._buffer: list[Any] = []
        return self.read_on()

    def read_on(self) -> Iterator[Any]:
        """Yields those that are left after an error of the stream."""
        return shuffled(self._samples, self._size, self._random, self._buffer)


def _read_share(
    share: _Share, reader: ReaderRank, before: int, taken: int
) -> Iterator[Iterator[Any]]:
    """Yields one iterator: over the samples of a reader's share of a stream without numbers.

    Args:
        share: The share.
        reader: The reader.
        before: How many of its samples were read before the iteration.
        taken: How many of the others to leave out.

    Raises:
        StateError: It has fewer samples than were read before, so that others read more.
    """
    samples = share.read()
    passed = sum(1 for _ in islice(samples, before))
    if passed < before:
        raise StateError(
            f"by this state reader {reader.index} of {reader.count} read {before} samples, but it has "
            f"{passed}: the others had read more by then, and nothing tells which. Take states before "
            "the first of the readers has come to its end"
        )
    yield islice(samples, taken, None)


def shuffled(
    samples: Iterable[T], size: int, generator: random.Random, buffer: list[T] | None = None
) -> Iterator[T]:
    """Yields `samples` in random order through a buffer of `size`.

    Args:
        samples: What is shuffled.
        size: How many samples the buffer holds.
        generator: Draws the random numbers.
        buffer: What the buffer holds already. After an error of `samples` it has what was not yielded yet,
            and can be given once more.
    """
    samples, buffer = iter(samples), [] if buffer is None else buffer
    buffer += islice(samples, size - len(buffer))
    pick = generator.random
    for sample in samples:
        position = int(pick() * size)
        leaving, buffer[position] = buffer[position], sample
        yield leaving
    while buffer:
        position = int(pick() * len(buffer))
        leaving, buffer[position] = buffer[position], buffer[-1]
        buffer.pop()
        yield leaving


def datasets_below(dataset: Any) -> Iterator[Any]:
    """Yields the datasets read by torch's own combinations of datasets, or the dataset itself."""
    parts = [dataset.dataset] if isinstance(dataset, Subset) else parts_of(dataset)
    for part in parts:
        yield from datasets_below(part)
    if not parts:
        yield dataset


def close_if_possible(dataset: Any) -> None:
    """Closes a dataset that has a `close` method."""
    close = getattr(dataset, "close", None)
    if close is not None:
        close()
