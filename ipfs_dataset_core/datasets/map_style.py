"""Map-style datasets: the samples of objects in IPFS, by number."""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch.utils.data import Dataset, get_worker_info

from ipfs_dataset_core.datasets.batch_fetch import BatchReader, numbered
from ipfs_dataset_core.datasets.composed import JoinedDatasets
from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.datasets.describing import sample_text
from ipfs_dataset_core.datasets.error_policy import ErrorPolicy, Skipped
from ipfs_dataset_core.datasets.objects import (
    DatasetObject,
    as_objects,
    described_objects,
    described_sources,
)
from ipfs_dataset_core.datasets.shards import ConcatenatedShards
from ipfs_dataset_core.datasets.splits import splits_of_objects, splits_of_subclass
from ipfs_dataset_core.datasets.transforms import (
    TransformedSamples,
    explain_collate,
    sample_transform,
)
from ipfs_dataset_core.datasets.worker_samples import sent_batch, sent_sample
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.order_state import OrderState, joined_ids
from ipfs_dataset_core.order.reader_rank import job_of_process
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.runtime.short_traceback import short_traceback, shortened_iteration

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from ipfs_dataset_core.datasets.decoding import Decoder
    from ipfs_dataset_core.datasets.splits import DatasetSplit
    from ipfs_dataset_core.datasets.transforms import SampleTransform
    from ipfs_dataset_core.interfaces import IndexedSamples
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
    from ipfs_dataset_core.options import OptionArguments

# Raises every failure. It counts nothing, so all datasets can share it; a counter of skipped samples would
# take a file descriptor each.
_RAISING = ErrorPolicy(Options())


