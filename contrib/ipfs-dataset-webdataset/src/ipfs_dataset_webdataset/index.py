"""The index of a shard: which members of the archive make up each sample.

It takes eight bytes per sample, in addition to the index of the archive.
"""

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
    """Divides the name of a member into the key of its sample and its field.

    The key is the path up to the first dot of the file name; the field is the rest after that dot, in lower
    case. These are the rules of `base_plus_ext` and `group_by_keys` in webdataset.

    Returns:
        The key and the field, or None if the file name has no dot or begins with one: such a member belongs
        to no sample.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, field = base.partition(".")
    return (folder + slash + stem, field.lower()) if stem and dot else None


class SampleChecker:
    """Checks that the samples of an archive are whole, while they are found in order.

    If the members of a sample are not consecutive, the sample appears as several with the same key and no
    common field. Samples that share a key and a field, as in concatenated archives, are separate samples.

    Args:
        name: The name of the archive, for errors.
        scattered: Whether members with the same key that are not consecutive are allowed.

    Attributes:
        members: The number of members of the archive found so far. The caller counts them.
    """

    def __init__(self, name: str, *, scattered: bool) -> None:
        self.members = 0
        self._name = name
        self._scattered = scattered
        self._fields_of: dict[str, frozenset[str]] = {}
        # Nearly all samples have the same fields, so equal sets are stored once.
        self._field_sets: dict[frozenset[str], frozenset[str]] = {}
        self._last_key = ""
        self._last_fields: frozenset[str] | None = None
        self._common_fields: frozenset[str] | None = None  # of all samples but the last

    def add(self, key: str, fields: Iterable[str]) -> None:
        """Adds the next sample.

        Raises:
            FormatError: An earlier sample has the same key and no field in common: both are parts of one.
        """
        found = frozenset(fields)
        found = self._field_sets.setdefault(found, found)
        if self._last_fields is not None:
            common = self._common_fields
            self._common_fields = (
                self._last_fields if common is None else common & self._last_fields
            )
        self._last_key, self._last_fields = key, found
        if self._scattered:
            return
        before = self._fields_of.setdefault(key, found)
        if before is not found and before.isdisjoint(found):
            raise FormatError(
                f"The members of the sample {key!r} of {self._name!r} are not consecutive: {_listed(before)} "
                f"come before other samples, and {_listed(found)} after them. Sort the members of the "
                "archive by name, as 'tar --sort=name' does, or read the parts as separate samples with "
                "WebDatasetReader(scattered=True)."
            )

    def check_end(self, source: ObjectFile) -> None:
        """Checks the last sample, after all samples were added.

        Args:
            source: The archive.

        Raises:
            FormatError: The archive has members but no samples, or ends within a sample.
        """
        if self._last_fields is None:
            if self.members:
                raise FormatError(
                    f"None of the {self.members} members of {self._name!r} belongs to a sample, because none "
                    "has a name with a key and an extension, such as '7.jpg': read the archive as 'tar'."
                )
            return
        missing = (self._common_fields or frozenset()) - self._last_fields
        if missing and _is_plain_tar(source) and not _has_end_mark(source):
            raise FormatError(
                f"{self._name!r} is cut off: it has no end mark, and its last sample, {self._last_key!r}, "
                f"lacks {_listed(missing)}, which all others have. Publish it again from a complete file."
            )


def _is_plain_tar(source: ObjectFile) -> bool:
    """Returns whether a file is an uncompressed TAR archive, whose header has ``ustar`` at byte 257."""
    return source.read_at(_MAGIC_AT, len(_MAGIC)) == _MAGIC


def _has_end_mark(source: ObjectFile) -> bool:
    """Returns whether a TAR archive ends with a block of zeros, as POSIX requires."""
    return not any(source.read_at(max(0, source.size - _BLOCK_BYTES), _BLOCK_BYTES))


def _listed(fields: frozenset[str]) -> str:
    return ", ".join(f".{field}" for field in sorted(fields))


class SampleIndex(MemberIndex):
    """The samples of an archive: each is a run of consecutive members with the same key.

    Args:
        members: The index of the archive.
        checker: A new checker for the archive.
        source: The archive.

    Attributes:
        members: The index of the archive.

    Raises:
        FormatError: The members of a sample are not consecutive, there are no samples, or the last sample is
            cut off.
    """

    def __init__(self, members: MemberIndex, checker: SampleChecker, source: ObjectFile) -> None:
        self.members = members
        self._firsts = array("Q")  # the number of the first member of each sample
        last_key: str | None = None
        fields: list[str] = []
        for position in range(len(members)):
            parts = split_name(members.name(position))
            if parts is None:
                continue
            key, field = parts
            if key != last_key:
                if last_key is not None:
                    checker.add(last_key, fields)
                last_key, fields = key, []
                self._firsts.append(position)
            fields.append(field)
        if last_key is not None:
            checker.add(last_key, fields)
        checker.members = len(members)
        checker.check_end(source)

    def __len__(self) -> int:
        return len(self._firsts)

    def name(self, position: int) -> str:
        parts = split_name(self.members.name(self._firsts[position]))
        assert parts is not None, "the first member of a sample has a key"
        return parts[0]

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
        """Returns the number in the archive and the field of each member of a sample."""
        is_last = position + 1 == len(self)
        stop = len(self.members) if is_last else self._firsts[position + 1]
        fields = []
        for member in range(self._firsts[position], stop):
            parts = split_name(self.members.name(member))
            if parts is not None:
                fields.append((member, parts[1]))
        return fields
