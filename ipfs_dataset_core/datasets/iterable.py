"""The iterable dataset: streams of samples of objects in IPFS, shared out to ranks and workers."""

from __future__ import annotations

import copy
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.objects import (
    DatasetObject,
    as_objects,
    described_objects,
    described_sources,
)
from ipfs_dataset_core.datasets.splits import splits_of_objects
from ipfs_dataset_core.datasets.streaming import (
    SkippingStream,
    exact_length,
    stream,
    stream_in_blocks,
)
from ipfs_dataset_core.datasets.transforms import explain_collate, sample_transform
from ipfs_dataset_core.datasets.worker_samples import WorkerTransfer
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.order_state import joined_ids
from ipfs_dataset_core.order.reader_rank import (
    SharedEpoch,
    current_job,
    current_reader_rank,
    job_to_carry,
)
from ipfs_dataset_core.order.sharding import DISTRIBUTIONS, known_split
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
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from typing_extensions import Self, Unpack

    from ipfs_dataset_core.datasets.decoding import Decoder
    from ipfs_dataset_core.datasets.splits import DatasetSplit
    from ipfs_dataset_core.datasets.transforms import SampleTransform
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
    from ipfs_dataset_core.options import OptionArguments
    from ipfs_dataset_core.order.reader_rank import Job
    from ipfs_dataset_core.order.sharding import Distribution, Split


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
            data stay near each other: objects with random access in shuffled blocks, then the others in
            order.
        split: Among whom samples are split. ``"auto"``: ranks and workers, without those for whom accelerate
            or a dataset of Hugging Face splits them, which is noticed. ``"workers"``: the workers of each
            rank, so that every rank reads all samples. ``"none"``: nobody, every reader reads all.
        decoders: As for `IPFSDataset`.
        transform: As for `IPFSDataset`.
        target_transform: As for `IPFSDataset`.
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
        split: Split = "auto",
        decoders: Mapping[str, Decoder] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        if distribution is not None and distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution is one of {DISTRIBUTIONS}, not {distribution!r}")
        chosen, objects = Options.from_arguments(options), as_objects(ipfs_objs)
        self._connections = Connections(ipfs_api_address, chosen, objects)
        self._policy = ErrorPolicy(chosen)
        self._sample_transform = sample_transform(transform, target_transform, data=1)
        decode = None if decoders is None else Decoders(decoders)
        self._objects = [DatasetObject(item, self._connections, decode) for item in objects]
        self._shuffle_urls = shuffle_urls
        self._shuffle_blocks = shuffle_blocks
        self._seed = seed
        self._distribution = distribution
        self._split = known_split(split)
        self._carried: Job | None = None
        self._epoch = SharedEpoch()

    @classmethod
    def of_objects(
        cls,
        connections: Connections,
        objects: list[DatasetObject],
        transform: SampleTransform | None = None,
    ) -> IPFSIterableDataset:
        """Returns a dataset of objects that were opened already, through the same connections."""
        dataset = cls(())
        dataset._connections = connections
        dataset._policy = ErrorPolicy(connections.options)
        dataset._objects = objects
        dataset._sample_transform = transform
        return dataset

    def __iter__(self) -> Iterator[Any]:
        if self._shuffle_blocks:
            return self.in_shuffled_blocks()
        job = current_job(self._carried, split=self._split)
        reader = current_reader_rank(job, split=self._split)
        shards = SkippingStream(self._policy).shards(self._ordered(), in_order=reader.count == 1)
        samples = stream(shards, reader, self._distribution or job.distribution, self._policy)
        return self._transformed(samples)

    def in_shuffled_blocks(self, seed: int = 0) -> Iterator[Any]:
        """Yields this reader's samples as with ``shuffle_blocks``; `seed` counts besides the dataset's."""
        job = current_job(self._carried, split=self._split)
        memory = self._connections.options.memory
        block = default_block(memory)
        window = default_window(memory, block)
        samples = stream_in_blocks(
            SkippingStream(self._policy).shards(self._objects),
            current_reader_rank(job, split=self._split),
            self._distribution or job.distribution,
            self._policy,
            block=block,
            window=window,
            key=(self._seed, seed, self._epoch.get()),
            ahead=STEPS_AHEAD if fits(memory, window, block) else 0,
        )
        return self._transformed(samples)

    def _transformed(self, samples: Iterator[Any]) -> Iterator[Any]:
        explain_collate()
        if self._sample_transform is not None:
            samples = map(self._sample_transform, samples)
        return WorkerTransfer(self._connections.options.worker_memory).stream(samples)

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
        job = current_job(self._carried, split=self._split)
        shards = [shard for item in self._objects for shard in item.shards()]
        return exact_length(shards, job.world, job.rank, self._distribution or job.distribution)

    def __bool__(self) -> bool:
        """Returns True, as for any iterable dataset: asking must neither read nor fail."""
        return True

    @property
    def cid(self) -> str:
        """The CID of the data; of several objects their CIDs, shortened where there are many."""
        return joined_ids(item.content_id() for item in self._objects)

    def __repr__(self) -> str:
        """Returns what the dataset is and where it is read, as far as that is known without a request."""
        if not hasattr(self, "_objects"):
            return f"<{type(self).__name__}>"
        sources = described_sources(self._connections, self._objects)
        parts = [f"{described_objects(self._objects)} from {sources}"]
        if self._sample_transform is not None:
            parts.append(str(self._sample_transform))
        return f"<{type(self).__name__} {', '.join(parts)}>"

    @property
    def skipped(self) -> int:
        """How many samples, and objects that could not be opened, were skipped so far by all workers."""
        return self._policy.skipped

    def splits(self, split_bytes: int | str = "128M", *, index: bool = False) -> list[DatasetSplit]:
        """Returns parts of the dataset for the tasks of a data processing engine, in order.

        As `IPFSDataset.splits` does. The order is that of the objects as they were given, whatever is
        shuffled, and all ranks together read each sample once.

        Args:
            split_bytes: About how many bytes as they are stored a split has.
            index: As for `IPFSDataset.splits`.

        Raises:
            ValueError: It is no size.
            TypeError: A subclass has an ``__iter__`` of its own.
            IPFSDatasetError: An object could not be found, fetched or verified.
        """
        if type(self).__iter__ is not IPFSIterableDataset.__iter__ or not hasattr(self, "_objects"):
            raise TypeError(
                f"{type(self).__name__} has an __iter__ of its own, which yields the samples of a whole "
                "stream: split an IPFSIterableDataset, with transform= for each sample"
            )
        return splits_of_objects(
            *(self._objects, self._connections, self._policy, split_bytes, self._sample_transform),
            index=index,
        )

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch, for persistent workers too."""
        if hasattr(self, "_objects"):
            self._epoch.set(epoch)
        for dataset in self._wrapped():
            dataset.set_epoch(epoch)

    def with_split(self, split: Split) -> Self:
        """Returns a view of this dataset whose samples are split otherwise.

        It shares connections, epoch and counts with this one.

        Args:
            split: Among whom samples are split.
        """
        view = copy.copy(self)
        if hasattr(self, "_objects"):
            view._split, view._carried = known_split(split), self._carried  # noqa: SLF001 - of the same class
        for name, value in vars(self).items():
            if isinstance(value, IPFSIterableDataset):
                setattr(view, name, value.with_split(split))
        return view

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


def check_length_holds(dataset: Any) -> None:
    """Refuses to count where a subclass yields something else than the class that counts.

    Raises:
        TypeError: A class has an ``__iter__`` of its own, and neither it nor one below it a ``__len__``.
    """
    for kind in type(dataset).__mro__:
        if "__len__" in vars(kind):
            return
        if "__iter__" in vars(kind):
            raise TypeError(
                f"{kind.__name__} has an __iter__ of its own, which may yield more or fewer samples: give it "
                "a __len__ too, which returns super().__len__() where it yields one for each"
            )
