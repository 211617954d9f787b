"""The iterable dataset: streams the samples of objects in IPFS, distributed to ranks and workers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any

import attrs
import torch

from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.objects import (
    DatasetObject,
    as_objects,
    described_objects,
    described_sources,
)
from ipfs_dataset_core.datasets.resumable import (
    BELOW,
    Reading,
    ResumableStream,
    StreamIterator,
    no_length,
)
from ipfs_dataset_core.datasets.shards import ConcatenatedShards
from ipfs_dataset_core.datasets.splits import splits_of_objects
from ipfs_dataset_core.datasets.stream_reading import StreamOrder, StreamReading
from ipfs_dataset_core.datasets.streaming import SkippingStream, can_be_mixed
from ipfs_dataset_core.datasets.transforms import explain_collate, sample_transform
from ipfs_dataset_core.datasets.worker_samples import each_sent
from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, StateError
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.global_order import Lanes
from ipfs_dataset_core.order.laned_order import default_lanes, lanes_given
from ipfs_dataset_core.order.order_state import OrderState, joined_ids
from ipfs_dataset_core.order.reader_rank import job_to_carry, reader_of_stream
from ipfs_dataset_core.order.sharding import (
    ReaderRank,
    known_distribution,
    known_split,
    makes_ranks_equal,
)
from ipfs_dataset_core.order.shuffled_blocks import default_block, default_window, keyed_random
from ipfs_dataset_core.order.stream_places import stop_of_stream
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.runtime.shared_tensors import share
from ipfs_dataset_core.runtime.short_traceback import short_traceback
from ipfs_dataset_core.runtime.whole_numbers import known_seed, whole_number

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self, Unpack

    from ipfs_dataset_core.datasets.decoding import Decoder
    from ipfs_dataset_core.datasets.splits import DatasetSplit
    from ipfs_dataset_core.datasets.transforms import SampleTransform
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
    from ipfs_dataset_core.options import OptionArguments
    from ipfs_dataset_core.order.reader_rank import Job
    from ipfs_dataset_core.order.sharding import Distribution, Split


class IPFSIterableDataset(ResumableStream):
    """A dataset that streams the samples of its objects in order.

    Samples, not objects, are split over the ranks of a distributed job and the workers of its DataLoaders, so
    a single archive can feed all of them.

    With `batch_size`, the samples form one **global sequence**, which is read in the same global batches by
    any number of ranks and workers. A stream resumes from a saved state; see `state_dict` and
    `load_state_dict`.

    Args:
        ipfs_objs: One object or several, of any formats and sources.
        ipfs_api_address: Where to read, as for `IPFSDataset`.
        shuffle_urls: Whether each epoch reads the objects in a different order; see `set_epoch`.
        seed: Determines the order, together with the epoch.
        distribution: ``"pad"`` and ``"drop"`` give every rank the same number of samples, by repeating or
            leaving out a few; ``"uneven"`` reads each sample exactly once. The default is ``"pad"`` if
            torch.distributed is initialized, because ranks with different numbers of batches would wait for
            each other forever, else ``"uneven"``. With `batch_size`, ``"pad"`` fills up the last global
            batch.
        shuffle_blocks: Whether each epoch reads the samples in a different order that keeps neighbours in the
            data near each other: first objects with random access, in shuffled blocks, then the others in
            order.
        batch_size: The loader's batch size. Its workers then read whole batches in turn, so that
            ``len(loader)`` is the exact number of batches, and a sample that `handler` skips is replaced by
            the next sample of the data that can be read.
        lanes: Number of parts of the data from which the sequence is interleaved, as a pair: the number of
            ranks, and of workers per rank, that can read blocks of their own. A single number is for ranks.
            By default 1, the order of the data; with `shuffle_blocks` as many as `memory` can hold, up to
            ``(4, 2)``.
        split: Who shares the samples. ``"auto"``: ranks and workers, except those among which accelerate or a
            Hugging Face dataset already splits them, which is detected. ``"workers"``: the workers of each
            rank, so that every rank reads all samples. ``"none"``: nobody, so that every reader reads all
            samples.
        decoders: As for `IPFSDataset`.
        transform: As for `IPFSDataset`.
        target_transform: As for `IPFSDataset`.
        **options: Fields of `Options`.
    """

    _fields_of_state = ("object", "object_start")

    _objects: list[DatasetObject]

    def __init__(
        self,
        ipfs_objs: IPFSObject | str | Iterable[IPFSObject | str],
        ipfs_api_address: str | os.PathLike[str] | None = None,
        shuffle_urls: bool = False,  # noqa: FBT001, FBT002 - third positional argument for compatibility
        *,
        seed: int = 0,
        distribution: Distribution | None = None,
        shuffle_blocks: bool = False,
        batch_size: int | None = None,
        lanes: int | tuple[int, int] | None = None,
        split: Split = "auto",
        decoders: Mapping[str, Decoder] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        chosen, objects = Options.from_arguments(options), as_objects(ipfs_objs)
        connections = Connections(ipfs_api_address, chosen, objects)
        decode = None if decoders is None else Decoders(decoders)
        self._set_up(
            connections,
            [DatasetObject(item, connections, decode) for item in objects],
            sample_transform(transform, target_transform, data=1),
            shuffle_urls=shuffle_urls,
            seed=seed,
            distribution=distribution,
            shuffle_blocks=shuffle_blocks,
            batch_size=batch_size,
            lanes=lanes,
            split=split,
        )

    @classmethod
    def of_objects(
        cls,
        connections: Connections,
        objects: list[DatasetObject],
        transform: SampleTransform | None = None,
    ) -> IPFSIterableDataset:
        """Returns a dataset of objects that are already open, using the same connections."""
        dataset = cls.__new__(cls)
        dataset._set_up(connections, objects, transform)  # noqa: SLF001 - of its own class
        return dataset

    def _set_up(
        self,
        connections: Connections,
        objects: list[DatasetObject],
        transform: SampleTransform | None,
        *,
        shuffle_urls: bool = False,
        seed: int = 0,
        distribution: Distribution | None = None,
        shuffle_blocks: bool = False,
        batch_size: int | None = None,
        lanes: int | tuple[int, int] | None = None,
        split: Split = "auto",
    ) -> None:
        self._connections = connections
        self._objects = objects
        self._policy = ErrorPolicy(connections.options)
        self._sample_transform = transform
        self._distribution = known_distribution(distribution)
        self._split = known_split(split)
        self._carried: Job | None = None
        memory = connections.options.memory
        block = default_block(memory)
        if lanes is not None:
            given = lanes_given(lanes)
        else:
            given = default_lanes(memory, block) if shuffle_blocks else Lanes()
        window = default_window(memory, block) // given.count if shuffle_blocks else 1
        self._order = StreamOrder(
            seed=known_seed(seed),
            shuffle_urls=shuffle_urls,
            shuffle_blocks=shuffle_blocks,
            batch=None if batch_size is None else whole_number("batch_size", batch_size, least=1),
            lanes=given,
            block=block,
            window=max(1, window),
        )
        self._counted: int | None = None
        # Number of samples of each object, known once it was read to its end; shared by workers.
        self._counts = _unknown_counts(len(objects))
        # The object of a loaded state: for an epoch and place, its number and first place.
        self._within: tuple[int, int, int, int] | None = None
        self._start_progress(batch_size)

    def __iter__(self) -> Iterator[Any]:
        explain_collate()
        return StreamIterator(self)

    def __len__(self) -> int:
        """Returns the exact number of samples for this rank; after loading a state, of the remaining samples.

        A subclass whose ``__iter__`` yields as many samples as this one's should define a ``__len__`` that
        returns ``super().__len__()``.

        Raises:
            TypeError: Counting the samples would require reading the whole dataset, or a subclass has an
                ``__iter__`` of its own but no ``__len__``.
        """
        if not hasattr(self, "_objects"):
            raise TypeError(f"{type(self).__name__} has no len()")
        check_length_holds(self)
        job, _ = reader_of_stream(self._carried, self._split)
        distribution = self._distribution or job.distribution
        self.check_countable(
            replaces=self._batch is not None or makes_ranks_equal(job.world, distribution)
        )
        with short_traceback:
            total = self._counted_samples()
        if total is None:
            raise no_length("this iterable dataset has no len(): counting would read all of it")
        start = self._start_of_length()
        places = self._order.places(ReaderRank(job.rank, job.world), start, total, distribution)
        return places.of_rank

    def __bool__(self) -> bool:
        """Returns True, as for any iterable dataset: a truth test must neither read nor fail."""
        return True

    @property
    def cid(self) -> str:
        """The CID of the data; for several objects their CIDs, shortened if there are many."""
        below = self._objects if hasattr(self, "_objects") else list(self._wrapped())
        return joined_ids(item.content_id() for item in below)

    def __repr__(self) -> str:
        """Returns the objects and sources of the dataset, as far as known without a request."""
        if not hasattr(self, "_objects"):
            return f"<{type(self).__name__}>"
        sources = described_sources(self._connections, self._objects)
        parts = [f"{described_objects(self._objects)} from {sources}"]
        if self._sample_transform is not None:
            parts.append(str(self._sample_transform))
        return f"<{type(self).__name__} {', '.join(parts)}>"

    @property
    def skipped(self) -> int:
        """Number of samples, and objects that could not be opened, skipped so far by all workers."""
        return self._policy.skipped

    def splits(self, split_bytes: int | str = "128M", *, index: bool = False) -> list[DatasetSplit]:
        """Splits the dataset for the tasks of a data processing engine, in order.

        See `IPFSDataset.splits`. Objects are in the order in which they were given, without any shuffling,
        and all ranks together read each sample once.

        Args:
            split_bytes: Approximate number of stored bytes per split.
            index: As for `IPFSDataset.splits`.

        Raises:
            ValueError: `split_bytes` is not a size.
            TypeError: A subclass has an ``__iter__`` of its own.
            IPFSDatasetError: An object could not be found, fetched or verified.
        """
        if type(self).__iter__ is not IPFSIterableDataset.__iter__ or not hasattr(self, "_objects"):
            raise TypeError(
                f"{type(self).__name__} has an __iter__ of its own, which yields the samples of a whole "
                "stream: split an IPFSIterableDataset, with transform= for each sample"
            )
        with short_traceback:
            return splits_of_objects(
                self._objects,
                self._connections,
                self._policy,
                split_bytes,
                transform=self._sample_transform,
                index=index,
            )

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch, including in persistent workers.

        If it is never called, each epoch that was read to its end is followed by the next one.
        """
        if hasattr(self, "_objects"):
            super().set_epoch(epoch)
        for dataset in self._wrapped():
            dataset.set_epoch(epoch)

    def with_split(self, split: Split) -> Self:
        """Returns a view of this dataset whose samples are split differently.

        It shares connections, epoch and counts with this dataset.

        Args:
            split: Who shares the samples.
        """
        view = copy.copy(self)
        if hasattr(self, "_objects"):
            view._split, view._carried = known_split(split), self._carried  # noqa: SLF001 - of the same class
        for name, value in vars(self).items():
            if isinstance(value, IPFSIterableDataset):
                setattr(view, name, value.with_split(split))
        return view

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        if hasattr(self, "_objects"):
            return super().state_dict(batches)
        return self._only_wrapped().state_dict(batches)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if hasattr(self, "_objects"):
            super().load_state_dict(state)
        else:
            self._only_wrapped().load_state_dict(state)

    def sharing(self) -> str:
        if not hasattr(self, "_objects"):
            return ", ".join(stream.sharing() for stream in self._wrapped())
        return "parts" if self._batch is None else f"batches of {self._batch}"

    def shares(self) -> str:
        own = []
        if hasattr(self, "_objects"):
            job, _ = reader_of_stream(self._carried, self._split)
            must_be_equal = makes_ranks_equal(job.world, self._distribution or job.distribution)
            own = [super().shares()]
            if self._order.is_laned and self._batch is None and must_be_equal:
                own = [f"turns of {self._places_of_ranks()}"]
        return ", ".join([*own, *(stream.shares() for stream in self._wrapped())])

    def _places_of_ranks(self) -> int | None:
        job, _ = reader_of_stream(self._carried, self._split)
        if job.world == 1:
            return None
        distribution = self._distribution or job.distribution
        total = self._total()
        if total is None and makes_ranks_equal(job.world, distribution):
            with suppress(FormatError):  # raised when it is read
                total = sum(len(shard) for item in self._objects for shard in item.shards())
        if total is None:
            return None
        return stop_of_stream(total, 0, job.world, self._batch, distribution)

    def order_dict(self) -> dict[str, Any]:
        order = super().order_dict() if hasattr(self, "_objects") else {}
        if below := self._wrapped_by_name():
            order[BELOW] = {name: stream.order_dict() for name, stream in below.items()}
        return order

    def load_order_dict(self, order: Any) -> bool:
        if not isinstance(order, Mapping):
            raise StateError(f"this state has {order!r:.200} as the order of the wrapped datasets")
        below, before = self._wrapped_by_name(), self.order_dict()
        own = {name: value for name, value in order.items() if name != BELOW}
        self._load_below(below, order.get(BELOW, {}))
        if hasattr(self, "_objects"):
            super().load_order_dict(own)
        elif own:
            raise StateError(f"this state has {own!r:.200}, but {type(self).__name__} has no order")
        return before != self.order_dict()

    def content_id(self) -> str:
        """Returns the CIDs of the objects, shortened if there are many."""
        return self.cid

    def block_memory(self) -> int:
        """Returns the number of bytes of verified blocks that each process keeps in memory."""
        return self._connections.options.memory

    def check_countable(self, *, replaces: bool) -> None:
        """Checks that every sample counted is also yielded.

        Args:
            replaces: Whether a skipped sample is replaced by another.

        Raises:
            TypeError: Samples may be left out.
        """
        if not self._policy.raises and not replaces:
            raise TypeError("there is no len() with a handler that skips samples: it may be less")

    def numbered_samples(self) -> ConcatenatedShards | None:
        """Returns the samples by number; None if an object allows no random access in shuffled blocks."""
        shards = SkippingStream(self._policy).shards(self._objects)
        known = [(shard, mixes) for shard in shards for mixes in can_be_mixed(shard, self._policy)]
        if not all(mixes for _, mixes in known):
            return None
        return ConcatenatedShards([shard for shard, _ in known])

    def transformed(self, samples: Iterator[Any]) -> Iterator[Any]:
        """Yields samples with `transform` applied, in the form in which a worker sends them."""
        for change in self._changes():
            samples = map(change, samples)
        return samples

    def transformed_pairs(self, numbered: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Yields numbers with their samples; see `transformed`."""
        for change in self._changes():
            numbered = map(partial(_changed, change), numbered)
        return numbered

    def _changes(self) -> list[Callable[[Any], Any]]:
        """Returns the functions that are applied to each sample after reading, in order."""
        changes = (self._sample_transform, each_sent(self._connections.options.worker_memory))
        return [change for change in changes if change is not None]

    def skipping(self, samples: ConcatenatedShards, *, replaces: bool) -> SkippingStream:
        """Returns a reader of samples by number that skips according to `handler`.

        Args:
            samples: All samples.
            replaces: Whether a skipped sample is replaced by another.
        """
        skipping = SkippingStream(self._policy)
        if replaces and not self._policy.raises:
            skipping.replace_from(samples)
        return skipping

    def close(self) -> None:
        """Closes the connections of this process; a later use opens them again."""
        if hasattr(self, "_objects"):
            for item in self._objects:
                item.close()
            self._connections.close()
        for dataset in self._wrapped():
            dataset.close()

    def __getstate__(self) -> dict[str, Any]:
        # Otherwise a subclass that keeps the iterator of its last epoch could not be sent to a worker.
        kinds = (GeneratorType, StreamIterator)
        state = {k: v for k, v in self.__dict__.items() if not isinstance(v, kinds)}
        if "_carried" in state:
            state["_carried"] = job_to_carry(self._carried)
            state["_record"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_counts" in state:
            share(self._counts)

    def _wrapped(self) -> Iterator[IPFSIterableDataset]:
        """Yields the datasets in a subclass's attributes from which it reads its own samples."""
        return iter(self._wrapped_by_name().values())

    def _wrapped_by_name(self) -> dict[str, IPFSIterableDataset]:
        return {k: v for k, v in vars(self).items() if isinstance(v, IPFSIterableDataset)}

    def _only_wrapped(self) -> IPFSIterableDataset:
        found = list(self._wrapped())
        if len(found) != 1:
            raise TypeError(
                f"{type(self).__name__} reads {len(found)} other streams: give it a state_dict and a "
                "load_state_dict that combine theirs"
            )
        return found[0]

    @property
    def _depends_on_epoch(self) -> bool:
        return self._order.shuffle_urls or self._order.shuffle_blocks

    def _order_state(self, epoch: int, position: int) -> OrderState:
        order = self._order
        kind = "shuffled blocks" if order.shuffle_blocks else "data"
        parameters = {}
        if order.is_laned:
            parameters = {
                "block_bytes": order.block,
                "window": order.window,
                "lanes": order.lanes.ranks,
                "worker_lanes": order.lanes.workers,
                "chunk": self._progress.chunk or order.chunk_in(self._world()),
            }
        return OrderState(
            order=f"{kind} of shuffled objects" if order.shuffle_urls else kind,
            data=self.content_id(),
            samples=self._total(),
            seed=order.seed,
            epoch=epoch,
            position=position,
            parameters=parameters,
            derived=frozenset({"chunk"}),
        )

    def _state_at(self, epoch: int, place: int) -> dict[str, Any]:
        state = super()._state_at(epoch, place)
        if state["samples"] is None and not self._order.is_laned:
            # Without these, a resumed stream would read all objects before the place to find it.
            counts = self._counts.tolist()
            passed = before = 0
            for number, _ in self._objects_of(epoch):
                if counts[number] < 0 or before + counts[number] > place:
                    break
                passed, before = passed + 1, before + counts[number]
            if before:
                state["object"], state["object_start"] = passed, before
        return state

    def _adopt(self, found: OrderState, state: Mapping[str, Any]) -> None:
        passed = before = 0
        if "object" in state or "object_start" in state:
            passed, before = state.get("object", 0), state.get("object_start", 0)
            if type(passed) is not int or not 1 <= passed <= len(self._objects):
                raise StateError(
                    f"this state has object={passed!r:.80}, of {len(self._objects)} objects"
                )
            if type(before) is not int or not 1 <= before <= found.position:
                raise StateError(
                    f"this state has object_start={before!r:.80} and position={found.position}"
                )
            if found.samples is not None or self._order.is_laned:
                raise StateError(
                    "this state has object and object_start, which this order does not need"
                )
            self._check_counts(found.epoch, passed, before)
        self._order = attrs.evolve(self._order, seed=found.seed)
        if self._order.is_laned:
            parameters = found.parameters
            self._order = attrs.evolve(
                self._order,
                lanes=Lanes(parameters["lanes"], parameters["worker_lanes"]),
                block=parameters["block_bytes"],
                window=parameters["window"],
                chunk=parameters["chunk"],
            )
        self._within = (found.epoch, found.position, passed, before)

    def _check_counts(self, epoch: int, passed: int, before: int) -> None:
        """Checks a state's count of the samples in the first objects of an epoch, as far as it is known.

        Raises:
            StateError: The objects have more or fewer samples.
        """
        counts = self._counts.tolist()
        found = [counts[number] for number, _ in self._objects_of(epoch)[:passed]]
        if -1 not in found and sum(found) != before:
            raise StateError(
                f"this state has object_start={before}, and the {passed} objects before have "
                f"{sum(found)} samples"
            )

    def _world(self) -> int:
        return reader_of_stream(self._carried, self._split)[0].world

    def _total(self) -> int | None:
        try:
            return self._counted_samples()
        except IPFSDatasetError as error:
            # An object that reading skips must not prevent a checkpoint; a state need not have the number.
            if not self._policy.may_skip(error):
                raise
            return None

    def _counted_samples(self) -> int | None:
        """Returns the number of samples; None if counting them would require reading the whole dataset.

        Raises:
            IPFSDatasetError: An object could not be found, fetched, verified or opened.
        """
        if self._counted is None:
            shards = [shard for item in self._objects for shard in item.shards()]
            # Lanes consist of numbered samples, so all of them are counted anyway.
            if self._order.is_laned or all(shard.is_counted() for shard in shards):
                with suppress(FormatError):
                    self._counted = sum(map(len, shards))
        return self._counted

    def _objects_of(self, epoch: int) -> list[tuple[int, DatasetObject]]:
        objects = list(enumerate(self._objects))
        if self._order.shuffle_urls:
            keyed_random("objects", self._order.seed, epoch).shuffle(objects)
        return objects

    def _reading(self, epoch: int, start: int) -> Reading:
        job, reader = reader_of_stream(self._carried, self._split)
        skipping = SkippingStream(self._policy)
        self._progress.chunk = self._order.chunk_in(reader.world)
        within = (0, 0)
        if self._within is not None and self._within[:2] == (epoch, start):
            within = self._within[2:]
        reading = StreamReading(
            objects=self._objects_of(epoch),
            order=self._order,
            epoch=epoch,
            start=start,
            reader=reader,
            distribution=self._distribution or job.distribution,
            skipping=skipping,
            memory=self._connections.options.memory,
            counts=self._counts,
            progress=self._progress,
            within=within,
        )
        return Reading(
            epoch=epoch,
            start=start,
            reader=reader,
            batch=self._order.batch_from(start),
            in_parts=lambda: reading.in_parts,
            read=lambda taken: self.transformed(reading.read(taken)),
            left_out=lambda: reading.left_out,
            last_place=reading.last_place,
        )


def _changed(change: Callable[[Any], Any], pair: tuple[int, Any]) -> tuple[int, Any]:
    return pair[0], change(pair[1])


def _unknown_counts(objects: int) -> torch.Tensor:
    counts = torch.full((objects,), -1, dtype=torch.int64)
    share(counts)
    return counts


def check_length_holds(dataset: Any) -> None:
    """Checks that a dataset yields as many samples as its ``__len__`` returns.

    Raises:
        TypeError: A class overrides ``__iter__``, but neither it nor a subclass of it defines ``__len__``.
    """
    for kind in type(dataset).__mro__:
        if "__len__" in vars(kind):
            return
        if "__iter__" in vars(kind):
            raise TypeError(
                f"{kind.__name__} has an __iter__ of its own, which may yield more or fewer "
                "samples: also give it a __len__, which returns super().__len__() if it yields one "
                "sample for each"
            )
