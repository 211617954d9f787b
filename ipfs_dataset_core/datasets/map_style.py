"""Map-style datasets: samples of objects in IPFS, by number."""

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

# Raises every failure. It counts nothing, so that all datasets can share it: a counter of skipped samples
# holds a file descriptor.
_RAISING = ErrorPolicy(Options())


class SampleAccess:
    """Random access to samples: what all map-style datasets share, on a base of its own.

    Users write ``super(IPFSDataset, self).__getitem__(index)`` in their subclasses, which looks the method up
    in the classes after `IPFSDataset`, so it must not be defined there.

    Args:
        connections: Where to read; its options hold the error policy and the size of the cache.
        name: The name of the dataset in messages.
    """

    # How many of the samples that are read by number are described, with sizes, for the repr.
    _most_outlines: ClassVar[int] = 0

    def __init__(self, connections: Connections, name: str) -> None:
        self._connections = connections
        self._name = name
        options = connections.options
        self._policy = _RAISING if options.handler == "raise" else ErrorPolicy(options)
        self._batches: BatchReader | None = None
        # Where the next iteration begins, and how far the last one has come.
        self._position = self._read_to = 0
        self._length: int | None = None
        self._sample_transform: SampleTransform | None = None
        self._outlines: tuple[str, ...] = ()

    @abstractmethod
    def _indexed(self) -> IndexedSamples:
        """Returns the samples, which are opened and counted at the first use in this process."""

    @abstractmethod
    def _close_samples(self) -> None:
        """Closes what this process opened of them; a later use opens it again."""

    def __len__(self) -> int:
        with short_traceback:
            return self._count()

    def __iter__(self) -> Iterator[Any]:
        """Yields all samples in order, read sequentially, which is faster than by number.

        After a state was loaded, yields those from its position on.
        """
        start, self._position = self._position, 0
        return shortened_iteration(self._in_order(start))

    def __add__(self, other: Any) -> JoinedDatasets:
        """Returns this dataset and another behind it; batches of both are fetched together."""
        joined: list[Any] = [self, other]
        return JoinedDatasets(joined)

    def state_dict(self) -> dict[str, Any]:
        """Returns how far the last iteration over this dataset has come: less than 1 KB of JSON.

        What a `DataLoader` reads by number is counted by its sampler, see `BlockShuffleSampler`.
        """
        return self._state(self._read_to or self._position).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next iteration over this dataset continue where a state was taken.

        Raises:
            StateError: The state is of other data, or of another version.
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
            # A subclass transforms samples in __getitem__, and a sample can be skipped only where it is read
            # by number.
            for number in range(start, len(self)):
                found = self._policy.read(self.__getitem__, number)
                self._read_to = number + 1
                if found is not Skipped.SAMPLE:
                    yield found
        self._read_to = 0

    def __getitem__(self, index: Any) -> Any:
        """Returns the sample at an index, ``(name, bytes)`` of an `IPFSDataset`.

        Args:
            index: An integer, also one of numpy or torch; negative ones count from the end. A slice, or the
                list that a `BatchSampler` in place of a sampler yields, gives the list of these samples,
                fetched together, where no subclass has a ``__getitem__`` of its own.

        Raises:
            IndexError: There is no such sample.
            TypeError: The index is neither, or several that a subclass's ``__getitem__`` was given.
            IPFSDatasetError: The object could not be found, fetched, verified or read.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            self._check_several(f"range({start}, {stop}{f', {step}' if step != 1 else ''})")
            numbers = range(start, stop, step)
            whole = type(self).__getitems__ is SampleAccess.__getitems__
            return self._batch(numbers) if whole else self.__getitems__(numbers)
        if isinstance(index, list):
            self._check_several(f"{index!r:.60}")
            for number in index:
                as_integer(number)
            return self.__getitems__(index)  # as they are: some carry prefetch hints
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
        """Returns a batch: what it needs is fetched together, then each sample is read by ``self[index]``.

        Samples are read in the order of `indices`, unless the blocks of the batch are more than `memory`
        holds: then those that lie together are read one after the other. The batch has the order of `indices`
        in any case.

        In a distributed job, the next sample of the data that can be read stands in for one that `handler`
        skips, so that the ranks have equal batches; otherwise the batch is shorter. It is never empty: if all
        its samples are skipped, the next sample of the data that can be read is the only one.

        Args:
            indices: Integers; negative ones count from the end.

        Raises:
            IndexError: There is no such sample.
            IPFSDatasetError: An object could not be found, fetched, verified or read.
        """
        explain_collate()
        return self._batch(indices, filled=True)

    def _batch(self, indices: Sequence[int], *, filled: bool = False) -> list[Any]:
        """Returns samples, fetched together.

        Args:
            indices: As for `__getitems__`.
            filled: Whether another sample stands in where all are skipped.
        """
        with short_traceback:
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
        """Returns the samples of a batch, each in a list of its own, which is empty where it is skipped.

        Args:
            indices: As for `__getitems__`.
            replaces: Whether another stands in for a sample that is skipped, as in a distributed job. A
                subclass with a ``__getitems__`` of its own decides that itself.

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
        """Returns the next sample of the data that can be read in the place of one that was skipped.

        Args:
            index: The one that was skipped, and counted.

        Raises:
            IPFSDatasetError: None of the next can be read either.
        """
        mark = self._policy.mark()
        self._policy.succeeded()
        with short_traceback:
            [sample] = self._read_batch([index], replaces=True)
        self._policy.reset(mark)
        return sample

    def _read_each_as_overridden(self, indices: Sequence[int]) -> list[list[Any]]:
        """Returns what `read_each_or_skip` does, where a subclass has a ``__getitems__`` of its own."""
        mark = self._policy.mark()
        samples = self.__getitems__(indices)
        if len(samples) == len(indices):
            return [[sample] for sample in samples]
        # Nothing tells which were skipped: all are read once more, and counted once.
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
        """How many samples of batches were skipped so far, in this process and its workers."""
        return self._policy.skipped

    @property
    def skipped_here(self) -> int:
        """How many of them were skipped in the calling thread."""
        return self._policy.skipped_here

    def block_memory(self) -> int:
        """Returns how many bytes of verified blocks each process keeps in memory."""
        return self._connections.options.memory

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns where each shuffle block ends, by number: a run of samples of about `size` bytes."""
        return self._indexed().block_stops(size)

    def splits(self, split_bytes: int | str = "128M", *, index: bool = True) -> list[DatasetSplit]:
        """Returns parts of the dataset for the tasks of a data processing engine, in order.

        Together they have every sample once. They are cut where reading is cheap, between files and archives
        or, within large ones, at blocks, members and row groups; what cannot be entered in the middle, such
        as a compressed TAR, is one part. Sizes and numbers of samples come from directories, indexes and
        manifests, and no sample is read.

        Where a subclass has a ``__getitem__`` of its own, each sample is read by it, and the dataset pickles
        with each split.

        Args:
            split_bytes: About how many bytes as they are stored a split has: a number, or text such as
                ``"128M"``. One sample is never divided.
            index: Whether the headers of large uncompressed TARs are read, as for ``len``: without them, such
                an archive is at most three parts, whose numbers of samples are not known.

        Returns:
            Splits, which pickle; none of a dataset without samples.

        Raises:
            ValueError: `split_bytes` is no size.
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
        """Returns the CIDs of what the samples are read from, shortened where there are many."""

    @property
    def cid(self) -> str:
        """The CID of the data; of several objects their CIDs, shortened where there are many."""
        return self.content_id()

    def __repr__(self) -> str:
        """Returns what the dataset is and where it is read, as far as that is known without a request."""
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
        """Whether ``self[index]`` returns samples as they were read: no subclass transforms them."""
        return type(self).__getitem__ is SampleAccess.__getitem__

    def _count(self) -> int:
        if self._length is None:
            self._length = len(self._indexed())
        return self._length

    def _check_several(self, shown: str) -> None:
        """Refuses several indices where a subclass has a ``__getitem__``, which handles one sample.

        Args:
            shown: The indices, for the message.

        Raises:
            TypeError: A subclass has a ``__getitem__`` of its own.
        """
        if not self._unchanged:
            raise TypeError(
                f"{type(self).__name__} has a __getitem__ of its own, which takes one index at a time: "
                f"write [dataset[i] for i in {shown}], or torch.utils.data.Subset(dataset, {shown}); and "
                "give a DataLoader a BatchSampler as batch_sampler, not as sampler"
            )


