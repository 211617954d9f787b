"""Readers whose failures name the plugin, the object and the sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import FolderReader, MemberIndex, Reader
from ipfs_dataset_core.registry.factories import make
from ipfs_dataset_core.registry.guard import Guard, guarded_batch, guarded_each
from ipfs_dataset_core.toolkit.index_cache import index_of, members_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.interfaces import ObjectDirectory, ReaderPlugin, Sample, Span
    from ipfs_dataset_core.registry.provenance import Origin


def make_reader(declared: ReaderPlugin | Reader, origin: Origin) -> Reader:
    """Returns a format's reader, guarded; raises as `make` does."""
    reader = declared if isinstance(declared, Reader) else make(declared, origin, Reader)  # type: ignore[type-abstract]
    kind = GuardedFolderReader if isinstance(reader, FolderReader) else GuardedReader
    return kind(reader, origin)


def unguarded(reader: Reader) -> Reader:
    """Returns the reader itself of one that may be guarded."""
    inner: Reader = reader.inner if isinstance(reader, GuardedReader) else reader
    return inner


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
        self._unchecked = True

    def samples(self, source: Any) -> Iterator[Sample]:
        def doing(turn: int) -> str:
            return f"sample {turn + 1} of {source.name!r}"

        found = guarded_each(self._origin, doing, lambda: self.inner.samples(source))
        return self._first_checked(found, f"sample 0 of {source.name!r}")

    def sliceable(self, source: Any) -> bool:
        with Guard(self._origin, lambda _: f"sliceable of {source.name!r}"):
            return bool(self.inner.sliceable(source))

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        def doing(turn: int) -> str:
            return f"sample {turn + 1} from byte {start} of {source.name!r}"

        found = guarded_each(
            self._origin, doing, lambda: self.inner.samples_between(source, start, stop)
        )
        return self._first_checked(found, f"the first sample from byte {start} of {source.name!r}")

    def index(self, source: Any) -> MemberIndex | None:
        with Guard(self._origin, lambda _: f"the index of {source.name!r}"):
            index = index_of(self.inner, source)
        if index is None:
            return None
        if not isinstance(index, MemberIndex):
            raise self._broken(
                f"`index` of {source.name!r} returned {index!r:.100}", "a MemberIndex"
            )
        return _GuardedIndex(index, source.name, self._origin)

    def load_index(self, source: Any, data: bytes) -> MemberIndex:
        index: MemberIndex = self.inner.load_index(source, data)
        return index

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        with Guard(self._origin, lambda _: f"sample {position} of {source.name!r}"):
            sample: Sample = self.inner.read(source, _unguarded(index), position)
        if self._unchecked:
            self._check(sample, f"sample {position} of {source.name!r}")
        return sample

    def read_each(
        self, source: Any, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        def read_each(wanted: list[int]) -> Iterator[Sample]:
            each: Iterator[Sample] = self.inner.read_each(source, _unguarded(index), wanted)
            return each

        wanted = list(positions)
        found = guarded_batch(self._origin, source.name, wanted, read_each)
        if not wanted or not self._unchecked:
            return found
        return self._first_checked(found, f"sample {wanted[0]} of {source.name!r}")

    def prefetch(self, source: Any, index: MemberIndex, positions: Sequence[int]) -> None:
        with Guard(self._origin, lambda _: f"the prefetch of {source.name!r}"):
            self.inner.prefetch(source, _unguarded(index), positions)

    def _first_checked(self, samples: Iterator[Sample], what: str) -> Iterator[Sample]:
        """Yields samples after the first of them was checked: once for an object, not for each sample."""
        for sample in samples:
            self._check(sample, what)
            yield sample
            break
        yield from samples

    def _check(self, sample: object, what: str) -> None:
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
        raise self._broken(f"{what} is {found}", "a pair (name, value) whose name is text")

    def _broken(self, what: str, wanted: str) -> PluginError:
        return PluginError(
            f"Plugin {self._origin}: {what}, where its contract wants {wanted}. {self._origin.remedy}"
        )


def _unguarded(index: MemberIndex) -> MemberIndex:
    return index.inner if isinstance(index, _GuardedIndex) else index


class GuardedFolderReader(GuardedReader, FolderReader):
    """Another reader of folders, likewise."""

    def members(self, directory: ObjectDirectory) -> Sequence[str]:
        with Guard(self._origin, lambda _: f"the members of {directory.name!r}"):
            members: Any = members_of(self.inner, directory)
        if isinstance(members, (str, bytes)) or not isinstance(members, Sequence):
            raise self._broken(
                f"`members` of {directory.name!r} returned {members!r:.100}", "a list of paths"
            )
        return members


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
