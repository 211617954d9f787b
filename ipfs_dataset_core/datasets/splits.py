"""Splits: parts of a dataset that other processes and machines read, independently and in order.

A data processing engine, such as Ray, Spark or Dask, makes one task of each split. Splits are cut where
reading is cheap: between files and archives, and within large ones at blocks, members or row groups.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.streaming import SkippingStream
from ipfs_dataset_core.errors import FormatError, IPFSDatasetError
from ipfs_dataset_core.interfaces.objects import ObjectFile
from ipfs_dataset_core.options import parse_size
from ipfs_dataset_core.order.shuffled_blocks import cut
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.runtime.short_traceback import shortened_iteration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from ipfs_dataset_core.datasets.objects import DatasetObject
    from ipfs_dataset_core.datasets.published import Published
    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.datasets.transforms import SampleTransform
    from ipfs_dataset_core.interfaces import PublishedSamples
    from ipfs_dataset_core.reading.connections import Connections

# If the first sample of a part is only found by reading the headers before it, all parts together read at
# most twice the bytes of the object.
_MOST_SCANNED_PARTS = 3
# Number of samples read together if the dataset has its own `__getitem__`.
_READ_TOGETHER = 32


class SplitPart(ABC):
    """Consecutive samples of one object, folder or published dataset; can be pickled.

    Attributes:
        bytes: Their approximate size in storage.
        rows: Number of samples; None if they would have to be read to count them.
        cid: The CID from which they are read.
    """

    bytes: int
    rows: int | None
    cid: str

    @abstractmethod
    def read(self, policy: ErrorPolicy) -> Iterator[Any]:
        """Yields the samples in order, without those that the policy skips."""

    @abstractmethod
    def close(self) -> None:
        """Closes everything that this process opened; a later use opens it again."""


class DatasetSplit:
    """Part of a dataset: consecutive samples that one task reads in order. All splits are the dataset.

    It can be pickled, and opens connections of its own in each process that reads it::

        for split in dataset.splits("128M"):
            with split:
                for sample in split:
                    ...

    Attributes:
        number: Its position among the splits of the dataset, from 0.
        bytes: Approximate size of its samples in storage.
        rows: Number of its samples; None if they would have to be read to count them. If `handler` skips
            samples, fewer are yielded.
        cids: The CIDs of the files, directories or published dataset that it reads.
    """

    def __init__(
        self,
        number: int,
        parts: Sequence[SplitPart],
        connections: Connections,
        transform: SampleTransform | None = None,
    ) -> None:
        self.number = number
        self.bytes = sum(part.bytes for part in parts)
        counts = [part.rows for part in parts]
        known = [count for count in counts if count is not None]
        self.rows = sum(known) if len(known) == len(counts) else None
        self.cids = tuple(dict.fromkeys(part.cid for part in parts))
        self._parts = tuple(parts)
        self._connections = connections
        self._transform = transform
        self._policy: ErrorPolicy | None = None

    def __iter__(self) -> Iterator[Any]:
        return self.read()

    def read(self) -> Iterator[Any]:
        """Yields the samples in order, as the dataset yields them.

        Each call starts from the beginning; data prefetched in this process is reused.

        Raises:
            IPFSDatasetError: An object could not be found, fetched, verified or read, and the dataset's
                `handler` does not skip that.
        """
        if self._policy is None:
            self._policy = ErrorPolicy(self._connections.options)
        policy = self._policy
        samples: Iterator[Any] = chain.from_iterable(part.read(policy) for part in self._parts)
        if self._transform is not None:
            samples = map(self._transform, samples)
        return shortened_iteration(samples)

    @property
    def skipped(self) -> int:
        """Number of samples skipped so far in this process."""
        return 0 if self._policy is None else self._policy.skipped

    def close(self) -> None:
        """Closes the connections of this process; a later use opens them again."""
        for part in self._parts:
            part.close()
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_policy": None}

    def __repr__(self) -> str:
        rows = "" if self.rows is None else f", {self.rows} samples"
        return f"<{type(self).__name__} {self.number}: {self.bytes} bytes{rows}>"


def splits_of_objects(
    objects: Iterable[DatasetObject],
    connections: Connections,
    policy: ErrorPolicy,
    size: int | str,
    transform: SampleTransform | None = None,
    *,
    index: bool,
) -> list[DatasetSplit]:
    """Returns splits of the samples of objects.

    Args:
        objects: The objects, in order.
        connections: Where they are read.
        policy: The policy for samples that cannot be read.
        size: Approximate size of a split in bytes.
        transform: Applied to each sample when it is read.
        index: Whether to build an index that is not cheap but allows splitting anywhere.
    """
    wanted = _checked(size)

    def parts() -> Iterator[SplitPart]:
        for shard in SkippingStream(policy).shards(objects):
            try:
                found = list(_parts_of_shard(shard, wanted, index=index))
            except IPFSDatasetError as error:
                policy.skip_or_raise(error, shard.what)
            else:
                yield from found

    return _packed(parts(), wanted, connections, transform)


def splits_of_published(
    published: Published, size: int | str, transform: SampleTransform | None = None
) -> list[DatasetSplit]:
    """Returns splits of a published dataset.

    Args:
        published: The dataset, which each process opens.
        size: Approximate size of a split in bytes.
        transform: Applied to each sample when it is read.
    """
    wanted, first = _checked(size), 0
    opened = ProcessLocal(published.load)
    parts: list[SplitPart] = []
    sizes = opened.get().shard_sizes()
    if sizes is None:
        sizes = [(len(opened.get()), _size_of(published))]
    for count, weight in sizes:
        for start, stop in _even(count, weight, wanted):
            part_bytes = weight * stop // count - weight * start // count
            cid = published.content_id()
            parts.append(PublishedPart(opened, first + start, first + stop, part_bytes, cid))
        first += count
    return _packed(parts, wanted, published.root.connections, transform)


def splits_of_subclass(
    dataset: DatasetOfBatches, splits: Sequence[DatasetSplit], connections: Connections
) -> list[DatasetSplit]:
    """Returns splits of a dataset whose subclass overrides ``__getitem__``, which then reads each sample.

    Args:
        dataset: The dataset; it is pickled with each split.
        splits: Splits of its samples as they are stored.
        connections: Where they are read.

    Raises:
        FormatError: Some samples cannot be read by number.
    """
    found, first = [], 0
    for split in splits:
        if split.rows is None:
            # If samples have no numbers, `len` raises an error with the reason.
            raise FormatError(
                f"{type(dataset).__name__} has a __getitem__ of its own, which takes the number of "
                "a sample, but the samples of some object are numbered only after all of it was "
                "read: call len(dataset) first, or split an IPFSIterableDataset"
            )
        part = NumberedPart(dataset, first, first + split.rows, split.bytes, ", ".join(split.cids))
        found.append(DatasetSplit(split.number, [part], connections))
        first += split.rows
    return found


@attrs.frozen
class SliceOfShard(SplitPart):
    """Samples of a shard, selected by number or by byte.

    Args:
        shard: The shard, reduced to little more than these samples.
        start: The first sample, or byte.
        stop: The end, exclusive; None for all samples of the shard.
        by_number: Whether these are numbers of samples.
        bytes: Approximate size of the samples.
        rows: Number of samples, if known.
        cid: The CID of the object.
    """

    shard: Shard
    start: int
    stop: int | None
    by_number: bool
    bytes: int
    rows: int | None
    cid: str

    def read(self, policy: ErrorPolicy) -> Iterator[Any]:
        reader = SkippingStream(policy)
        if self.stop is None:
            return reader.samples(self.shard)
        if self.by_number:
            return reader.iterate(self.shard, self.start, self.stop)
        return reader.iterate_bytes(self.shard, self.start, self.stop)

    def close(self) -> None:
        self.shard.close()


class RangePart(SplitPart):
    """Samples by number, from one to another.

    Attributes:
        start: The number of the first sample.
        stop: The number after the last sample.
    """

    start: int
    stop: int

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Number of samples."""
        return self.stop - self.start