class SampleAccess:
    """Random access to samples, shared by all map-style datasets.

    It is a separate base class because users write ``super(IPFSDataset, self).__getitem__(index)`` in their
    subclasses, which looks the method up in the classes after `IPFSDataset`.

    Args:
        connections: Where to read; its options contain the error policy and the cache size.
        name: The name of the dataset in messages.
    """

    # Number of samples read by number that are described, with sizes, for the repr.
    _most_outlines: ClassVar[int] = 0

    def __init__(self, connections: Connections, name: str) -> None:
        self._connections = connections
        self._name = name
        options = connections.options
        self._policy = _RAISING if options.handler == "raise" else ErrorPolicy(options)
        self._batches: BatchReader | None = None
        # The start of the next iteration, and the progress of the last one.
        self._position = self._read_to = 0
        self._length: int | None = None
        self._sample_transform: SampleTransform | None = None
        self._outlines: tuple[str, ...] = ()

    @abstractmethod
    def _indexed(self) -> IndexedSamples:
        """Returns the samples, which are opened and counted on first use in this process."""

    @abstractmethod
    def _close_samples(self) -> None:
        """Closes the samples that this process opened; a later use opens them again."""

    def __len__(self) -> int:
        with short_traceback:
            return self._count()

    def __iter__(self) -> Iterator[Any]:
        """Yields all samples in order, reading sequentially, which is faster than reading by number.

        After a state was loaded, yields the samples from its position on.
        """
        start, self._position = self._position, 0
        return shortened_iteration(self._in_order(start))

    def __add__(self, other: Any) -> JoinedDatasets:
        """Returns this dataset followed by another; batches of both are fetched together."""
        joined: list[Any] = [self, other]
        return JoinedDatasets(joined)

    def state_dict(self) -> dict[str, Any]:
        """Returns the progress of the last iteration over this dataset: less than 1 KB of JSON.

        Samples that a `DataLoader` reads by number are counted by its sampler; see `BlockShuffleSampler`.
        """
        return self._state(self._read_to or self._position).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next iteration over this dataset continue where a state was taken.

        Raises:
            StateError: The state is of other data or another version.
        """
        self._position, self._read_to = self._state(0).read(state).position, 0

    def _state(self, position: int) -> OrderState:
        return OrderState(
            order="data",
            data=self.content_id(),
            samples=len(self),
            seed=0,
            epoch=0,
            position=position,
            parameters={},
        )

    def _in_order(self, start: int) -> Iterator[Any]:
        self._read_to = start
        if self._policy.raises and self._unchanged:
            for sample in self._indexed().iterate(start, self._count()):
                self._read_to += 1
                yield sample
        else:
            # A subclass transforms samples in __getitem__, and samples can only be skipped if they are read
            # by number.
            for number in range(start, len(self)):
                found = self._policy.read(self.__getitem__, number)
                self._read_to = number + 1
                if found is not Skipped.SAMPLE:
                    yield found
        self._read_to = 0

    def __getitem__(self, index: Any) -> Any:
        """Returns the sample at an index; for an `IPFSDataset` it is ``(name, bytes)``.

        Args:
            index: An integer, including numpy and torch integers; negative ones count from the end. A slice,
                or the list that a `BatchSampler` used as a sampler yields, returns the list of these samples,
                fetched together, unless a subclass has a ``__getitem__`` of its own.

        Raises:
            IndexError: There is no such sample.
            TypeError: The index has another type, or a subclass overrides ``__getitem__`` and was given
                several.
            IPFSDatasetError: The object could not be found, fetched, verified or read.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            self._check_several(f"range({start}, {stop}{f', {step}' if step != 1 else ''})")
            numbers = range(start, stop, step)
            if type(self).__getitems__ is not SampleAccess.__getitems__:
                return self.__getitems__(numbers)
            with short_traceback:
                return self._batch(numbers)
        if isinstance(index, list):
            self._check_several(f"{index!r:.60}")
            for number in index:
                as_integer(number)
            return self.__getitems__(index)  # unconverted, because some carry prefetch hints
        with short_traceback:
            length = self._count()
            position = as_integer(index)
            if not -length <= position < length:
                named = f": {self._name}" if self._name else ", which was given no objects"
                raise IndexError(f"sample {position} of a dataset of {length}{named}")
            sample = self._indexed().read(position % length)
        if len(self._outlines) < self._most_outlines:
            self._outlines = (*self._outlines, sample_text(sample))
        if get_worker_info() is None:
            return sample
        return sent_sample(sample, self._connections.options.worker_memory)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Returns a batch: its blocks are fetched together, then each sample is read with ``self[index]``.

        Samples are read in the order of `indices`, unless the blocks of the batch exceed `memory`: then
        samples that are stored together are read together. The batch is in the order of `indices` in any
        case.

        In a distributed job, a sample that `handler` skips is replaced by the next sample of the data that
        can be read, so that all ranks have equal batches; otherwise the batch becomes shorter. It is never
        empty: if all its samples are skipped, it consists of the next sample of the data that can be read.

        Args:
            indices: Integers; negative ones count from the end.

        Raises:
            IndexError: There is no such sample.
            IPFSDatasetError: An object could not be found, fetched, verified or read.
        """
        explain_collate()
        with short_traceback:
            return self._batch(indices, filled=True)

    def _batch(self, indices: Sequence[int], *, filled: bool = False) -> list[Any]:
        """Returns samples, fetched together.

        Args:
            indices: As for `__getitems__`.
            filled: Whether another sample stands in where all are skipped.
        """
        found = self._read_batch(indices, replaces=job_of_process().world > 1)
        batch = [sample for sample in found if sample is not Skipped.SAMPLE]
        if filled and found and not batch:
            batch = [self.read_instead(indices[-1])]
        if get_worker_info() is None:
            return batch
        return sent_batch(batch, self._connections.options.worker_memory)

    def read_each_or_skip(
        self, indices: Sequence[int], *, replaces: bool = False
    ) -> list[list[Any]]:
        """Returns the samples of a batch, each in a list of its own, which is empty if the sample is skipped.

        Args:
            indices: As for `__getitems__`.
            replaces: Whether a skipped sample is replaced by another, as in a distributed job. Ignored if a
                subclass overrides ``__getitems__``.

        Raises:
            IndexError: There is no such sample.
            IPFSDatasetError: An object could not be found, fetched, verified or read.
        """
        if type(self).__getitems__ is not SampleAccess.__getitems__:
            return self._read_each_as_overridden(indices)
        with short_traceback:
            found = self._read_batch(indices, replaces=replaces or job_of_process().world > 1)
        return [[] if sample is Skipped.SAMPLE else [sample] for sample in found]

    def read_instead(self, index: int) -> Any:
        """Returns the replacement for a skipped sample: the next sample of the data that can be read.

        Args:
            index: The skipped sample, which was already counted.

        Raises:
            IPFSDatasetError: None of the next samples can be read either.
        """
        mark = self._policy.mark()
        self._policy.succeeded()
        with short_traceback:
            [sample] = self._read_batch([index], replaces=True)
        self._policy.reset(mark)
        return sample

    def _read_each_as_overridden(self, indices: Sequence[int]) -> list[list[Any]]:
        """Implements `read_each_or_skip` for a subclass that overrides ``__getitems__``."""
        mark = self._policy.mark()
        samples = self.__getitems__(indices)
        if len(samples) == len(indices):
            return [[sample] for sample in samples]
        # It is unknown which samples were skipped, so all are read once more, and counted once.
        self._policy.reset(mark)
        return [self.__getitems__([index]) for index in indices]

    def _read_batch(
        self, indices: Sequence[int], *, replaces: bool
    ) -> list[Any | Literal[Skipped.SAMPLE]]:
        if self._batches is None:
            self._batches = BatchReader(self._connections.options.memory)
        return self._batches.read_batch(
            self._indexed(),
            self._count(),
            indices,
            self.__getitem__,
            self._policy,
            unchanged=self._unchanged,
            replaces=replaces and not self._policy.raises,
        )

    def prefetch(self, indices: Sequence[int]) -> None:
        """Starts fetching samples of the next batches while others are read.

        Has no effect before the first batch of this process, or after several hints without a batch.

        Args:
            indices: Numbers of samples.
        """
        if self._batches is not None:
            self._batches.prefetch(self._indexed(), numbered(indices, self._count()))

    @property
    def skipped(self) -> int:
        """Number of samples of batches skipped so far, in this process and its workers."""
        return self._policy.skipped

    @property
    def skipped_here(self) -> int:
        """Number of those that were skipped in the calling thread."""
        return self._policy.skipped_here

    def block_memory(self) -> int:
        """Returns the number of bytes of verified blocks that each process keeps in memory."""
        return self._connections.options.memory

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns the end of each shuffle block, a run of about `size` bytes, as a sample number."""
        return self._indexed().block_stops(size)

    def splits(self, split_bytes: int | str = "128M", *, index: bool = True) -> list[DatasetSplit]:
        """Splits the dataset for the tasks of a data processing engine, in order.

        Together, the splits contain every sample once. They are cut where reading is cheap: between files and
        archives or, within large ones, at blocks, members and row groups. An object that can only be read
        from its start, such as a compressed TAR, is one part. Sizes and numbers of samples come from
        directories, indexes and manifests; no sample is read.

        If a subclass overrides ``__getitem__``, each sample is read by it, and the dataset is pickled with
        each split.

        Args:
            split_bytes: Approximate number of stored bytes per split: a number, or text such as ``"128M"``. A
                sample is never divided.
            index: Whether to read the headers of large uncompressed TARs, as ``len`` does. Otherwise such an
                archive is split into at most three parts, whose numbers of samples are unknown.

        Returns:
            The splits, which can be pickled; none for a dataset without samples.

        Raises:
            ValueError: `split_bytes` is not a size.
            IPFSDatasetError: An object could not be found, fetched, verified or read.
        """
        with short_traceback:
            splits = self._stored_splits(split_bytes, index=index)
        return splits if self._unchanged else splits_of_subclass(self, splits, self._connections)

    @abstractmethod
    def _stored_splits(self, split_bytes: int | str, *, index: bool) -> list[DatasetSplit]:
        """Returns the splits of the samples as they are stored."""

    @abstractmethod
    def content_id(self) -> str:
        """Returns the CIDs from which the samples are read, shortened if there are many."""

    @property
    def cid(self) -> str:
        """The CID of the data; for several objects their CIDs, shortened if there are many."""
        return self.content_id()

    def __repr__(self) -> str:
        """Returns the data and sources of the dataset, as far as known without a request."""
        if self._sample_transform is not None:
            return f"<{type(self).__name__} {', '.join((*self._described(), str(self._sample_transform)))}>"
        return f"<{type(self).__name__} {', '.join(self._described())}>"

    @abstractmethod
    def _described(self) -> Iterator[str]:
        """Yields the parts of the repr."""

    def close(self) -> None:
        """Closes the connections of this process; a later use opens them again."""
        self._close_samples()
        self._connections.close()

    @property
    def _unchanged(self) -> bool:
        """Whether ``self[index]`` returns samples as they were read, because no subclass transforms them."""
        return type(self).__getitem__ is SampleAccess.__getitem__

    def _count(self) -> int:
        if self._length is None:
            self._length = len(self._indexed())
        return self._length

    def _check_several(self, shown: str) -> None:
        """Raises an error for several indices if a subclass overrides ``__getitem__``, which takes one.

        Args:
            shown: The indices, for the message.

        Raises:
            TypeError: A subclass overrides ``__getitem__``.
        """
        if not self._unchanged:
            raise TypeError(
                f"{type(self).__name__} has a __getitem__ of its own, which takes one index at a time: "
                f"write [dataset[i] for i in {shown}], or torch.utils.data.Subset(dataset, {shown}); and "
                "give a DataLoader a BatchSampler as batch_sampler, not as sampler"
            )


