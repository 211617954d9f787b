"""Readers whose failures name the plugin, the object and the sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.guard import Guard, guarded_batch, guarded_each
from ipfs_dataset_core.guards.making import make
from ipfs_dataset_core.index_cache import index_of, members_of
from ipfs_dataset_core.interfaces import FolderReader, MemberIndex, Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces import ObjectDirectory, ReaderPlugin, Sample, Span
    from ipfs_dataset_core.origins import Origin


def make_reader(declared: ReaderPlugin | Reader, origin: Origin) -> Reader:
    """Returns a format's reader, guarded; raises as `make` does."""
    reader = declared if isinstance(declared, Reader) else make(declared, origin, Reader)  # type: ignore[type-abstract]
    kind = GuardedFolderReader if isinstance(reader, FolderReader) else GuardedReader
    return kind(reader, origin)


class GuardedReader(Reader):
    """Another reader; what it raises that is none of our errors becomes a `PluginError`.

    Args:
        reader: A plugin's.
        origin: The plugin.
    """

    def __init__(self, reader: Reader, origin: Origin) -> None:
        self.inner: Any = reader
        self._origin = origin
        self.cheap_index = reader.cheap_index

    def samples(self, source: Any) -> Iterator[Sample]:
        def doing(turn: int) -> str:
            return f"sample {turn + 1} of {source.name!r}"

        return guarded_each(self._origin, doing, lambda: self.inner.samples(source))

    def sliceable(self, source: Any) -> bool:
        with Guard(self._origin, lambda _: f"sliceable of {source.name!r}"):
            return bool(self.inner.sliceable(source))

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        def doing(turn: int) -> str:
            return f"sample {turn + 1} from byte {start} of {source.name!r}"

        return guarded_each(
            self._origin, doing, lambda: self.inner.samples_between(source, start, stop)
        )

    def index(self, source: Any) -> MemberIndex | None:
        with Guard(self._origin, lambda _: f"the index of {source.name!r}"):
            index = index_of(self.inner, source)
        return None if index is None else _GuardedIndex(index, source.name, self._origin)

    def load_index(self, source: Any, data: bytes) -> MemberIndex:
        index: MemberIndex = self.inner.load_index(source, data)
        return index

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        with Guard(self._origin, lambda _: f"sample {position} of {source.name!r}"):
            sample: Sample = self.inner.read(source, _unguarded(index), position)
            return sample

    def read_each(
        self, source: Any, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        def read_each(wanted: list[int]) -> Iterator[Sample]:
            each: Iterator[Sample] = self.inner.read_each(source, _unguarded(index), wanted)
            return each

        return guarded_batch(self._origin, source.name, positions, read_each)

    def prefetch(self, source: Any, index: MemberIndex, positions: Sequence[int]) -> None:
        with Guard(self._origin, lambda _: f"the prefetch of {source.name!r}"):
            self.inner.prefetch(source, _unguarded(index), positions)


def _unguarded(index: MemberIndex) -> MemberIndex:
    return index.inner if isinstance(index, _GuardedIndex) else index


class GuardedFolderReader(GuardedReader, FolderReader):
    """Another reader of folders, likewise."""

    def members(self, directory: ObjectDirectory) -> Sequence[str]:
        with Guard(self._origin, lambda _: f"the members of {directory.name!r}"):
            return members_of(self.inner, directory)


class _GuardedIndex(MemberIndex):
    def __init__(self, index: MemberIndex, what: str, origin: Origin) -> None:
        self.inner = index
        self._what = what
        self._origin = origin

    def __len__(self) -> int:
        with Guard(self._origin, lambda _: f"the number of samples of {self._what!r}"):
            return len(self.inner)

    def name(self, position: int) -> str:
        with Guard(self._origin, lambda _: f"the name of sample {position} of {self._what!r}"):
            return self.inner.name(position)

    def dump(self) -> bytes:
        return self.inner.dump()

    def span(self, position: int) -> Span:
        with Guard(self._origin, lambda _: f"the span of sample {position} of {self._what!r}"):
            return self.inner.span(position)
