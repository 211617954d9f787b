"""Streams that resume where another job stopped: their iterators and their state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import attrs
from torch.utils.data import IterableDataset, get_worker_info

from ipfs_dataset_core.datasets.composed import loses_one
from ipfs_dataset_core.errors import IPFSDatasetError, IPFSDatasetWarning, StateError
from ipfs_dataset_core.order.epoch_progress import EpochProgress
from ipfs_dataset_core.order.order_state import check_batches, number_in
from ipfs_dataset_core.order.outer_sharding import is_length_of_epoch, is_read_by
from ipfs_dataset_core.runtime.short_traceback import short_traceback
from ipfs_dataset_core.runtime.user_warnings import warn_user
from ipfs_dataset_core.runtime.whole_numbers import MOST, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from typing_extensions import Self

    from ipfs_dataset_core.order.order_state import OrderState
    from ipfs_dataset_core.order.sharding import ReaderRank

# In states from which only one reader can resume: that reader, the number of places (or samples without
# places) it has read, and the last of these places.
_READER, _READ, _LAST, _DONE = "reader", "read", "last_place", "done"
# And how samples are shared out to readers.
SHARING = "sharing"
_NUMBERS_OF_READER = 5
# In states of compositions: the orders of the wrapped datasets, and the fields of each.
BELOW = "below"
_ORDER = ("order", "seed", "parameters", BELOW)
# In states from which only equally many readers can resume: ranks, workers per rank, and batch size.
READERS = "readers"
_NUMBERS_OF_READERS = 3


_END = object()


class OrderedDataset(Protocol):
    """A dataset with an order of its own, which is a part of the state of what reads it."""

    def order_dict(self) -> dict[str, Any]:
        """Returns what the order follows from."""

    def load_order_dict(self, order: Any) -> bool:
        """Makes the order the one of a state; returns whether it was another."""


@attrs.frozen(kw_only=True)
class Reading:
    """What one reader reads in an iteration.

    Args:
        epoch: The epoch.
        start: The place in the global sequence at which the iteration begins.
        reader: The reader.
        batch: Batch size of its loader.
        in_parts: Returns whether each reader reads a part of the data, so that the readers share no place.
        read: Yields its samples, skipping the given number.
        left_out: Returns the number of places whose samples were skipped without a replacement.
        last_place: Returns the last of the first places of a reader, given their number, at least 1, and its
            rank; None if the samples that it reads do not depend on how ranks are made equal, or have no
            places.
        read_on: Like `read`, after code of the user, such as a transform, has failed; by default `read`.
    """

    epoch: int
    start: int
    reader: ReaderRank
    batch: int
    in_parts: Callable[[], bool]
    read: Callable[[int], Iterator[Any]]
    left_out: Callable[[], int] = lambda: 0
    last_place: Callable[[int, int], int | None] = lambda _taken, _rank: None
    read_on: Callable[[int], Iterator[Any]] | None = None


class Record:
    """The progress of this process in an iteration.

    Args:
        reading: What it reads.
        taken: Number of its samples that were read before, and of those left out among them.
        times_set: How often the epoch had been set when the iteration began.
    """

    def __init__(self, reading: Reading, taken: int, times_set: int) -> None:
        self.reading = reading
        self.began = self.taken = taken
        self.times_set = times_set
        self.done = self.failed = False

    @property
    def passed(self) -> int:
        """Number of samples read, and of those left out among them."""
        return self.taken + self.reading.left_out()

    def check_began(self) -> None:
        """Checks, if nothing was left to read, that the samples that were read before exist.

        Raises:
            StateError: The loaded state counts more samples than this reader has.
        """
        reading = self.reading
        if not self.began or self.taken > self.began or reading.left_out():
            return
        if next(reading.read(self.began - 1), None) is None and not reading.left_out():
            raise StateError(
                f"according to this state, reader {reading.reader.index} of {reading.reader.count} "
                f"read {self.began} samples, but it has fewer: the state was modified, or belongs "
                "to another loader"
            )

    def position(self) -> int | None:
        """Returns the place up to which all readers have read, if they have read as much as this one.

        None if the samples read do not form a range of the global sequence.
        """
        reading, reader = self.reading, self.reading.reader
        if not self.taken:
            return reading.start
        if reader.workers > 1 or reading.in_parts():
            return None
        if reader.world > 1 and self.taken % reading.batch and not self.done:
            return None
        return reading.start + self.passed * reader.world


class StreamIterator:
    """Yields the samples of one reader; torchdata's `StatefulDataLoader` saves its state.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: ResumableStream) -> None:
        self._stream = stream
        self._begin()

    def _begin(self, *, loaded: bool = False) -> None:
        self._record: Record | None = None
        with short_traceback:
            try:
                self._record = self._stream.begin(loaded=loaded)
                self._samples = self._record.reading.read(self._record.taken)
                if loaded and get_worker_info() is not None:
                    self._samples = self._with_first(self._record, self._samples)
            except IPFSDatasetError as error:
                if get_worker_info() is None:
                    raise
                # A persistent worker reports errors to its loader only while fetching samples.
                self._samples = _failed(error)

    def _with_first(self, record: Record, samples: Iterator[Any]) -> Iterator[Any]:
        """Reads the first sample now; if there is none, this worker has finished its part of the epoch.

        The state of a worker that yielded its last batch does not contain that it was the last one. After
        loading the states of an ended epoch, a `StatefulDataLoader` starts the workers of the next epoch at
        once. All of these must find that the epoch is finished; otherwise some read it again.
        """
        try:
            first = next(samples, _END)
            if first is _END:
                record.check_began()
        except Exception:  # noqa: BLE001 - raised again when the sample is needed
            return record.reading.read(record.taken)
        if first is not _END:
            return chain((first,), samples)
        self._stream.finish(record)
        return iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        record = self._record
        try:
            sample = next(self._samples)
        except StopIteration:
            if record is not None and not record.failed:
                with short_traceback:
                    record.check_began()
                self._stream.finish(record)
            raise
        except BaseException as error:
            # The rest of an object that failed is lost, so following samples must not be mistaken for the
            # next ones. A failing transform of the user loses one sample.
            if record is not None and loses_one(error):
                self._samples = self._read_on(record, self._samples)
            else:
                self._samples = iter(())
                if record is not None:
                    record.failed = True
            with short_traceback:  # only here, because entering it for each sample takes time
                raise
        if record is not None:
            record.taken += 1
        return sample

    def _read_on(self, record: Record, samples: Iterator[Any]) -> Iterator[Any]:
        """Yields the sample after one on which code of the user failed; later samples are read directly.

        Until then, the state is the one before the lost sample.

        Args:
            record: The progress of the iteration.
            samples: The iterator that raised the error; a generator has ended by then.
        """
        record.taken += 1
        self._samples = samples
        sample = next(samples, _END)
        if sample is _END:
            self._samples = (record.reading.read_on or record.reading.read)(record.passed)
            sample = next(self._samples, _END)
        if sample is not _END:
            yield sample

    def state_dict(self) -> dict[str, Any]:
        """Returns the state after the samples yielded so far."""
        if self._record is None:
            return self._stream.state_dict()
        return self._stream.state_of(self._record)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes where a state was taken; see `ResumableStream.load_state_dict`."""
        self._stream.load_state_dict(state)
        self._stream._counts_whole = True  # noqa: SLF001 - its own iterator
        self._begin(loaded=True)


class ResumableStream(IterableDataset[Any]):
    """A stream that is one global sequence for any number of ranks and workers, with a state."""

    _progress: EpochProgress
    _batch: int | None
    _record: Record | None
    _order_changes: int
    # Whether the length is that of a whole epoch, even if the resumed iteration has fewer samples.
    _counts_whole: bool
    _counts_left: bool
    # Names in states of this kind of stream, besides those of all states.
    _fields_of_state: ClassVar[Collection[str]] = ()
    # The only reader that can resume.
    _resume: _ReaderOfState | None
    # How the readers of a loaded state shared the samples out; None if any readers can resume.
    _shared_as: str | None

    def __getitem__(self, index: Any) -> Any:
        """Refuses, since a stream has no random access.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"{type(self).__name__} is read in order and has no sample [{index!r:.40}]: use IPFSDataset or "
            "load for samples by number, which Subset and random_split need, and next(iter(dataset)) for the "
            "first sample"
        )

    def _start_progress(self, batch: int | None) -> None:
        """Sets the attributes that all streams have.

        Args:
            batch: Batch size of the loader; None if unknown.
        """
        if batch is not None:
            batch = whole_number("batch_size", batch, least=1)
        self._progress = EpochProgress()
        # Number of changes of the order by states in this copy of the stream; see `_note_change`.
        self._order_changes = 0
        self._batch = batch
        self._record = self._resume = self._shared_as = None
        self._counts_whole = self._counts_left = False

    @abstractmethod
    def _order_state(self, epoch: int, position: int) -> OrderState:
        """Returns the state of a place in the global sequence of an epoch."""

    @abstractmethod
    def _adopt(self, found: OrderState, state: Mapping[str, Any]) -> None:
        """Takes over the parameters of a state.

        Args:
            found: The state.
            state: The state as given, including fields specific to some streams.
        """

    @abstractmethod
    def _total(self) -> int | None:
        """Returns the number of places of an epoch; None if all of it would have to be read."""

    @abstractmethod
    def _reading(self, epoch: int, start: int) -> Reading:
        """Returns what this reader reads in an iteration."""

    @abstractmethod
    def _world(self) -> int:
        """Returns the number of ranks that read."""

    def _start_of_length(self) -> int:
        """Returns the place from which `len` counts samples.

        It is the start of the epoch if torchdata's loaders or Lightning resume the epoch, as they expect.
        """
        if self._progress.finished:
            return 0
        if not self._counts_left and (self._counts_whole or is_length_of_epoch()):
            return 0
        return self._progress.start

    @property
    def has_progress(self) -> bool:
        """Whether this stream has an epoch and a place of its own.

        A subclass that only wraps another stream need not call ``super().__init__()``, and has none then.
        """
        return hasattr(self, "_progress")

    def move(self, epoch: int, place: int) -> None:
        """Makes the next iteration begin at a place of an epoch; at its start if it only wraps another.

        Args:
            epoch: The epoch.
            place: The place in the global sequence.
        """
        self.set_epoch(epoch)
        if self.has_progress:
            self._progress.move(epoch, place)

    @property
    def replays(self) -> bool:
        """Whether a resumed epoch is read from its start, and what comes before the place is left out."""
        return False

    @property
    @abstractmethod
    def _depends_on_epoch(self) -> bool:
        """Whether epochs have different orders."""

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Returns the state that a job needs to resume here: less than 1 KB of JSON.

        For a `MixedDataset`, it is less than 200 bytes more for each source, without their names.

        Args:
            batches: Number of batches of this iteration that were trained on. Only the training loop has this
                number, because a loader's workers read ahead. Without it, the state covers the samples read
                in this process or, if a loader's workers read, the beginning of the iteration. (torchdata's
                `StatefulDataLoader` counts by itself.)

        Raises:
            ValueError: `batches` is given without `batch_size`, or exceeds the batches of the epoch.
        """
        progress = self._progress
        if batches is not None:
            if batches and self._batch is None:
                raise ValueError("state_dict(batches=…) counts batches: give the stream batch_size")
            size = (self._batch or 0) * self._world()
            total = self._total() if batches else None
            batches = check_batches(batches, progress.start, total, size)
            return self._state_at(progress.epoch, progress.start + batches * size)
        record = self._record
        if record is not None and record.times_set == progress.times_set:
            return self.state_of(record)
        if progress.finished:
            return self._state_at_end(progress.epoch)
        return self._state_at(progress.epoch, progress.start)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next iteration resume where a state was taken, with any number of ranks and workers.

        Seed, epoch and parameters of the order are taken from the state.

        Warns:
            IPFSDatasetWarning: Arguments differ from those of the state.

        Raises:
            StateError: The state is of other data or another version.
        """
        mine = self._order_state(0, 0)
        found = mine.read(state, {_READER, _READ, _LAST, _DONE, SHARING, *self._fields_of_state})
        resume = _read_by_one(state, (found.epoch, found.position))
        ranks, workers, batch = (
            _numbers(state, READERS, _NUMBERS_OF_READERS) if READERS in state else (0, 0, 0)
        )
        shared_as = state.get(SHARING)
        if shared_as is not None:
            if (ranks if resume is None else resume.reader[1]) == self._world():
                self._check_sharing(shared_as)
            else:  # checked when the readers begin, unless they are running and have no copy of it
                self._note_change()
        self._adopt(found, state)
        self._progress.move(found.epoch, found.position, (ranks, workers, batch))
        if (found.seed, found.parameters) != (mine.seed, mine.parameters):
            self._note_change()
        self._record = None
        self._resume, self._shared_as, self._counts_whole = resume, shared_as, False
        if _DONE in state:
            self._progress.finish(found.epoch)

    def order_dict(self) -> dict[str, Any]:
        """Returns the values that determine the order of this stream, for the state of a wrapping dataset."""
        state = self._state_at(0, 0)
        return {name: state[name] for name in _ORDER if name in state}

    def load_order_dict(self, order: Any) -> bool:
        """Takes over the order in the state of a wrapping dataset; returns whether it changed.

        Args:
            order: The return value of `order_dict`.

        Warns:
            IPFSDatasetWarning: Arguments differ from those of the state.

        Raises:
            StateError: The order is of another kind, or not an order.
        """
        if not isinstance(order, Mapping) or not order.keys() <= set(_ORDER):
            raise StateError(f"this state has {order!r:.200} as the order of the wrapped datasets")
        before = self.order_dict()
        self.load_state_dict({**self._state_at(0, 0), **order})
        return before != self.order_dict()

    def _load_below(self, below: Mapping[str, OrderedDataset], orders: Any) -> None:
        """Takes over the orders of wrapped datasets from a state.

        Args:
            below: The datasets, by name.
            orders: The order of each, as in the state.
        """
        if not isinstance(orders, Mapping) or orders.keys() != below.keys():
            raise StateError(
                f"this state has {BELOW}={orders!r:.200}, which is not the orders of {sorted(below)}"
            )
        changes = [dataset.load_order_dict(orders[name]) for name, dataset in below.items()]
        if any(changes) and self.has_progress:
            self._note_change()

    def _note_change(self) -> None:
        """Counts a change of the order, so that workers started before it are detected."""
        if get_worker_info() is None:
            self._progress.changes += 1
            self._order_changes = self._progress.changes

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch, including in persistent workers.

        If it is never called, each epoch that was read to its end is followed by the next one. If a state was
        loaded, its epoch resumes where the state was taken; any other epoch begins at its start.
        """
        self._progress.set_epoch(epoch)

    def begin(self, *, loaded: bool = False) -> Record:
        """Begins an iteration in this process; returns its record.

        Args:
            loaded: Whether a state was loaded just now, for this iteration.

        Raises:
            StateError: The loaded state belongs to another reader, or this worker was started before a state
                changed the order.
        """
        progress, last = self._progress, self._record
        if get_worker_info() is not None and self._order_changes != progress.changes:
            raise StateError(
                "a state with other parameters of the order was loaded while this worker was "
                "running: create a new DataLoader after load_state_dict, because its workers are "
                "persistent"
            )
        if last is not None and self._all_yielded(last):
            self.finish(last)
        if (
            last is not None
            and last.times_set == progress.times_set
            and last.taken - last.began > (self._batch or 1)
        ):
            progress.was_read()
        iteration = progress.begin(
            self._total() if progress.start else None,
            resumed=self._resume.place if loaded and self._resume is not None else None,
        )
        if iteration.again and self._depends_on_epoch:
            warn_user(
                f"Epoch {iteration.epoch} is read again in the same order: call set_epoch before each epoch",
                IPFSDatasetWarning,
            )
        reading = self._reading(iteration.epoch, iteration.start)
        resume, self._resume = self._resume, None
        # Not for a later epoch, which workers begin with the copy of the stream that the state was loaded in.
        taken = 0
        if resume is not None and (loaded or resume.place == (iteration.epoch, iteration.start)):
            taken = resume.taken
            self._check_reader(resume, reading)
        elif self._shared_as is not None and iteration.start:
            self._check_sharing(self._shared_as)
        self._record = Record(reading, taken, progress.times_set)
        return self._record

    def _check_reader(self, resume: _ReaderOfState, reading: Reading) -> None:
        """Checks that what was read by the reader of a state is what this job has read.

        Raises:
            StateError: It is another reader, or the same reader of a job that shares samples out differently.
        """
        reader, mine = resume.reader, _numbers_of(reading)
        # Ranks read in step, and Lightning saves the state of one rank for all of them: whole batches
        # that another rank has read, this one has read as well.
        in_step = not reading.in_parts() and resume.taken % reading.batch == 0
        if reader != mine and not (in_step and reader[1:] == mine[1:]):
            raise StateError(
                f"this state was taken within the batches of reader {reader}, but this is reader {mine} "
                "(rank, ranks, worker, workers, batch_size): resume with the same numbers, or take the state "
                "with state_dict(batches=…)"
            )
        if self._shared_as is not None:
            self._check_sharing(self._shared_as)
        last = reading.last_place(resume.taken, reader[0])
        if last != resume.last:
            raise StateError(
                f"in the job of this state, reader {reader} (rank, ranks, worker, workers, batch_size) had "
                f"read {resume.taken} samples up to number {resume.last}, but here these end with number "
                f"{last}: samples would be lost or read twice. Give the distribution= of that job until the "
                "epoch ends, or begin the epoch anew"
            )

    def _check_sharing(self, shared_as: Any) -> None:
        """Checks that readers share samples out as those of a state.

        Raises:
            StateError: They share them out differently.
        """
        if shared_as != (sharing := self.sharing()):
            raise StateError(
                f"this state is of readers that share samples out as {shared_as!r:.200}, and here it is "
                f"{sharing!r}: give the streams below the same batch_size and distribution, or begin the "
                "epoch anew"
            )

    def _all_yielded(self, record: Record) -> bool:
        """Returns whether all samples of an iteration were yielded, even without `StopIteration` so far.

        Lightning stops after ``len(loader)`` batches, without reading to the end.
        """
        done = record.done or record.times_set != self._progress.times_set
        if done or not record.taken or record.reading.reader.workers > 1:
            return False
        try:
            self._counts_left = True
            return record.taken >= len(self)  # type: ignore[arg-type]
        except TypeError:
            return False
        finally:
            self._counts_left = False

    def finish(self, record: Record) -> None:
        """Records that an iteration of this process reached its end."""
        if not record.done:
            record.done = True
            self._progress.was_read()
            self._progress.finish(record.reading.epoch)

    def state_of(self, record: Record) -> dict[str, Any]:
        """Returns the state of an iteration of this process."""
        reading, place = record.reading, record.position()
        if place is not None:
            if record.done and reading.reader.workers == 1:
                return self._state_at_end(reading.epoch, place)
            return self._state_at(reading.epoch, place)
        state = self._state_at(reading.epoch, reading.start)
        state[_READER], state[_READ] = _numbers_of(reading), record.passed
        if (last := reading.last_place(record.passed, reading.reader.rank)) is not None:
            state[_LAST] = last
        if record.done:
            state[_DONE] = True
        if sharing := self.sharing():
            state[SHARING] = sharing
        return state

    def sharing(self) -> str:
        """Returns how samples are shared out to readers each of which reads a part, "" if there are none."""
        return ""

    def shares(self) -> str:
        """Returns a text that is equal if a job of as many readers gives each of them the same samples."""
        sharing, places = self.sharing(), self._places_of_ranks()
        return sharing if places is None else f"{sharing} of {places}".strip()

    @abstractmethod
    def _places_of_ranks(self) -> int | None:
        """Returns the number of places that several ranks read, as many as `distribution` makes them.

        None if there is one rank, or the number is unknown, and none are added or left out.
        """

    def _state_at_end(self, epoch: int, place: int | None = None) -> dict[str, Any]:
        """Returns the state of the end of an epoch: the start of the next one without `set_epoch`."""
        if self._progress.counts_itself:
            return self._state_at(epoch + 1, 0)
        total = self._total() if place is None else place
        return self._state_at(epoch, total or 0)

    def _state_at(self, epoch: int, place: int) -> dict[str, Any]:
        state = self._order_state(epoch, place).to_json()
        if state["samples"] is not None:
            state["position"] = min(place, state["samples"])
        return state


def no_length(reason: str) -> TypeError:
    """Returns the error that `len` raises if the number of samples is unknown.

    Args:
        reason: The reason.

    Warns:
        IPFSDatasetWarning: Lightning reads the stream through a loader that saves states. Without a length,
            it fetches one batch ahead, which its checkpoints within an epoch count as trained.
    """
    if is_length_of_epoch() and is_read_by("torchdata.stateful_dataloader"):
        warn_user(
            "This stream has no len(), so Lightning fetches a batch ahead, and resuming from a checkpoint "
            "within an epoch skips that batch: use shuffle_blocks=True or lanes=, with which samples are "
            "counted, or a map-style dataset",
            IPFSDatasetWarning,
        )
    return TypeError(reason)


def _failed(error: Exception) -> Iterator[Any]:
    """Returns an iterator that raises an error when a sample is requested."""

    def fail() -> Any:
        raise error

    return iter(fail, None)


def _numbers_of(reading: Reading) -> list[int]:
    reader = reading.reader
    return [reader.rank, reader.world, reader.worker, reader.workers, reading.batch]


@attrs.frozen
class _ReaderOfState:
    """The only reader that can resume from a state.

    Args:
        reader: Its rank, ranks, worker, workers, and batch size.
        taken: Number of its places, or of its samples without places, that it has read.
        last: The last of these places; None if they are unknown.
        place: The epoch, and the place at which the iteration began.
    """

    reader: list[int]
    taken: int
    last: int | None
    place: tuple[int, int]


def _read_by_one(state: Mapping[str, Any], place: tuple[int, int]) -> _ReaderOfState | None:
    """Returns the only reader that can resume from a state; None if any reader can resume.

    Args:
        state: The state.
        place: The epoch and the position of the state.

    Raises:
        StateError: The state contains only some of these values, or invalid ones.
    """
    found = [name for name in (_READER, _READ, _LAST, _DONE) if name in state]
    if not found:
        return None
    if found[:2] != [_READER, _READ]:
        raise StateError(f"this state has {' and '.join(found)} without the rest of them")
    reader = _numbers(state, _READER, _NUMBERS_OF_READER, least=0)
    rank, world, worker, workers, batch = reader
    if rank >= world or worker >= workers or not batch:
        raise StateError(
            f"this state has {_READER}={reader}, which is not a list of rank, ranks, worker, "
            "workers, batch_size"
        )
    read = state[_READ]
    if type(read) is not int or not 1 <= read <= MOST:
        raise StateError(f"this state has {_READ}={read!r:.80}, which is not a number from 1 on")
    if state.get(_DONE, True) is not True:
        raise StateError(
            f"this state has {_DONE}={state[_DONE]!r:.80}, but it must be True or left out"
        )
    last = number_in(state, _LAST) if _LAST in state else None
    return _ReaderOfState(reader, read, last, place)


def _numbers(state: Mapping[str, Any], name: str, count: int, *, least: int = 1) -> list[int]:
    value = state.get(name)
    if not (
        isinstance(value, list)
        and len(value) == count
        and all(type(number) is int and least <= number <= MOST for number in value)
    ):
        raise StateError(
            f"this state has {name}={value!r:.200}, which is not a list of {count} numbers from {least} on"
        )
    return value
