"""Readers whose failures name the plugin, the object and the sample."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.errors import FormatError, Location, PluginError
from ipfs_dataset_core.interfaces import (
    FolderReader,
    MemberIndex,
    ObjectFile,
    Reader,
    SampleRuns,
    WholeFileIndex,
    reads_one_by_one,
)
from ipfs_dataset_core.registry.guard import Guard, guarded_batch, guarded_runs
from ipfs_dataset_core.registry.lookup import default_registry, make
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.toolkit.index_cache import index_of, load_index, members_of
from ipfs_dataset_core.toolkit.indexes import FilesIndex, NameTable, RowsIndex, SpanIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset_core.interfaces import ObjectDirectory, ReaderPlugin, Sample, Span
    from ipfs_dataset_core.registry.provenance import Origin

# For samples in order.
_NUMBERS = range(sys.maxsize)
# These classes belong to the core, and their results are right by construction.
_OWN_INDEXES = (FilesIndex, RowsIndex, SpanIndex, WholeFileIndex)


def make_reader(
    declared: ReaderPlugin | Reader | str,
    where: Callable[[], Location] | None = None,
    origin: Origin | None = None,
) -> Reader:
    """Returns the reader of a format, guarded; raises like `make`.

    Args:
        declared: The declaration of the reader, the reader, or the name of the format.
        where: Returns the location for errors; by default the name of the file or directory.
        origin: Where the reader comes from; by default it is looked up.
    """
    if isinstance(declared, str):
        declared = default_registry().reader(declared)
    origin = origin or default_registry().origin(declared)
    reader = declared if isinstance(declared, Reader) else make(declared, origin, Reader)
    kind = GuardedFolderReader if isinstance(reader, FolderReader) else GuardedReader
    return kind(reader, origin, where)


def unguarded(reader: Reader) -> Reader:
    """Returns the inner reader of a guarded reader, or an unguarded reader itself."""
    inner: Reader = reader.inner if isinstance(reader, GuardedReader) else reader
    return inner


class GuardedReader(Reader):
    """Wraps a reader; exceptions that are not errors of this library become a `PluginError`.

    Every error names the object and the sample. The samples are validated as well: every sample, or only the
    first one of each object if the plugin is built in or inherits the methods that make samples.

    Args:
        reader: The reader of a plugin.
        origin: The plugin.
        where: As for `make_reader`.
    """

    def __init__(
        self, reader: Reader, origin: Origin, where: Callable[[], Location] | None = None
    ) -> None:
        self.inner: Any = reader
        self._origin = origin
        self._where = where
        with Guard(origin, "the attributes of its reader"):
            self.cheap_index = reader.cheap_index
            self.scans_to_slice = reader.scans_to_slice
        self._unchecked = True
        # Results of `Reader` itself for an index are right by construction.
        kind = type(reader)
        by_default = all(
            getattr(kind, method) is getattr(Reader, method)
            for method in ("samples", "samples_between", "read", "read_each")
        )
        self._checks_all = not (origin.built_in or by_default)

    def samples(self, source: Any) -> Iterator[Sample]:
        def where(number: int, last: Sample | None) -> Location:
            return attrs.evolve(self._place(source), sample=number, after=_name(last))

        def start() -> Iterator[Sequence[Sample]]:
            return self._runs("samples", self.inner.samples(source))

        doing = "sample {number} of {0!r}"
        found = guarded_runs(self._origin, start, doing, source.name, where=where)
        return self._checked(found, source, "samples", _NUMBERS)

    def sliceable(self, source: Any) -> bool:
        with self._guard(source, "sliceable"):
            return bool(self.inner.sliceable(source))

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        def where(_: int, last: Sample | None) -> Location:
            return attrs.evolve(self._place(source), after=_name(last))

        def begin() -> Iterator[Sequence[Sample]]:
            return self._runs("samples_between", self.inner.samples_between(source, start, stop))

        doing = "sample {number} from byte {1} of {0!r}"
        found = guarded_runs(self._origin, begin, doing, source.name, start, where=where)
        return self._checked(found, source, "samples_between", _NUMBERS, f" from byte {start}")

    def count_between(self, source: Any, start: int, stop: int) -> int | None:
        with self._guard(source, "the number of samples"):
            found: int | None = self.inner.count_between(source, start, stop)
            return None if found is None else operator.index(found)

    def index(self, source: Any) -> MemberIndex | None:
        with self._guard(source, "the index"):
            index: Any = index_of(self.inner, source)
            if isinstance(index, SpanIndex) and isinstance(source, ObjectFile):
                index.check(source)
        if index is None:
            return None
        if not isinstance(index, MemberIndex):
            raise self._wrong_index(source, index, "a MemberIndex, such as SpanIndex")
        if isinstance(index, FilesIndex) and isinstance(source, ObjectFile):
            raise self._wrong_index(
                source,
                index,
                "an index of a file, such as SpanIndex: FilesIndex is for directories",
            )
        # Built-in indexes raise typed errors themselves, and are used for each sample of a batch.
        if self._origin.built_in or type(index) in _OWN_INDEXES:
            return index
        size = source.size if isinstance(source, ObjectFile) else None
        return _GuardedIndex(index, source.name, self._origin, size)

    def load_index(self, source: Any, data: bytes) -> MemberIndex:
        return load_index(self.inner, source, data)

    def decode(self, data: bytes, index: MemberIndex, position: int) -> Any:
        with Guard(self._origin, "the decoding of sample {0}", position):
            return self.inner.decode(data, _unguarded(index), position)

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        found = _unguarded(index)
        with Guard(
            self._origin,
            "sample {1} of {0!r}",
            source.name,
            position,
            where=lambda: self._sample(source, found, position),
        ):
            sample: Sample = self.inner.read(source, found, position)
        if self._unchecked:
            self._check(sample, source, "read", position)
        return sample

    def read_each(
        self, source: Any, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        found = _unguarded(index)

        def read_each(wanted: list[int]) -> Iterable[Sample]:
            if reads_one_by_one(type(self.inner)):
                return Reader.read_each(self.inner, source, found, wanted)
            return self._iterable("read_each", self.inner.read_each(source, found, wanted))

        wanted = list(positions)
        batch = guarded_batch(
            self._origin,
            read_each,
            source.name,
            wanted,
            where=lambda position: self._sample(source, found, position),
        )
        if not wanted or not self._unchecked:
            return batch
        return self._checked(zip(batch), source, "read_each", wanted)

    def prefetch(self, source: Any, index: MemberIndex, positions: Sequence[int]) -> None:
        with self._guard(source, "the prefetch"):
            self.inner.prefetch(source, _unguarded(index), positions)

    def _checked(
        self,
        runs: Iterator[Sequence[Sample]],
        source: Any,
        method: str,
        numbers: Sequence[int],
        within: str = "",
    ) -> Iterator[Sample]:
        """Yields samples after validating each, or only the first ones; see the class."""

        def checked() -> Iterator[Sequence[Sample]]:
            done = 0
            for run in runs:
                for place, sample in enumerate(run):
                    if (
                        type(sample) is not tuple
                        or len(sample) != 2  # noqa: PLR2004 - a pair
                        or type(sample[0]) is not str
                    ):
                        try:
                            self._check(sample, source, method, numbers[done + place], within)
                        except PluginError:
                            yield run[:place]  # those before it are valid
                            raise
                yield run
                done += len(run)
                if not self._checks_all:
                    self._unchecked = False
                    break
            yield from runs

        # Implemented in C, because a nested generator would take time for each sample.
        return chain.from_iterable(checked())

    def _check(
        self, sample: object, source: Any, method: str, number: int, within: str = ""
    ) -> None:
        if not isinstance(sample, tuple):
            found = f"{sample!r:.100}, of type {type(sample).__name__}"
        elif len(sample) != 2:  # noqa: PLR2004 - a pair
            found = f"a tuple of {len(sample)}"
        elif not isinstance(sample[0], str):
            found = f"{sample[0]!r:.100}, of type {type(sample[0]).__name__}, as the name"
        else:
            self._unchecked = self._checks_all
            return
        what = (
            f"sample {number}{within} of {source.name!r} is {found}, from `{self._method(method)}`"
        )
        raise self._broken(source, what, "a pair (name, value) whose name is text")

    def _wrong_index(self, source: Any, index: object, wanted: str) -> PluginError:
        what = f"`{self._method('index')}` of {source.name!r} returned {index!r:.100}"
        return self._broken(source, what, wanted)

    def _runs(self, method: str, samples: Any) -> Iterator[Sequence[Sample]]:
        """Returns the samples of a reader in the runs in which it produces them."""
        if isinstance(samples, SampleRuns):
            return samples.runs
        return zip(iter(self._iterable(method, samples)))

    def _iterable(self, method: str, found: Any) -> Iterable[Sample]:
        if not isinstance(found, Iterable):
            kind = type(found).__name__
            raise TypeError(
                f"{kind!r} object is not iterable: `{self._method(method)}` has to yield samples"
            )
        return found

    def _method(self, name: str) -> str:
        return f"{type(self.inner).__qualname__}.{name}"

    def _broken(self, source: Any, what: str, wanted: str) -> PluginError:
        return located(_broken(self._origin, what, wanted), self._place(source))

    def _guard(self, source: Any, doing: str) -> Guard:
        return Guard(
            self._origin, doing + " of {0!r}", source.name, where=lambda: self._place(source)
        )

    def _place(self, source: Any) -> Location:
        return Location(object=source.name) if self._where is None else self._where()

    def _sample(self, source: Any, index: MemberIndex, position: int) -> Location:
        name = None
        # If the plugin's index fails here, the error of the sample is the one to report.
        with suppress(Exception):
            name = index.name(position)
        return attrs.evolve(self._place(source), sample=position, member=name)


def _name(sample: Any) -> str | None:
    """Returns a sample's name; None if a plugin yields something else."""
    name = sample[0] if isinstance(sample, tuple) and sample else None
    return name if isinstance(name, str) else None