@attrs.frozen
class PublishedPart(RangePart):
    """Samples of a published dataset.

    Args:
        samples: The dataset, opened in each process.
        start: The number of the first sample.
        stop: The number after the last sample.
        bytes: Approximate size of the samples.
        cid: The CID of the dataset.
    """

    samples: ProcessLocal[PublishedSamples]
    start: int
    stop: int
    bytes: int
    cid: str

    def read(self, policy: ErrorPolicy) -> Iterator[Any]:
        samples = self.samples.get()
        if policy.raises:
            return samples.iterate(self.start, self.stop)
        return policy.read_each(samples.read, range(self.start, self.stop))

    def close(self) -> None:
        self.samples.pop()


class DatasetOfBatches(Protocol):
    """The interface of a map-style dataset that a split reads."""

    def read_each_or_skip(self, indices: Sequence[int]) -> list[list[Any]]:
        """Returns samples, fetched together, each in a list of its own, which is empty if it is skipped."""

    @property
    def skipped_here(self) -> int:
        """Number of samples of batches skipped so far in the calling thread."""

    def close(self) -> None:
        """Closes the connections of this process."""


@attrs.frozen
class NumberedPart(RangePart):
    """Samples of a dataset that reads each sample in its own way.

    Args:
        dataset: The dataset.
        start: The number of the first sample.
        stop: The number after the last sample.
        bytes: Approximate size of the samples.
        cid: The CID from which they are read.
    """

    dataset: DatasetOfBatches
    start: int
    stop: int
    bytes: int
    cid: str

    def read(self, policy: ErrorPolicy) -> Iterator[Any]:
        for first in range(self.start, self.stop, _READ_TOGETHER):
            numbers = range(first, min(first + _READ_TOGETHER, self.stop))
            # The dataset skips samples by a policy of its own, which counts those of all splits.
            before = self.dataset.skipped_here
            batch = self.dataset.read_each_or_skip(numbers)
            policy.count_skipped(self.dataset.skipped_here - before)
            yield from chain.from_iterable(batch)

    def close(self) -> None:
        self.dataset.close()


