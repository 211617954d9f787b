"""The pieces that a dataset reads: an archive or plain object, or a run of a folder's plain members.

Each gives samples by number, where its format allows that, and in order; each pickles as what names it, and
opens its object anew in every process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.datasets.decoding import Decoders, DecodingReader
from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, Location
from ipfs_dataset_core.interfaces import FolderReader, ObjectFile, Reader
from ipfs_dataset_core.interfaces.objects import whole_blocks
from ipfs_dataset_core.registry import make_reader, unguarded
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.runtime.process_local import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces import (
        MemberIndex,
        ObjectDirectory,
        ReaderPlugin,
        Sample,
    )
    from ipfs_dataset_core.toolkit.indexes import NameTable

E = TypeVar("E", bound=IPFSDatasetError)

_NO_DECODERS = Decoders()
# How many members of a folder are announced while one is read, at first and later.
_FIRST_AHEAD, _MEMBERS_AHEAD = 16, 256
# What a folder's member weighs when work is split by bytes; only the balance depends on it.
_MEMBER_WEIGHT = 64 << 10


class Shard(ABC):
    """Part of a dataset that is read as one thing.

    Attributes:
        what: What messages call it.
    """

    what: str

    @abstractmethod
    def count(self) -> int:
        """Returns the number of samples.

        Raises:
            FormatError: The format allows no random access, so that only reading all of it would tell.
        """

    @abstractmethod
    def is_counted(self) -> bool:
        """Tells whether `count` is known or cheap to find out."""

    @abstractmethod
    def is_splittable(self) -> bool:
        """Tells whether several readers can share it without each reading all of it."""

    @abstractmethod
    def weight(self) -> int:
        """Returns about how many bytes it has."""

    @abstractmethod
    def get(self, position: int) -> Sample:
        """Returns one sample."""

    def get_each(self, positions: Iterable[int]) -> Iterator[Sample]:
        """Yields several samples, whose positions ascend."""
        return map(self.get, positions)

    @abstractmethod
    def prefetch(self, positions: Sequence[int]) -> None:
        """Starts fetching what these samples need."""

    def read_ahead(self, positions: Sequence[int]) -> None:
        """Starts fetching what these samples need, for a reader that reads all of them in order."""
        self.prefetch(positions)

    @abstractmethod
    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        """Yields about how many bytes each of some samples, in order, needs besides those before it."""

    @abstractmethod
    def between(self, start: int, stop: int) -> Iterator[Sample]:
        """Yields a range of samples by number."""

    @abstractmethod
    def slice(self, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples that start within a range of its weight; every sample is in one range."""

    @abstractmethod
    def numbers(self, start: int, stop: int) -> tuple[int, int] | None:
        """Returns the numbers of the samples that `slice` yields; None where it does not go by number."""

    def resume(self, start: int, found: int, name: str | None) -> tuple[int, int]:
        """Returns the number of the sample at which a slice failed, and where the next one may begin.

        Args:
            start: Where the slice starts.
            found: How many of its samples were read.
            name: The name of the last of them.

        Raises:
            FormatError: The format does not tell.
        """
        raise FormatError(f"{self.what!r} cannot be read on")

    @abstractmethod
    def close(self) -> None:
        """Forgets what this process opened; a later use opens it again."""

    def samples(self) -> Iterator[Sample]:
        """Yields every sample in order."""
        return self.between(0, self.count())


