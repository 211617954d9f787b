"""The datasets that users construct, subclass and hand to a DataLoader."""

from __future__ import annotations

from types import GeneratorType
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset, IterableDataset

from ipfs_dataset_core.datasets.batch_fetch import Batches, numbered
from ipfs_dataset_core.datasets.block_streaming import stream_in_blocks
from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.indexing import as_integer, check_length_holds, check_slice
from ipfs_dataset_core.datasets.objects import DatasetObject, DatasetObjects, as_objects
from ipfs_dataset_core.datasets.streaming import exact_length, stream
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.epochs import SharedEpoch
from ipfs_dataset_core.order.reader_rank import current_job, current_reader_rank, job_to_carry
from ipfs_dataset_core.order.sharding import DISTRIBUTIONS
from ipfs_dataset_core.order.shuffled_blocks import (
    STEPS_AHEAD,
    default_block,
    default_window,
    fits,
    keyed_random,
)
from ipfs_dataset_core.reading.connections import Connections

if TYPE_CHECKING:
    import os
    from array import array
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Unpack

    from ipfs_dataset_core.datasets.decoding import Decoder
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
    from ipfs_dataset_core.options import OptionArguments
    from ipfs_dataset_core.order.reader_rank import Job
    from ipfs_dataset_core.order.sharding import Distribution


class SampleAccess:
    """Random access to samples, on a base of its own.

    Users write ``super(IPFSDataset, self).__getitem__(index)`` in their subclasses, which starts looking
    behind `IPFSDataset`.
    """

    _samples: DatasetObjects
    _connections: Connections

    def __getitem__(self, index: Any) -> Any:
        """Returns the sample ``(name, bytes)`` at an index, negative ones from the end.

        Args:
            index: An integer, also one of numpy or torch; a slice gives the list of its samples, fetched
                together, and does so where no subclass has a ``__getitem__`` of its own.

        Raises:
            IndexError: There is no such sample.
            TypeError: The index is neither, or a slice that a subclass's ``__getitem__`` was given.
            IPFSDatasetError: The object could not be found, fetched, verified or read.
        """
        if isinstance(index, slice):
            check_slice(self, index, SampleAccess.__getitem__)
            return self.__getitems__(range(*index.indices(len(self._samples))))  # type: ignore[attr-defined]
        length = len(self._samples)
        position = as_integer(index)
        if not -length <= position < length:
            raise IndexError(f"sample {position} of a dataset of {length}")
        return self._samples.concatenated.get(position % length)


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
        **options: Fields of `Options`.
    """

    def __init__(
        self,
        ipfs_objs: IPFSObject | str | Iterable[IPFSObject | str],
        ipfs_api_address: str | os.PathLike[str] | None = None,
        *,
        decoders: Mapping[str, Decoder] | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        chosen, objects = Options.from_arguments(options), as_objects(ipfs_objs)
        self._connections = Connections(ipfs_api_address, chosen, objects)
        self._policy = ErrorPolicy(chosen)
        self._batches = Batches(chosen.memory)
        decode = Decoders(decoders)
        self._samples = DatasetObjects(
            [DatasetObject(item, self._connections, decode) for item in objects]
        )

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Returns a batch: what it needs is fetched together, then each sample goes through ``self[i]``.

        They do so in the order of `indices`, but for a batch whose blocks are more than `memory` holds: then
        samples that lie together do so one after the other.
        """
        return self._batches.samples(
            self._samples.concatenated,
            indices,
            len(self._samples),
            self.__getitem__,
            self._policy,
            as_they_are=type(self).__getitem__ is SampleAccess.__getitem__,
        )

    def prefetch(self, indices: Sequence[int]) -> None:
        """Starts fetching samples of the next batches while others are read.

        Has no effect before the first batch of this process, or after several hints without a batch.

        Args:
            indices: Numbers of samples.
        """
        self._batches.prefetch(self._samples.concatenated, numbered(indices, len(self._samples)))

    @property
    def skipped(self) -> int:
        """How many samples of batches were skipped so far, in this process and its workers."""
        return self._policy.skipped

    def block_memory(self) -> int:
        """Returns how many bytes of verified blocks each process keeps."""
        return self._connections.options.memory

    def block_stops(self, size: int) -> array[int]:
        """Returns where each block ends, by number: a run of samples that start within `size` bytes."""
        return self._samples.concatenated.block_stops(size)

    def close(self) -> None:
        """Closes the connections of this process; a later use opens them again."""
        self._samples.close()
        self._connections.close()


