"""Readers whose failures name the plugin, the object and the sample."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.errors import Location, PluginError
from ipfs_dataset_core.interfaces import (
    FolderReader,
    MemberIndex,
    ObjectFile,
    Reader,
    SampleRuns,
    reads_one_by_one,
)
from ipfs_dataset_core.registry.guard import Guard, guarded_batch, guarded_runs
from ipfs_dataset_core.registry.lookup import default_registry, make
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.toolkit.index_cache import index_of, load_index, members_of
from ipfs_dataset_core.toolkit.indexes import SpanIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipfs_dataset_core.interfaces import ObjectDirectory, ReaderPlugin, Sample, Span
    from ipfs_dataset_core.registry.provenance import Origin


def make_reader(
    declared: ReaderPlugin | Reader | str,
    where: Callable[[], Location] | None = None,
    origin: Origin | None = None,
) -> Reader:
    """Returns a format's reader, guarded; raises as `make` does.

    Args:
        declared: What makes the reader, the reader, or the name of the format.
        where: Returns what errors add of what is read; without it, the name of the file or directory.
        origin: Where it comes from; by default it is looked up.
    """
    if isinstance(declared, str):
        declared = default_registry().reader(declared)
    origin = origin or default_registry().origin(declared)
    reader = declared if isinstance(declared, Reader) else make(declared, origin, Reader)
    kind = GuardedFolderReader if isinstance(reader, FolderReader) else GuardedReader
    return kind(reader, origin, where)


def unguarded(reader: Reader) -> Reader:
    """Returns the reader itself of one that may be guarded."""
    inner: Reader = reader.inner if isinstance(reader, GuardedReader) else reader
    return inner


class GuardedReader(Reader):
    """Another reader; what it raises that is none of our errors becomes a `PluginError`.

    Every error names the object and the sample that was read.

    Args:
        reader: A plugin's.
        origin: The plugin.
        where: As for `make_reader`.
    """

    def __init__(
        self, reader: Reader, origin: Origin, where: Callable[[], Location] | None = None
    ) -> None:
        self.inner: Any = reader
        self._origin = origin
        self._where = where
        self.cheap_index = reader.cheap_index
        self.scans_to_slice = reader.scans_to_slice
        self._unchecked = True

    def samples(self, source: Any) -> Iterator[Sample]:
        def where(number: int, last: Sample | None) -> Location:
            return attrs.evolve(self._place(source), sample=number, after=_name(last))

        def start() -> Iterator[Sequence[Sample]]:
            return _runs_of(self.inner.samples(source))

        doing = "sample {number} of {0!r}"
        found = guarded_runs(self._origin, start, doing, source.name, where=where)
        return self._first_checked(found, source, f"sample 0 of {source.name!r}")

    def sliceable(self, source: Any) -> bool:
        with self._guard(source, "sliceable"):
            return bool(self.inner.sliceable(source))

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        def where(_: int, last: Sample | None) -> Location:
            return attrs.evolve(self._place(source), after=_name(last))

        def begin() -> Iterator[Sequence[Sample]]:
            return _runs_of(self.inner.samples_between(source, start, stop))

        doing = "sample {number} from byte {1} of {0!r}"
        found = guarded_runs(self._origin, begin, doing, source.name, start, where=where)
        return self._first_checked(
            found, source, f"the first sample from byte {start} of {source.name!r}"
        )

    def count_between(self, source: Any, start: int, stop: int) -> int | None:
        with self._guard(source, "the number of samples"):
            count: int | None = self.inner.count_between(source, start, stop)
            return count

    def index(self, source: Any) -> MemberIndex | None:
        with self._guard(source, "the index"):
            index: Any = index_of(self.inner, source)
        if index is None:
            return None
        if not isinstance(index, MemberIndex):
            what = f"`index` of {source.name!r} returned {index!r:.100}"
            raise self._broken(source, what, "a MemberIndex")
        if isinstance(index, SpanIndex) and isinstance(source, ObjectFile):
            with self._guard(source, "the index"):
                index.check(source)
        # Built-in indexes raise typed errors themselves, and are asked for each sample of a batch.
        return index if self._origin.built_in else _GuardedIndex(index, source.name, self._origin)

    def load_index(self, source: Any, data: bytes) -> MemberIndex:
        return load_index(self.inner, source, data)

    def decode(self, data: bytes, index: MemberIndex, position: int) -> Any:
        with Guard(self._origin, "the decoding of sample {0}", position):
            return self.inner.decode(data, _unguarded(index), position)

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        found = _unguarded(index)
        with Guard(
            *(self._origin, "sample {1} of {0!r}", source.name, position),
            where=lambda: self._sample(source, found, position),
        ):
            sample: Sample = self.inner.read(source, found, position)
        if self._unchecked:
            self._check(sample, source, f"sample {position} of {source.name!r}")
        return sample

    def read_each(
        self, source: Any, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        found = _unguarded(index)

        def read_each(wanted: list[int]) -> Iterator[Sample]:
            if reads_one_by_one(type(self.inner)):
                return Reader.read_each(self.inner, source, found, wanted)
            each: Iterator[Sample] = self.inner.read_each(source, found, wanted)
            return each

        wanted = list(positions)
        batch = guarded_batch(
            *(self._origin, read_each, source.name, wanted),
            where=lambda position: self._sample(source, found, position),
        )
        if not wanted or not self._unchecked:
            return batch
        return self._first_checked(zip(batch), source, f"sample {wanted[0]} of {source.name!r}")

    def prefetch(self, source: Any, index: MemberIndex, positions: Sequence[int]) -> None:
        with self._guard(source, "the prefetch"):
            self.inner.prefetch(source, _unguarded(index), positions)

    def _first_checked(
        self, runs: Iterator[Sequence[Sample]], source: Any, what: str
    ) -> Iterator[Sample]:
        """Yields samples after the first of them was checked: once for an object, not for each sample."""

        def checked() -> Iterator[Sequence[Sample]]:
            for run in runs:
                self._check(run[0], source, what)
                yield run
                break
            yield from runs

        # In C: a layer of generators would cost time for each sample.
        return chain.from_iterable(checked())

    def _check(self, sample: object, source: Any, what: str) -> None:
        self._unchecked = False
        if not isinstance(sample, tuple):
            found = f"{sample!r:.100}, of type {type(sample).__name__}"
        elif len(sample) != 2:  # noqa: PLR2004 - a pair
            found = f"a tuple of {len(sample)}"
        elif not isinstance(sample[0], str):
            found = f"{sample[0]!r:.100}, of type {type(sample[0]).__name__}, as the name"
        else:
            return
        self._unchecked = True
        raise self._broken(source, f"{what} is {found}", "a pair (name, value) whose name is text")

    def _broken(self, source: Any, what: str, wanted: str) -> PluginError:
        error = PluginError(
            f"Plugin {self._origin}: {what}, where its contract requires {wanted}. {self._origin.remedy}"
        )
        return located(error, self._place(source))

    def _guard(self, source: Any, doing: str) -> Guard:
        return Guard(
            *(self._origin, doing + " of {0!r}", source.name), where=lambda: self._place(source)
        )

    def _place(self, source: Any) -> Location:
        return Location(object=source.name) if self._where is None else self._where()

    def _sample(self, source: Any, index: MemberIndex, position: int) -> Location:
        name = None
        # The index is a plugin's; the error of the sample is the one to report.
        with suppress(Exception):
            name = index.name(position)
        return attrs.evolve(self._place(source), sample=position, member=name)


def _runs_of(samples: Iterable[Sample]) -> Iterator[Sequence[Sample]]:
    """Returns the samples of a reader in the runs in which it makes them."""
    return samples.runs if isinstance(samples, SampleRuns) else zip(iter(samples))


def _name(sample: Any) -> str | None:
    """Returns a sample's name, None where a plugin yields something else."""
    name = sample[0] if isinstance(sample, tuple) and sample else None
    return name if isinstance(name, str) else None


