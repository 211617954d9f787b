"""Shards: the parts of a dataset that are read as one unit, and their concatenation.

A shard is an archive, a plain object, or a run of plain members of a folder. It provides samples in order
and, if its format allows random access, by number. It can be pickled, and opens its object anew in every
process.
"""

from __future__ import annotations

import copy
import math
import operator
from abc import abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from contextlib import suppress
from functools import partial
from itertools import accumulate, chain, count, repeat
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, Location
from ipfs_dataset_core.interfaces import IndexedSamples, ObjectFile, Reader
from ipfs_dataset_core.interfaces.objects import whole_blocks
from ipfs_dataset_core.order.shuffled_blocks import cut
from ipfs_dataset_core.registry.guarded_readers import make_reader, unguarded
from ipfs_dataset_core.runtime.deadlines import working
from ipfs_dataset_core.runtime.error_location import located, with_message
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.toolkit.indexes import NameTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.decoding import Decoders
    from ipfs_dataset_core.interfaces import (
        MemberIndex,
        ObjectDirectory,
        ReaderPlugin,
        Sample,
    )

E = TypeVar("E", bound=IPFSDatasetError)

# Number of members of a folder that are prefetched while one is read, at first and later.
_FIRST_AHEAD, _MEMBERS_AHEAD = 16, 256
# Assumed size in bytes of a member of a folder, because the folder does not list sizes. It only affects the
# balance between readers and the size of shuffle blocks.
_MEMBER_BYTES = 64 << 10
# Number of samples examined to find out whether an index has spans, because some samples may be empty.
_PROBES = 64
# Number of samples of a part that are read together.
_READ_TOGETHER = 32
# More bytes than any file has: sizes in directories are not verified, and may be wrong.
_MOST_BYTES = 1 << 40