class IPFSIterableDataset(IterableDataset[Any]):
    """A dataset that streams its objects' samples in order.

    Samples, not objects, are split over the ranks of a distributed job and the workers of its DataLoaders,
    so one archive feeds all of them.

    Args:
        ipfs_objs: One object or several, of any formats and sources.
        ipfs_api_address: Where to read, as for `IPFSDataset`.
        shuffle_urls: Whether each epoch reads the objects in another order; see `set_epoch`.
        seed: What the order depends on, besides the epoch.
        distribution: ``"pad"`` or ``"drop"`` give every rank equally many samples, by reading a few twice or
            leaving a few out; ``"uneven"`` reads each exactly once. By default ``"pad"`` where
            torch.distributed runs, since ranks that differ wait for each other for ever, else ``"uneven"``.
        shuffle_blocks: Whether each epoch reads the samples in another order, in which neighbours in the
            data stay near each other: what allows random access in shuffled blocks, the rest as ever.
        decoders: As for `IPFSDataset`.
        **options: Fields of `Options`.
    """

    _objects: list[DatasetObject]

    def __init__(
        self,
        ipfs_objs: IPFSObject | str | Iterable[IPFSObject | str],
        ipfs_api_address: str | os.PathLike[str] | None = None,
        shuffle_urls: bool = False,  # noqa: FBT001, FBT002 - third by position, as it always was
        *,
        seed: int = 0,
        distribution: Distribution | None = None,
        shuffle_blocks: bool = False,
        decoders: Mapping[str, Decoder] | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        if distribution is not None and distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution is one of {DISTRIBUTIONS}, not {distribution!r}")
        chosen, objects = Options.from_arguments(options), as_objects(ipfs_objs)
        self._connections = Connections(ipfs_api_address, chosen, objects)
        self._policy = ErrorPolicy(chosen)
        decode = Decoders(decoders)
        self._objects = [DatasetObject(item, self._connections, decode) for item in objects]
        self._shuffle_urls = shuffle_urls
        self._shuffle_blocks = shuffle_blocks
        self._seed = seed
        self._distribution = distribution
        self._carried: Job | None = None
        self._epoch = SharedEpoch()

    def __iter__(self) -> Iterator[Any]:
        if self._shuffle_blocks:
            return self.in_shuffled_blocks()
        job = current_job(self._carried)
        reader = current_reader_rank(job)
        shards = self._policy.shards(self._ordered(), in_order=reader.count == 1)
        return stream(shards, reader, self._distribution or job.distribution, self._policy)

    def in_shuffled_blocks(self, seed: int = 0) -> Iterator[Any]:
        """Yields this reader's samples as with ``shuffle_blocks``; `seed` counts besides the dataset's."""
        job = current_job(self._carried)
        memory = self._connections.options.memory
        block = default_block(memory)
        window = default_window(memory, block)
        return stream_in_blocks(
            self._policy.shards(self._objects),
            current_reader_rank(job),
            self._distribution or job.distribution,
            self._policy,
            block=block,
            window=window,
            key=(self._seed, seed, self._epoch.get()),
            ahead=STEPS_AHEAD if fits(memory, window, block) else 0,
        )

    def __len__(self) -> int:
        """Returns the exact number of samples for this rank.

        A subclass whose ``__iter__`` yields as many samples as this one's defines a ``__len__`` that returns
        ``super().__len__()``.

        Raises:
            TypeError: Only reading the whole dataset would tell, or a subclass has an ``__iter__`` of its own
                and no ``__len__``.
        """
        if not hasattr(self, "_objects"):
            raise TypeError(f"{type(self).__name__} has no len()")
        check_length_holds(self)
        if not self._policy.raises:
            raise TypeError("with a handler that skips samples there is no len(): it may be less")
        job = current_job(self._carried)
        shards = [shard for item in self._objects for shard in item.shards()]
        return exact_length(shards, job.world, job.rank, self._distribution or job.distribution)

    def __bool__(self) -> bool:
        """Returns True, as for any iterable dataset: asking must neither read nor fail."""
        return True

    @property
    def skipped(self) -> int:
        """How many samples, and objects that could not be opened, were skipped so far by all workers."""
        return self._policy.skipped

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next; persistent workers hear of it as well."""
        if hasattr(self, "_objects"):
            self._epoch.set(epoch)
        for dataset in self._wrapped():
            dataset.set_epoch(epoch)

    def close(self) -> None:
        """Closes the connections of this process; a later use opens them again."""
        if hasattr(self, "_objects"):
            for item in self._objects:
                item.close()
            self._connections.close()
        for dataset in self._wrapped():
            dataset.close()

    def __getstate__(self) -> dict[str, Any]:
        # A subclass that keeps the iterator of its last epoch could not go to a worker otherwise.
        state = {k: v for k, v in self.__dict__.items() if not isinstance(v, GeneratorType)}
        if "_carried" in state:
            state["_carried"] = job_to_carry(self._carried)
        return state

    def _wrapped(self) -> Iterator[IPFSIterableDataset]:
        """Yields the datasets that a subclass keeps in its attributes and iterates for its own samples."""
        return (v for v in vars(self).values() if isinstance(v, IPFSIterableDataset))

    def _ordered(self) -> list[DatasetObject]:
        objects = list(self._objects)
        if self._shuffle_urls:
            keyed_random("objects", self._seed, self._epoch.get()).shuffle(objects)
        return objects