class IPFSDataset(SampleAccess, Dataset[Any]):
    """A map-style dataset: members of archives and folders, and whole plain objects, by number.

    Nothing is fetched before the first use. Then the tables of contents of archives are read, and only the
    members that are requested. A compressed TAR allows no random access: iterate over it with
    `IPFSIterableDataset`.

    Args:
        ipfs_objs: One object or several, of any formats and sources.
        ipfs_api_address: Where to read: a node's RPC API (multiaddr or URL), or a folder or `.car` file of
            blocks. None reads from the gateways in the objects' URLs, else from those that the environment
            configures, else from the embedded store.
        decoders: Decode the bytes of members of archives and folders, and of plain objects, by the suffix of
            their names: ``{".spx": decode}``, with a function of the bytes, or a format (its class or name).
            If a file of that format has many samples, the result is the list of them. An error of a decoder
            is one of the sample, which `handler` may skip.
        transform: Applied to the bytes of each sample, or to the result of a decoder, in the process that
            reads it. Its errors are not skipped.
        target_transform: Applied to the name of each sample, for example to derive a label.
        **options: Fields of `Options`.
    """

    def __init__(
        self,
        ipfs_objs: IPFSObject | str | Iterable[IPFSObject | str],
        ipfs_api_address: str | os.PathLike[str] | None = None,
        *,
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
        )

    @classmethod
    def of_objects(
        cls,
        connections: Connections,
        objects: list[DatasetObject],
        transform: SampleTransform | None = None,
    ) -> IPFSDataset:
        """Returns a dataset of objects that are already open, using the same connections."""
        dataset = cls.__new__(cls)
        dataset._set_up(connections, objects, transform)  # noqa: SLF001 - of its own class
        return dataset

    def _set_up(
        self,
        connections: Connections,
        objects: list[DatasetObject],
        transform: SampleTransform | None,
    ) -> None:
        super().__init__(connections, ", ".join(item.name for item in objects[:2]))
        self._objects = objects
        self._indexed_samples: IndexedSamples | None = None
        self._sample_transform = transform

    def content_id(self) -> str:
        """Returns the CIDs of the objects, shortened if there are many."""
        return joined_ids(item.content_id() for item in self._objects)

    def _described(self) -> Iterator[str]:
        if self._length is not None:
            yield f"{self._length:,} samples"
        yield f"{described_objects(self._objects)} from {described_sources(self._connections, self._objects)}"

    def _indexed(self) -> IndexedSamples:
        if self._indexed_samples is None:
            shards = [shard for item in self._objects for shard in item.counted_shards()]
            samples: IndexedSamples = shards[0] if len(shards) == 1 else ConcatenatedShards(shards)
            if self._sample_transform is not None:
                samples = TransformedSamples(samples, self._sample_transform)
            self._indexed_samples = samples
        return self._indexed_samples

    def _stored_splits(self, split_bytes: int | str, *, index: bool) -> list[DatasetSplit]:
        return splits_of_objects(
            self._objects,
            self._connections,
            self._policy,
            split_bytes,
            self._sample_transform,
            index=index,
        )

    def _close_samples(self) -> None:
        for item in self._objects:
            item.close()


def as_integer(index: Any) -> int:
    """Converts an index to an integer: a Python or numpy integer, or a torch tensor with one integer.

    Raises:
        TypeError: It is not an integer.
    """
    try:
        return operator.index(index)
    except TypeError:
        hint = ""
        if isinstance(index, (list, tuple, range)) or getattr(index, "ndim", None):
            hint = ": for several samples, write [dataset[i] for i in indices]"
        raise TypeError(
            f"the index of a sample must be an integer, not {index!r:.80} of type "
            f"{type(index).__name__}{hint}"
        ) from None