class Shard(IndexedSamples):
    """Part of a dataset that is read as one unit.

    `len` and the other methods of `IndexedSamples` raise a `FormatError` if the format allows no random
    access, so that counting the samples would require reading the whole shard.

    Attributes:
        what: Name of the shard in messages.
    """

    what: str

    @abstractmethod
    def is_counted(self) -> bool:
        """Returns whether the number of samples is known or cheap to find out, equally for every reader."""

    @abstractmethod
    def is_splittable(self) -> bool:
        """Returns whether several readers can share it without each reading all of it."""

    @abstractmethod
    def has_blocks(self) -> bool:
        """Returns whether mixing samples within a window of shuffle blocks costs little reading speed.

        This is False without random access, or if the index has no byte spans, for example because rows are
        decoded many at a time.
        """

    @abstractmethod
    def weight(self) -> int:
        """Returns the approximate size in bytes, at least 1."""

    @abstractmethod
    def iterate_bytes(self, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples that start within a range of bytes, from 0 to `weight`.

        Adjacent ranges together contain each sample once.
        """

    @abstractmethod
    def numbers_in(self, start: int, stop: int) -> tuple[int, int] | None:
        """Returns the range of sample numbers that `iterate_bytes` yields.

        None if the samples are not selected by number.
        """

    def resume(self, start: int, found: int, name: str | None) -> tuple[int, int]:
        """Returns the number of the sample at which `iterate_bytes` failed, and the byte to resume from.

        Args:
            start: The first byte of the range.
            found: Number of its samples that were read.
            name: Name of the last of them.

        Raises:
            FormatError: The format has no index to find it.
        """
        raise FormatError(f"{self.what!r} cannot be read after a sample that failed")

    def read_ahead(self, positions: Sequence[int]) -> None:
        """Starts fetching these samples, for a reader that reads all of them in order."""
        self.prefetch(positions)

    def samples(self) -> Iterator[Sample]:
        """Yields every sample in order."""
        return self.iterate(0, len(self))

    def has_parts(self) -> bool:
        """Returns whether this process already has an index, part of which can be sent to another process."""
        return False

    def scans_to_slice(self) -> bool:
        """Returns whether `iterate_bytes` scans all samples before its range to find the first one in it."""
        return False

    def rows_between(self, start: int, stop: int) -> int | None:
        """Returns the number of samples that `iterate_bytes` yields; None if they would have to be read."""
        return None

    def content_id(self) -> str:
        """Returns the CID of the file or directory that is read, or `what` if it has none."""
        return self.what

    def leaf_bytes(self) -> int:
        """Returns the approximate size in bytes of the smallest fetch, that of one block; 1 if unknown."""
        return 1

    def places(self) -> tuple[int, Callable[[int], int]]:
        """Returns the size in bytes, and a function from a sample's number to its start.

        Starts are ascending; if those in the data are not, or are unknown, samples are assumed to have equal
        sizes.
        """
        total, count = self.weight(), max(1, len(self))
        return total, lambda position: total * position // count

    def part(self, start: int, stop: int) -> tuple[Shard, int, int]:
        """Returns a shard that pickles with little more than the given samples, and their numbers in it."""
        return self, start, stop

    def whole(self) -> Shard:
        """Returns the same shard, pickled without its index."""
        return self

    def samples_from(self, first: int) -> Iterator[Sample]:
        """Yields the samples from a number to the end, in order."""
        return self.iterate(first, len(self))

    @abstractmethod
    def close(self) -> None:
        """Closes everything that this process opened; a later use opens it again."""


class ObjectShard(Shard):
    """An object read by its own format.

    Args:
        open_source: Opens the object; pickled.
        reader: The format's declaration, or a reader.
        what: Name of the object in messages.
        where: Returns the location of the object for errors; pickled. By default `what`.
        decoders: Decoders for the bytes of samples.
        deadline: Seconds for which building the index may continue without reaching new data.
    """

    def __init__(  # noqa: PLR0917 - named where it is called
        self,
        open_source: Callable[[], ObjectFile | ObjectDirectory],
        reader: ReaderPlugin | Reader,
        what: str,
        where: Callable[[], Location] | None = None,
        decoders: Decoders | None = None,
        deadline: float = math.inf,
    ) -> None:
        self.what = what
        self._where = where
        self._deadline = deadline
        self._open = open_source
        self._source = ProcessLocal(open_source)
        self._reader = ProcessLocal(partial(make_reader, reader, where))
        self._decoders = decoders
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
        """Returns the index of the samples, which is looked up once."""
        if self._index is None:
            self._index = self._find_index()
        if self._index is None:
            raise self._located(FormatError(f"{self.what!r} {self._without_index()}"))
        return self._index

    def __len__(self) -> int:
        return len(self.index())

    def is_counted(self) -> bool:
        # Independent of whether this process already has an index: readers that share a shard must split it
        # in the same way.
        if not self.reader.cheap_index:
            return False
        if self._index is None:
            self._index = self._find_index()
        return self._index is not None

    def is_splittable(self) -> bool:
        return self.is_counted() or self.reader.sliceable(self.source)

    def has_blocks(self) -> bool:
        try:
            count = len(self)
        except FormatError:
            return False
        if not count or not isinstance(self.source, ObjectFile):
            return True
        spans = map(self.index().span, range(0, count, -(-count // _PROBES)))
        return any(start < stop for start, stop in spans)

    def weight(self) -> int:
        # Never 0: even an empty object belongs to one reader.
        return max(1, self.source.size) if isinstance(self.source, ObjectFile) else _MEMBER_BYTES

    def read(self, position: int) -> Sample:
        sample = self.reader.read(self.source, self.index(), position)
        return sample if self._decoders is None else self._decoded(sample, position)

    def read_each(self, positions: Iterable[int]) -> Iterator[Sample]:
        wanted = list(positions)
        return self._each_decoded(self.reader.read_each(self.source, self.index(), wanted), wanted)

    def prefetch(self, positions: Sequence[int]) -> None:
        self.reader.prefetch(self.source, self.index(), positions)

    def read_ahead(self, positions: Sequence[int]) -> None:
        source = self.source
        own = type(unguarded(self.reader)).prefetch is not Reader.prefetch
        if own or isinstance(source, ObjectFile):
            self.prefetch(positions)
        else:
            index = self.index()
            source.read_ahead([index.name(position) for position in positions])

    def is_cached(self, positions: Sequence[int]) -> bool:
        source, prefetch = self.source, type(unguarded(self.reader)).prefetch
        # A reader that fetches something else may need something else.
        if prefetch is not Reader.prefetch or not isinstance(source, ObjectFile):
            return False
        return source.is_cached(self.index().spans_at(positions))

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        spans, source = self.index().spans_at(positions), self.source
        return (
            source.fetch_bytes(spans) if isinstance(source, ObjectFile) else whole_blocks(spans, 1)
        )

    def block_stops(self, size: int) -> array[int]:
        span = self.index().span
        if isinstance(self.source, ObjectFile):
            return array("Q", cut(lambda position: span(position)[0], len(self), size))
        return _even_blocks(len(self), size)

    def samples(self) -> Iterator[Sample]:
        if (
            not isinstance(self.source, ObjectFile)
            and type(unguarded(self.reader)).samples is Reader.samples
        ):
            # The files are read one after the other, in the order of the index, and prefetched here.
            return _files_in_order(self, 0, len(self), partial(map, self.read))
        # A file of its own: readers continue from its position, and iterations may overlap.
        return self._each_decoded(self.reader.samples(self._open_for(0)), count())

    def samples_from(self, first: int) -> Iterator[Sample]:
        if not first or self.is_counted() or not self.reader.sliceable(self.source):
            return self.iterate(first, len(self))
        # Data before a sample's bytes, such as a header, begins where the bytes of the previous sample end.
        source = self._open_for(begin := self.index().span(first - 1)[1])
        found = self.reader.samples_between(source, begin, self.weight())
        return self._each_decoded(found, count(first))

    def iterate(self, start: int, stop: int) -> Iterator[Sample]:
        if self._index is not None and (start, stop) == (0, len(self._index)):
            return self.samples()
        if not isinstance(self.source, ObjectFile):
            return _files_in_order(self, start, stop, partial(map, self.read))
        return self._run(start, stop)

    def _run(self, start: int, stop: int) -> Iterator[Sample]:
        """Yields consecutive samples, without reading ahead beyond the last one."""
        index = self.index()
        begin, end = (index.span(start)[0], index.span(stop - 1)[1]) if start < stop else (0, 0)
        if begin >= end:  # positions are unknown, or not ascending
            yield from map(self.read, range(start, stop))
            return
        source = self._open_for(begin, end)
        for position in range(start, stop):
            sample = self.reader.read(source, index, position)
            yield self._decoded(sample, position) if self._decoders else sample

    def iterate_bytes(self, start: int, stop: int) -> Iterator[Sample]:
        if (numbers := self.numbers_in(start, stop)) is not None:
            return self.iterate(*numbers)
        source = self._open_for(start, stop)
        found = self.reader.samples_between(source, start, stop)
        return self._each_decoded(found, repeat(None))

    def numbers_in(self, start: int, stop: int) -> tuple[int, int] | None:
        if not self.is_counted():
            return None
        weight, count = self.weight(), len(self)
        return count * start // weight, count * stop // weight

    def resume(self, start: int, found: int, name: str | None) -> tuple[int, int]:
        index = self.index()
        first = bisect_left(range(len(index)), start, key=lambda position: index.span(position)[0])
        if first < len(index) and not self._begins_after(start, first):
            first += 1
        position = first + found
        if position >= len(index) or (found and index.name(position - 1) != name):
            raise FormatError(f"{self.what!r}: its index does not show which sample failed")
        return position, index.span(position)[1]

    def has_parts(self) -> bool:
        return self._index is not None and self._index.part(0, 0) is not None

    def scans_to_slice(self) -> bool:
        return self.reader.scans_to_slice

    def rows_between(self, start: int, stop: int) -> int | None:
        return self.reader.count_between(self.source, start, stop)

    def content_id(self) -> str:
        cid = self.source.cid
        return self.what if cid is None else str(cid)

    def leaf_bytes(self) -> int:
        return self.source.block_bytes if isinstance(self.source, ObjectFile) else 1

    def places(self) -> tuple[int, Callable[[int], int]]:
        index, source = self.index(), self.source
        if not isinstance(source, ObjectFile):
            return _places_of_files(source, [index.name(number) for number in range(len(index))])
        probed = range(0, len(index), -(-len(index) // _PROBES) or 1)
        starts = [index.span(position)[0] for position in probed]
        if self.has_blocks() and all(map(operator.le, starts, starts[1:])):
            return self.weight(), lambda position: index.span(position)[0]
        return super().places()

    def part(self, start: int, stop: int) -> tuple[Shard, int, int]:
        index = self.index().part(start, stop)
        if index is None:
            return self.whole(), start, stop
        return ObjectPart(self, index, start), 0, stop - start

    def whole(self) -> Shard:
        other = copy.copy(self)
        other._index = None  # noqa: SLF001 - a copy of this
        return other

    def close(self) -> None:
        self._source.pop()

    def _find_index(self) -> MemberIndex | None:
        source = self.source
        with working(self._deadline, f"The index of {self.what!r}"):
            index = self.reader.index(source)
        if index is not None:
            # Applies to all formats: a few bytes may claim any number of rows.
            source.limits.check("members", len(index), repr(source.name))
        return index

    def _without_index(self) -> str:
        """Returns why samples cannot be read by number, and what the user and the format's author can do."""
        inner = unguarded(self.reader)
        if type(inner).index is not Reader.index:
            return "allows no random access: iterate it with IPFSIterableDataset"
        return (
            "is of a format without random access: iterate it with IPFSIterableDataset. To read it by "
            f"number, {type(inner).__name__} of {type(inner).__module__} must have `index` and `read`"
        )

    def _begins_after(self, start: int, position: int) -> bool:
        """Returns whether a sample whose bytes start at or after `start` also has its header there."""
        index = self.index()
        until = index.span(position)[0] + 1
        try:
            for name, _ in self.reader.samples_between(self._open(), start, until):
                return name == index.name(position)
        except IPFSDatasetError:  # it exists but is damaged
            return True
        return False

    def _open_for(self, start: int, stop: int | None = None) -> ObjectFile | ObjectDirectory:
        """Opens the object anew for sequential reading; a file only for a range of bytes."""
        try:
            source = self._open()
        except IPFSDatasetError as error:
            raise self._located(error) from error.__cause__
        if isinstance(source, ObjectFile):
            source.read_ahead(start, source.size if stop is None else stop)
        return source

    def _each_decoded(
        self, samples: Iterator[Sample], positions: Iterable[int | None]
    ) -> Iterator[Sample]:
        """Yields samples after decoding them; continues after an error of a decoder.

        Args:
            samples: The samples.
            positions: The number of each in the object, for errors; None if it is unknown.
        """
        return samples if self._decoders is None else map(self._decoded, samples, positions)

    def _decoded(self, sample: Sample, position: int | None) -> Sample:
        if self._decoders is None:
            return sample
        try:
            return self._decoders.decoded(sample, self.source.limits)
        except IPFSDatasetError as error:
            where = attrs.evolve(self._place(), member=sample[0], sample=position)
            if position is not None and isinstance(self.source, ObjectFile):
                # An index that would have to be made by scanning the object is not made for an error.
                with suppress(IPFSDatasetError):
                    if self._index is not None or self.is_counted():
                        start, stop = self.index().span(position)
                        where = attrs.evolve(where, start=start, stop=stop)
            failure = located(error, where)
            failure.affects_one_sample = True
            raise failure from error.__cause__

    def _place(self) -> Location:
        return Location(object=self.what) if self._where is None else self._where()

    def _located(self, error: E) -> E:
        return located(error, self._place())


class ObjectPart(ObjectShard):
    """Consecutive samples of an object, numbered from 0, with their part of its index.

    Args:
        shard: The object.
        index: The index of these samples.
        first: The number of the first of them in the object, for errors.
    """

    def __init__(self, shard: ObjectShard, index: MemberIndex, first: int) -> None:
        vars(self).update(vars(shard))
        self._index: MemberIndex | None = index
        self._first = first

    def read(self, position: int) -> Sample:
        try:
            return super().read(position)
        except IPFSDatasetError as error:
            raise self._renumbered(error) from error.__cause__

    def iterate(self, start: int, stop: int) -> Iterator[Sample]:
        if start >= stop:
            return
        index = self.index()
        # A file of its own, which is read ahead up to the end of the last sample.
        source = self._open_for(index.span(start)[0], index.span(stop - 1)[1])
        for first in range(start, stop, _READ_TOGETHER):
            numbers = range(first, min(first + _READ_TOGETHER, stop))
            try:
                found = self.reader.read_each(source, index, numbers)
                group = list(self._each_decoded(found, numbers))
            except IPFSDatasetError as error:
                if getattr(error, "retryable", False):  # the source was already waited for
                    raise self._renumbered(error) from error.__cause__
                # The samples before the one that cannot be read are still yielded.
                yield from map(self.read, numbers)
            else:
                yield from group

    def _renumbered(self, error: E) -> E:
        """Returns an error with the number that its sample has in the object."""
        where = error.location
        if where is None or where.sample is None or error.reason is None:
            return error
        plain = with_message(error, error.reason)
        if plain is error:
            return error
        plain.location = plain.reason = None
        return located(plain, attrs.evolve(where, sample=where.sample + self._first))


class FolderShard(Shard):
    """Members of a folder, each of which is one sample.

    Args:
        directory: The folder, in each process.
        names: Paths of the members.
        folder: Name of the folder.
        where: Returns the location of a member for errors, from its number and path; pickled.
        decoders: Decoders for the bytes of members.
        first: Number of members of the folder before these, for errors and prefetching.
    """

    def __init__(
        self,
        directory: ProcessLocal[ObjectDirectory],
        names: NameTable,
        folder: str,
        where: Callable[[int, str], Location],
        decoders: Decoders | None = None,
        *,
        first: int = 0,
    ) -> None:
        self._decoders = decoders
        self._folder = folder
        self._first = first
        self.what = f"the members of {folder!r} from {names[0]!r} on"
        self._directory = directory
        self._names = names
        self._where = where

    def __len__(self) -> int:
        return len(self._names)

    def is_counted(self) -> bool:
        return True

    def is_splittable(self) -> bool:
        return True

    def has_blocks(self) -> bool:
        return True

    def weight(self) -> int:
        return len(self._names) * _MEMBER_BYTES

    def read(self, position: int) -> Sample:
        name = self._names[position]
        try:
            directory = self._directory.get()
            # Read without opening the file, which for a file of one block would take longer than all the
            # rest.
            (data,) = directory.read_each([name])
            sample = name, data
            if self._decoders is None:
                return sample
            return self._decoders.decoded(sample, directory.limits)
        except IPFSDatasetError as error:
            raise located(error, self._where(self._first + position, name)) from error.__cause__

    def read_each(self, positions: Iterable[int]) -> Iterator[Sample]:
        numbers = list(positions)
        names = list(self._names.at(numbers))
        done = 0
        try:
            directory = self._directory.get()
            for name, data in zip(names, directory.read_each(names), strict=True):
                sample = name, data
                if self._decoders is not None:
                    sample = self._decoders.decoded(sample, directory.limits)
                yield sample
                done += 1
        except IPFSDatasetError as error:
            where = self._where(self._first + numbers[done], names[done])
            raise located(error, where) from error.__cause__

    def prefetch(self, positions: Sequence[int]) -> None:
        self._directory.get().prefetch(list(self._names.at(positions)))

    def is_cached(self, positions: Sequence[int]) -> bool:
        return self._directory.get().is_cached(list(self._names.at(positions)))

    def read_ahead(self, positions: Sequence[int]) -> None:
        if self._first > len(self):  # it would also fetch everything before these
            self.prefetch(positions)
        else:
            self._directory.get().read_ahead([self._names[p] for p in positions])

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        return (_MEMBER_BYTES for _ in positions)

    def block_stops(self, size: int) -> array[int]:
        return _even_blocks(len(self), size)

    def iterate(self, start: int, stop: int) -> Iterator[Sample]:
        return _files_in_order(self, start, stop, self.read_each)

    def iterate_bytes(self, start: int, stop: int) -> Iterator[Sample]:
        return self.iterate(*self.numbers_in(start, stop))

    def numbers_in(self, start: int, stop: int) -> tuple[int, int]:
        # A member belongs to the range in which it starts.
        return -(-start // _MEMBER_BYTES), -(-stop // _MEMBER_BYTES)

    def content_id(self) -> str:
        cid = self._directory.get().cid
        return self._folder if cid is None else str(cid)

    def places(self) -> tuple[int, Callable[[int], int]]:
        return _places_of_files(self._directory.get(), self._names)

    def part(self, start: int, stop: int) -> tuple[Shard, int, int]:
        names = NameTable(self._names.at(range(start, stop)))
        shard = FolderShard(
            self._directory,
            names,
            self._folder,
            self._where,
            self._decoders,
            first=self._first + start,
        )
        return shard, 0, stop - start

    def close(self) -> None:
        self._directory.pop()


def _files_in_order(
    shard: Shard, start: int, stop: int, read: Callable[[range], Iterator[Sample]]
) -> Iterator[Sample]:
    """Returns an iterator over samples that are files of a directory, prefetching the next ones.

    Args:
        shard: The shard that contains the samples.
        start: Number of the first sample.
        stop: Number after the last sample.
        read: Reads samples by their numbers, each when it is taken.
    """
    return chain.from_iterable(_runs_of_files(shard, start, stop, read))


def _runs_of_files(
    shard: Shard, start: int, stop: int, read: Callable[[range], Iterator[Sample]]
) -> Iterator[Iterator[Sample]]:
    """Yields iterators over samples, each up to the point where more can be prefetched."""
    # The read-ahead of a directory starts at its beginning: it fetches at most as much unused as used data.
    hint = shard.read_ahead if start <= stop - start else shard.prefetch
    # Little at first, so that the first sample does not wait for all of it.
    hinted, ahead = start, _FIRST_AHEAD
    position = start
    while position < stop:
        if hinted - position <= ahead // 2 and hinted < stop:
            until = min(position + ahead, stop)
            hint(range(hinted, until))
            hinted, ahead = until, min(2 * ahead, _MEMBERS_AHEAD)
        end = stop if hinted == stop else max(position + 1, hinted - ahead // 2)
        yield read(range(position, end))
        position = end


def _places_of_files(
    directory: ObjectDirectory, paths: Sequence[str]
) -> tuple[int, Callable[[int], int]]:
    """Returns the total size of files of a directory, and a function from a file to its start."""
    sizes = directory.declared_sizes(paths)
    starts = array("Q", accumulate((_size_of_file(size) for size in sizes), initial=0))
    return starts[-1], starts.__getitem__


def _size_of_file(declared: int | None) -> int:
    # Declared sizes are not verified.
    return _MEMBER_BYTES if declared is None else min(max(1, declared), _MOST_BYTES)


def _even_blocks(count: int, size: int) -> array[int]:
    """Returns the ends of shuffle blocks for files of a directory, whose sizes are unknown."""
    return array("Q", cut(_MEMBER_BYTES.__mul__, count, size))


class ConcatenatedShards(IndexedSamples):
    """The samples of several shards, numbered consecutively.

    Args:
        shards: Shards that can count their samples.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        # For each shard, the number of the sample after its last.
        self._stops = list(accumulate(map(len, shards)))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def read(self, position: int) -> Sample:
        number, first = self._shard_of(position)
        sample: Sample = self._shards[number].read(position - first)
        return sample

    def read_each(self, positions: Iterable[int]) -> Iterator[Sample]:
        for shard, within in self._by_shard(positions):
            yield from shard.read_each(within)

    def iterate(self, start: int, stop: int) -> Iterator[Sample]:
        first = 0
        for shard, end in zip(self._shards, self._stops, strict=True):
            if first < stop and start < end:
                yield from shard.iterate(max(start, first) - first, min(stop, end) - first)
            first = end

    def prefetch(self, positions: Iterable[int]) -> None:
        for shard, within in self._by_shard(positions):
            shard.prefetch(within)

    def is_cached(self, positions: Iterable[int]) -> bool:
        return all(shard.is_cached(within) for shard, within in self._by_shard(positions))

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        for shard, within in self._by_shard(positions):
            yield from shard.fetch_bytes(within)

    def block_stops(self, size: int) -> array[int]:
        stops, first = array("Q"), 0
        for shard, stop in zip(self._shards, self._stops, strict=True):
            stops.extend(first + end for end in shard.block_stops(size))
            first = stop
        return stops

    def weight(self) -> int:
        """Returns the approximate size in bytes."""
        return sum(shard.weight() for shard in self._shards)

    def leaf_bytes(self) -> int:
        """Returns the approximate size in bytes of the largest block; 1 if unknown."""
        return max((shard.leaf_bytes() for shard in self._shards), default=1)

    def first_of(self, shard: Shard) -> int:
        """Returns the number of a shard's first sample."""
        number = self._shards.index(shard)
        return self._stops[number - 1] if number else 0

    def _by_shard(self, positions: Iterable[int]) -> Iterator[tuple[Shard, list[int]]]:
        """Yields the shards that contain some samples, given in ascending order, with their numbers in it."""
        ascending = list(positions)
        at = 0
        while at < len(ascending):
            number, first = self._shard_of(ascending[at])
            stop = bisect_left(ascending, self._stops[number], at)
            yield self._shards[number], [position - first for position in ascending[at:stop]]
            at = stop

    def _shard_of(self, position: int) -> tuple[int, int]:
        """Returns the number of the shard that contains a sample, and that of the shard's first sample."""
        number = bisect_right(self._stops, position)
        return number, self._stops[number - 1] if number else 0