def _checked(size: int | str) -> int:
    """Returns a size in bytes.

    Raises:
        ValueError: It is not a size, or not positive.
        TypeError: It is neither a number nor text.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(
            f"the size of splits must be a number of bytes, or text such as '128M', not {size!r}"
        )
    wanted = parse_size(size)
    if wanted < 1:
        raise ValueError(f"the size of splits must be at least 1 byte, not {size!r}")
    return wanted


def _packed(
    parts: Iterable[SplitPart],
    size: int,
    connections: Connections,
    transform: SampleTransform | None,
) -> list[DatasetSplit]:
    """Packs parts of at most about `size` bytes into splits of about that size."""
    splits: list[DatasetSplit] = []
    together: list[SplitPart] = []
    weight = 0

    def end() -> None:
        if together:
            splits.append(DatasetSplit(len(splits), together, connections, transform))
        together.clear()

    for part in parts:
        if weight + part.bytes > size:
            end()
            weight = 0
        together.append(part)
        weight += part.bytes
    end()
    return splits


def _parts_of_shard(shard: Shard, size: int, *, index: bool) -> Iterator[SplitPart]:
    if shard.is_counted() or shard.has_parts():
        yield from _by_number(shard, size)
        return
    weight = shard.weight()
    if weight <= size * 3 // 2 or not shard.is_splittable():
        rows = shard.rows_between(0, weight) if shard.is_splittable() else None
        yield SliceOfShard(shard.whole(), 0, None, True, weight, rows, shard.content_id())  # noqa: FBT003
    elif not shard.scans_to_slice():
        step = _step(weight, size, shard.leaf_bytes())
        yield from _by_bytes(shard, weight, step)
    elif index:
        yield from _by_number(shard, size)
    else:
        yield from _by_bytes(shard, weight, max(size, -(-weight // _MOST_SCANNED_PARTS)))


def _by_number(shard: Shard, size: int) -> Iterator[SplitPart]:
    count = len(shard)
    if not count:
        return
    cid = shard.content_id()
    weight, start_of = shard.places()
    if weight <= size * 3 // 2:
        yield SliceOfShard(shard.whole(), 0, None, True, weight, count, cid)  # noqa: FBT003
        return
    first = begin = 0
    for stop in cut(start_of, count, _step(weight, size, shard.leaf_bytes())):
        end = min(max(begin, start_of(stop)), weight) if stop < count else weight
        slimmed, start, until = shard.part(first, stop)
        yield SliceOfShard(slimmed, start, until, True, end - begin, stop - first, cid)  # noqa: FBT003
        first, begin = stop, end


def _by_bytes(shard: Shard, weight: int, step: int) -> Iterator[SplitPart]:
    cid, slimmed, leaf = shard.content_id(), shard.whole(), shard.leaf_bytes()
    step = -(-step // leaf) * leaf  # a smaller part would also fetch a whole leaf
    for start in range(0, weight, step):
        stop = min(start + step, weight)
        rows = shard.rows_between(start, stop)
        if rows != 0:
            yield SliceOfShard(slimmed, start, stop, False, stop - start, rows, cid)  # noqa: FBT003


def _step(weight: int, size: int, leaf: int) -> int:
    """Returns the size of equal parts that begin at leaf boundaries."""
    parts = max(1, (weight + size // 2) // size)
    step = -(-weight // parts)
    return max(1, (step + leaf // 2) // leaf) * leaf if leaf < step else step


def _even(count: int, weight: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields the ranges of equal parts of a number of samples, each of about `size` bytes."""
    parts = min(count, max(1, (weight + size // 2) // size))
    return ((count * n // parts, count * (n + 1) // parts) for n in range(parts))


def _size_of(published: Published) -> int:
    """Returns the approximate size of a published dataset in bytes, as its root declares it."""
    source = published.open()
    if isinstance(source, ObjectFile):
        return source.size
    return sum(size or 0 for size in source.declared_sizes(source.names()))