class IPFSDataset(SampleAccess, Dataset[Any]):
    """A map-style dataset: members of archives and folders, and whole plain objects, by number.

    Nothing is fetched before the first use. Then archives' tables of contents are read, and of their
    members only those asked for. A compressed tar allows no random access: iterate it with
    `IPFSIterableDataset`.

    Args:
        ipfs_objs: One object or several, of any formats and sources.
        ipfs_api_address: Where to read: a node's RPC API (multiaddr or URL), a folder or `.car` file of
            blocks; None reads from the gateways that the objects' URLs name, else from those that the
            environment configures, else from the embedded store.
        decoders: Makes values of the bytes of members of archives and folders, and of plain objects, by the
            end of their names: ``{".spx": decode}``, with a function of the bytes, or a format (its class or
            name). A format of which a file has many samples gives the list of them.
        transform: Applied to the bytes of each sample, or to what a decoder made of them, in the process that
            reads it.
        target_transform: Applied to the name of each sample, from which a label may be made.
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
        """Returns a dataset of objects that were opened already, through the same connections."""
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
        """Returns the objects' CIDs, shortened where there are many."""
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
    """Returns the integer that an index is: of Python, numpy, or a torch tensor with one integer.

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
            f"a sample has an integer as its index, not {index!r:.80} of type {type(index).__name__}{hint}"
        ) from None