def _unguarded(index: MemberIndex) -> MemberIndex:
    return index.inner if isinstance(index, _GuardedIndex) else index


class GuardedFolderReader(GuardedReader, FolderReader):
    """Another reader of folders, guarded like `GuardedReader`."""

    def members(self, directory: ObjectDirectory) -> Sequence[str]:
        with self._guard(directory, "the members"):
            members: Any = members_of(self.inner, directory)
        if isinstance(members, (str, bytes)) or not isinstance(members, Sequence):
            what = f"`members` of {directory.name!r} returned {members!r:.100}"
            raise self._broken(directory, what, "a list of paths")
        return members

    def listing(self, directory: ObjectDirectory) -> tuple[str, Sequence[int]] | None:
        with self._guard(directory, "the lines of the list"):
            found: tuple[str, Sequence[int]] | None = self.inner.listing(directory)
            return found


class _GuardedIndex(MemberIndex):
    def __init__(self, index: MemberIndex, what: str, origin: Origin) -> None:
        self.inner = index
        self._what = what
        self._origin = origin

    def __len__(self) -> int:
        with Guard(self._origin, "the number of samples of {0!r}", self._what):
            return len(self.inner)

    def name(self, position: int) -> str:
        with Guard(self._origin, "the name of sample {1} of {0!r}", self._what, position):
            return self.inner.name(position)

    def part(self, start: int, stop: int) -> MemberIndex | None:
        with Guard(self._origin, "a part of the index of {0!r}", self._what):
            index = self.inner.part(start, stop)
        return None if index is None else _GuardedIndex(index, self._what, self._origin)

    def dump(self) -> bytes:
        return self.inner.dump()

    def span(self, position: int) -> Span:
        with Guard(self._origin, "the span of sample {1} of {0!r}", self._what, position):
            return self.inner.span(position)

    def spans_at(self, positions: Iterable[int]) -> list[Span]:
        wanted = list(positions)
        try:
            return list(self.inner.spans_at(wanted))
        except Exception:  # noqa: BLE001 - the first sample whose span fails is named
            return [self.span(position) for position in wanted]