def _unguarded(index: MemberIndex) -> MemberIndex:
    return index.inner if isinstance(index, _GuardedIndex) else index


class GuardedFolderReader(GuardedReader, FolderReader):
    """Wraps a reader of folders, like `GuardedReader`."""

    def members(self, directory: ObjectDirectory) -> Sequence[str]:
        with self._guard(directory, "the members"):
            members: Any = members_of(self.inner, directory)
        if isinstance(members, NameTable):
            return members
        found = f"{members!r:.100}"
        if isinstance(members, Sequence) and not isinstance(members, (str, bytes)):
            wrong = next((path for path in members if not isinstance(path, str)), None)
            if wrong is None:
                return members
            found = f"{wrong!r:.100} as a path"
        what = f"`{self._method('members')}` of {directory.name!r} returned {found}"
        raise self._broken(directory, what, "a list of paths, each a text")

    def listing(self, directory: ObjectDirectory) -> tuple[str, Sequence[int]] | None:
        with self._guard(directory, "the lines of the list"):
            found: tuple[str, Sequence[int]] | None = self.inner.listing(directory)
            return found


class _GuardedIndex(MemberIndex):
    """Wraps an index; its mistakes name the plugin.

    Args:
        index: The index of a plugin.
        what: The name of the object.
        origin: The plugin.
        size: Size of the object in bytes; None for a directory.
    """

    def __init__(self, index: MemberIndex, what: str, origin: Origin, size: int | None) -> None:
        self.inner = index
        self._what = what
        self._origin = origin
        self._size = size

    def __len__(self) -> int:
        with Guard(self._origin, "the number of samples of {0!r}", self._what):
            return len(self.inner)

    def name(self, position: int) -> str:
        with Guard(self._origin, "the name of sample {1} of {0!r}", self._what, position):
            name: Any = self.inner.name(position)
        if not isinstance(name, str):
            raise self._broken("name", position, name, "a text")
        return name

    def part(self, start: int, stop: int) -> MemberIndex | None:
        with Guard(self._origin, "a part of the index of {0!r}", self._what):
            index: Any = self.inner.part(start, stop)
        if index is None:
            return None
        if not isinstance(index, MemberIndex):
            raise self._broken("part", f"{start}, {stop}", index, "a MemberIndex or None")
        return _GuardedIndex(index, self._what, self._origin, self._size)

    def dump(self) -> bytes:
        return self.inner.dump()

    def span(self, position: int) -> Span:
        with Guard(self._origin, "the span of sample {1} of {0!r}", self._what, position):
            span = self.inner.span(position)
        return self._checked(position, span)

    def spans_at(self, positions: Iterable[int]) -> list[Span]:
        wanted = list(positions)
        try:
            spans = self.inner.spans_at(wanted)
            return list(map(self._checked, wanted, spans))
        except Exception:  # noqa: BLE001 - repeated below, to name the first sample whose span fails
            return [self.span(position) for position in wanted]

    def _checked(self, position: int, span: Any) -> Span:
        """Checks that a span consists of whole numbers and is within the file.

        Raises:
            PluginError: It does not consist of whole numbers.
            FormatError: It is outside of the file.
        """
        try:
            start, stop = map(operator.index, span)
        except (TypeError, ValueError):
            start, stop = -1, -1
        if not 0 <= start <= stop:
            wanted = "two positions in bytes, 0 <= start <= stop"
            raise self._broken("span", position, span, wanted)
        if self._size is not None and stop > self._size:
            raise FormatError(
                f"{self._what!r} has {self._size} bytes, and its sample {position} would be bytes {start} to "
                f"{stop}, by `{type(self.inner).__qualname__}.span` of plugin {self._origin}: the file is "
                "cut off, or its table is damaged"
            )
        return start, stop

    def _broken(self, method: str, arguments: object, found: object, wanted: str) -> PluginError:
        call = f"`{type(self.inner).__qualname__}.{method}({arguments})`"
        return _broken(self._origin, f"{call} of {self._what!r} returned {found!r:.100}", wanted)


def _broken(origin: Origin, what: str, wanted: str) -> PluginError:
    """Returns the error of a plugin whose result violates its contract."""
    return PluginError(
        f"Plugin {origin}: {what}, where its contract requires {wanted}. {origin.remedy}"
    )