class ObjectShard(Shard):
    """An object read by its own format.

    Args:
        open_source: Opens the object; pickled.
        reader: The format's declaration, or a reader.
        what: What errors call it.
        where: Returns what errors add of it; pickled. Without it, `what`.
        decoders: What makes values of its samples' bytes.
    """

    def __init__(
        self,
        open_source: Callable[[], ObjectFile | ObjectDirectory],
        reader: ReaderPlugin | Reader,
        what: str,
        where: Callable[[], Location] | None = None,
        decoders: Decoders = _NO_DECODERS,
    ) -> None:
        self.what = what
        self._where = where
        self._open = open_source
        self._source = ProcessLocal(open_source)
        self._reader = ProcessLocal(_ReaderFactory(reader, where, decoders))
        self._index: MemberIndex | None = None

    @property
    def source(self) -> Any:
        """The open object of this process."""
        try:
            return self._source.get()
        except IPFSDatasetError as error:
            raise self._located(error) from error.__cause__

    @property
    def reader(self) -> Reader:
        """The reader of this process."""
        return self._reader.get()

    def index(self) -> MemberIndex:
        """Returns where each sample lies, looked up once."""
        if self._index is None:
            self._index = self._find_index()
        if self._index is None:
            raise self._located(FormatError(f"{self.what!r} {self._without_index()}"))
        return self._index

    def _without_index(self) -> str:
        """Returns why samples cannot be read by number, and what users and the format's author can do."""
        reader = self.reader
        inner = unguarded(reader.inner if isinstance(reader, DecodingReader) else reader)
        if type(inner).index is not Reader.index:
            return "allows no random access: iterate it with IPFSIterableDataset"
        return (
            "is of a format without random access: iterate it with IPFSIterableDataset. To read it by "
            f"number, {type(inner).__name__} of {type(inner).__module__} has to have `index` and `read`"
        )

    def count(self) -> int:
        return len(self.index())

    def is_counted(self) -> bool:
        # Never because an index happens to be here: readers that share a shard have to split it alike.
        if not self.reader.cheap_index:
            return False
        if self._index is None:
            self._index = self._find_index()
        return self._index is not None

    def _find_index(self) -> MemberIndex | None:
        source = self.source
        index = self.reader.index(source)
        if index is not None:
            # Whatever the format: a few bytes may claim any number of rows.
            source.limits.check("members", len(index), repr(source.name))
        return index

    def is_splittable(self) -> bool:
        return self.is_counted() or self.reader.sliceable(self.source)

    def weight(self) -> int:
        # Never 0: an empty object, too, is in somebody's share.
        return max(1, self.source.size) if isinstance(self.source, ObjectFile) else _MEMBER_WEIGHT

    def get(self, position: int) -> Sample:
        return self.reader.read(self.source, self.index(), position)

    def get_each(self, positions: Iterable[int]) -> Iterator[Sample]:
        return self.reader.read_each(self.source, self.index(), positions)

    def prefetch(self, positions: Sequence[int]) -> None:
        self.reader.prefetch(self.source, self.index(), positions)

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        spans, source = map(self.index().span, positions), self.source
        return (
            source.fetch_bytes(spans) if isinstance(source, ObjectFile) else whole_blocks(spans, 1)
        )

    def samples(self) -> Iterator[Sample]:
        # A file of its own, for readers read on from where it stands, and iterations may run side by side.
        return self.reader.samples(self._open_for(0))

    def between(self, start: int, stop: int) -> Iterator[Sample]:
        if self._index is not None and (start, stop) == (0, len(self._index)):
            return self.samples()
        if not isinstance(self.source, ObjectFile):
            return _one_by_one(self, start, stop)
        return (self.get(position) for position in range(start, stop))

    def slice(self, start: int, stop: int) -> Iterator[Sample]:
        if (numbers := self.numbers(start, stop)) is not None:
            return self.between(*numbers)
        return self.reader.samples_between(self._open_for(start, stop), start, stop)

    def numbers(self, start: int, stop: int) -> tuple[int, int] | None:
        if not self.is_counted():
            return None
        weight, count = self.weight(), self.count()
        return count * start // weight, count * stop // weight

    def resume(self, start: int, found: int, name: str | None) -> tuple[int, int]:
        index = self.index()
        first = bisect_left(range(len(index)), start, key=lambda position: index.span(position)[0])
        if first < len(index) and not self._begins_after(start, first):
            first += 1
        position = first + found
        if position >= len(index) or (found and index.name(position - 1) != name):
            raise FormatError(f"{self.what!r}: its index does not tell which sample failed")
        return position, index.span(position)[1]

    def _begins_after(self, start: int, position: int) -> bool:
        """Tells whether a sample begins at `start` or after it, whose bytes after a header do so."""
        index = self.index()
        until = index.span(position)[0] + 1
        try:
            for name, _ in self.reader.samples_between(self._open(), start, until):
                return name == index.name(position)
        except IPFSDatasetError:  # it is there, and damaged
            return True
        return False

    def close(self) -> None:
        self._source.pop()

    def _open_for(self, start: int, stop: int | None = None) -> ObjectFile | ObjectDirectory:
        """Opens the object anew for who reads it in order, where it is a file up to a position."""
        try:
            source = self._open()
        except IPFSDatasetError as error:
            raise self._located(error) from error.__cause__
        if isinstance(source, ObjectFile):
            source.read_ahead(start, source.size if stop is None else stop)
        return source

    def _located(self, error: E) -> E:
        where = Location(object=self.what) if self._where is None else self._where()
        return located(error, where)


