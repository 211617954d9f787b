"""Which members of an archive make up each sample: eight bytes a sample, beside the archive's own index."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, MemberIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core import ObjectFile, Span


_BLOCK_BYTES = 512
_MAGIC_AT, _MAGIC = 257, b"ustar"


def split_name(name: str) -> tuple[str, str] | None:
    """Returns the key of a member's sample and the member's field, None where it belongs to no sample.

    The key is the path up to the first dot of its last part; the field is what follows, in lower case.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, field = base.partition(".")
    return (folder + slash + stem, field.lower()) if stem and dot else None


class Keys:
    """The keys of an archive's samples so far: members of one key that are apart would be cut samples.

    Samples that share a key and have the same fields, as in archives put together, are samples of their own.

    Args:
        name: What errors call the archive.
        scattered: Whether members of one key that are apart are samples of their own.
    """

    def __init__(self, name: str, *, scattered: bool) -> None:
        self._name = name
        self._fields: dict[str, frozenset[str]] = {}
        self._shared: dict[frozenset[str], frozenset[str]] = {}
        self._scattered = scattered
        self._samples = 0
        self._common: frozenset[str] | None = None
        self._last: tuple[str, frozenset[str]] = "", frozenset()

    def add(self, key: str, fields: Iterable[str]) -> None:
        """Adds a sample.

        Raises:
            FormatError: One before has the same key, and none of its fields: both are parts of one.
        """
        self._samples += 1
        found = frozenset(fields)
        if self._last[1]:
            last = self._last[1]
            self._common = last if self._common is None else self._common & last
        self._last = key, found
        if self._scattered:
            return
        found = self._shared.setdefault(found, found)  # nearly all samples have the same
        before = self._fields.setdefault(key, found)
        if before is not found and before.isdisjoint(found):
            raise FormatError(
                f"The members of the sample {key!r} of {self._name!r} are apart: {_listed(before)} come "
                f"before other samples, and {_listed(found)} behind them. Make the archive with its members "
                "sorted by name, as 'tar --sort=name' does, or read the parts as samples of their own by "
                "WebDatasetReader(scattered=True)."
            )

    def check_end(self, source: ObjectFile, members: int) -> None:
        """Checks what an archive has, when all of it was added.

        Args:
            source: The archive.
            members: How many members it has.

        Raises:
            FormatError: It has members and no samples, or ends within a sample.
        """
        key, fields = self._last
        missing = (self._common or frozenset()) - fields
        if missing and not _is_other(source) and not _has_end_mark(source):
            raise FormatError(
                f"{self._name!r} is cut off: it has no mark of its end, and its last sample, {key!r}, has no "
                f"{_listed(missing)}, which all others have. Publish it again from a complete file."
            )
        if members and not self._samples:
            raise FormatError(
                f"None of the {members} members of {self._name!r} belongs to a sample, for none has a name "
                "such as '7.jpg', with a key and an extension: read it as 'tar'."
            )


def _is_other(source: ObjectFile) -> bool:
    """Returns whether a file does not begin as a TAR archive does, as compressed ones do not."""
    return source.read_at(_MAGIC_AT, len(_MAGIC)) != _MAGIC


def _has_end_mark(source: ObjectFile) -> bool:
    """Returns whether a TAR archive ends with zeros, as complete ones do."""
    return not any(source.read_at(max(0, source.size - _BLOCK_BYTES), _BLOCK_BYTES))


def _listed(fields: frozenset[str]) -> str:
    return ", ".join(f".{field}" for field in sorted(fields))


class SampleIndex(MemberIndex):
    """Where each sample of an archive lies: members of one key that follow each other are a sample.

    Args:
        members: The index of the archive.
        keys: What checks the keys.
        source: The archive.

    Raises:
        FormatError: The members of a sample are apart, or there are no samples, or the last is cut off.
    """

    def __init__(self, members: MemberIndex, keys: Keys, source: ObjectFile) -> None:
        self.members = members
        self._firsts = array("Q")
        last: str | None = None
        fields: list[str] = []
        for position in range(len(members)):
            found = split_name(members.name(position))
            if found is None:
                continue
            if found[0] != last:
                if last is not None:
                    keys.add(last, fields)
                last, fields = found[0], []
                self._firsts.append(position)
            fields.append(found[1])
        if last is not None:
            keys.add(last, fields)
        keys.check_end(source, len(members))

    def __len__(self) -> int:
        return len(self._firsts)

    def name(self, position: int) -> str:
        found = split_name(self.members.name(self._firsts[position]))
        assert found is not None, "samples begin with a member that has a key"
        return found[0]

    def span(self, position: int) -> Span:
        spans = [self.members.span(member) for member, _ in self.fields(position)]
        return min(start for start, _ in spans), max(stop for _, stop in spans)

    def part(self, start: int, stop: int) -> SampleIndex | None:
        first = self._firsts[start] if start < len(self) else len(self.members)
        last = self._firsts[stop] if stop < len(self) else len(self.members)
        members = self.members.part(first, last)
        if members is None:
            return None
        index = SampleIndex.__new__(SampleIndex)
        firsts = array("Q", (number - first for number in self._firsts[start:stop]))
        vars(index).update(members=members, _firsts=firsts)
        return index

    def fields(self, position: int) -> list[tuple[int, str]]:
        """Returns the members of a sample: the number of each in the archive, and its field."""
        following = position + 1
        stop = self._firsts[following] if following < len(self) else len(self.members)
        names = ((n, split_name(self.members.name(n))) for n in range(self._firsts[position], stop))
        return [(number, found[1]) for number, found in names if found is not None]