class _ReaderFactory:
    """Makes a format's reader; a class so that it pickles."""

    def __init__(
        self,
        declared: ReaderPlugin | Reader,
        where: Callable[[], Location] | None,
        decoders: Decoders,
    ) -> None:
        self._declared = declared
        self._where = where
        self._origin = default_registry().origin(declared)
        self._decoders = decoders

    def __call__(self) -> Reader:
        reader = make_reader(self._declared, self._origin, self._where)
        if not self._decoders or isinstance(reader, FolderReader):
            return reader
        return DecodingReader(reader, self._decoders, self._where)


class FolderShard(Shard):
    """Members of a folder, each one sample.

    Args:
        directory: The folder, in each process.
        names: The members' paths.
        folder: The name of the folder.
        where: Returns where errors say that a member is, by its number; pickled.
        decoders: What makes values of their bytes.
    """

    def __init__(
        self,
        directory: ProcessLocal[ObjectDirectory],
        names: NameTable,
        folder: str,
        where: Callable[[int, str], Location],
        decoders: Decoders = _NO_DECODERS,
    ) -> None:
        self._decoders = decoders
        self.what = f"the members of {folder!r} from {names[0]!r} on"
        self._directory = directory
        self._names = names
        self._where = where

    def count(self) -> int:
        return len(self._names)

    def is_counted(self) -> bool:
        return True

    def is_splittable(self) -> bool:
        return True

    def weight(self) -> int:
        return len(self._names) * _MEMBER_WEIGHT

    def get(self, position: int) -> Sample:
        name = self._names[position]
        try:
            directory = self._directory.get()
            with directory.open(name) as file:
                sample = name, file.read()
            if not self._decoders:
                return sample
            return self._decoders.decoded(sample, directory.limits)
        except IPFSDatasetError as error:
            raise located(error, self._where(position, name)) from error.__cause__

    def prefetch(self, positions: Sequence[int]) -> None:
        self._directory.get().prefetch([self._names[position] for position in positions])

    def read_ahead(self, positions: Sequence[int]) -> None:
        self._directory.get().read_ahead([self._names[p] for p in positions])

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        return (_MEMBER_WEIGHT for _ in positions)

    def between(self, start: int, stop: int) -> Iterator[Sample]:
        return _one_by_one(self, start, stop)

    def slice(self, start: int, stop: int) -> Iterator[Sample]:
        return self.between(*self.numbers(start, stop))

    def numbers(self, start: int, stop: int) -> tuple[int, int]:
        # A member belongs to the range in which it starts.
        return -(-start // _MEMBER_WEIGHT), -(-stop // _MEMBER_WEIGHT)

    def close(self) -> None:
        self._directory.pop()


def _one_by_one(shard: Shard, start: int, stop: int) -> Iterator[Sample]:
    """Yields samples that are files of a directory, while the next ones are fetched."""
    # What comes in order comes from the directory's start on: never more in vain than is used.
    hint = shard.read_ahead if start <= stop - start else shard.prefetch
    # Little at first, or the first sample waits for all of it.
    announced, ahead = start, _FIRST_AHEAD
    for position in range(start, stop):
        if announced - position <= ahead // 2 and announced < stop:
            until = min(position + ahead, stop)
            hint(range(announced, until))
            announced, ahead = until, min(2 * ahead, _MEMBERS_AHEAD)
        yield shard.get(position)
