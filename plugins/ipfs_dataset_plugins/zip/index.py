"""The index of a ZIP archive: 40 bytes a member, plus its name."""

from __future__ import annotations

import stat
from array import array
from itertools import chain, islice, repeat
from operator import add, itemgetter, le
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, MemberIndex, NameTable, pack_columns, unpack_columns
from ipfs_dataset_plugins.archives.member_names import check_name, is_junk
from ipfs_dataset_plugins.archives.repetition import RepetitionCheck
from ipfs_dataset_plugins.zip.central_directory import (
    DIRECTORY_PIECE_BYTES,
    LOCAL_HEADER_BYTES,
    find_directory,
    read_entries,
)
from ipfs_dataset_plugins.zip.member import bytes_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import Limits, ObjectFile, Span
    from ipfs_dataset_plugins.zip.central_directory import Entry
    from ipfs_dataset_plugins.zip.member import Member

# Offsets of local headers, compressed sizes, sizes, CRCs, methods, flags.
_COLUMNS = "QQQIHH"
# Parts of names that need a closer look; names are joined by NULs, with one before the first and after
# the last.
_SPECIAL = (b"..", b"._", b"__MACOSX", b"/\0", b"\0/")


class ZipIndex(MemberIndex):
    """The entries of the central directory that are samples, stored as columns.

    Args:
        directory_start: The offset of the central directory.
        names: The names of the samples.
        columns: One array each for: offsets of local headers, compressed sizes, sizes, CRCs, methods, flags.
        after: The offset of the member after the last one; by default that of the central directory.
    """

    def __init__(
        self,
        directory_start: int,
        names: NameTable,
        columns: Sequence[array[int]],
        after: int | None = None,
    ) -> None:
        self._directory_start = directory_start
        self._after = directory_start if after is None else after
        self._names = names
        self._columns = list(columns)
        self._headers, self._compressed, *_ = self._columns

    @classmethod
    def load(cls, data: bytes, limits: Limits) -> ZipIndex:
        """Returns the index that `dump` encoded; raises the errors of `unpack_columns`."""
        names, columns, numbers = unpack_columns(data, _COLUMNS, limits)
        (directory_start,) = numbers
        return cls(directory_start, names, columns)

    def dump(self) -> bytes:
        return pack_columns(self._names, self._columns, [self._directory_start])

    def extend(self, samples: Sequence[Entry]) -> None:
        """Appends samples."""
        # Not zip(*samples): an iterator for each sample would trigger the garbage collector.
        self._names.extend_encoded(list(map(itemgetter(0), samples)))
        for field, column in enumerate(self._columns, 1):
            column.extend(map(itemgetter(field), samples))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> str:
        return self._names[position]

    def span(self, position: int) -> Span:
        start = self._headers[position]
        bound = self._bound(position, start)
        name_bytes = self._names.encoded_size(position)
        return start, start + bytes_to_read(name_bytes, start, bound, self._compressed[position])

    def part(self, start: int, stop: int) -> ZipIndex:
        names = NameTable(self._names.at(range(start, stop)))
        columns = [column[start:stop] for column in self._columns]
        after = self._headers[stop] if stop < len(self) else self._after
        return ZipIndex(self._directory_start, names, columns, after)

    def members_at(self, positions: Sequence[int]) -> Iterator[Member]:
        """Yields the samples at some positions, in the order of the positions."""
        names = self._names.at(positions)
        columns = [map(column.__getitem__, positions) for column in self._columns]
        for position, name, start, compressed, size, crc, method, flags in zip(
            positions, names, *columns, strict=False
        ):
            bound = self._bound(position, start)
            yield name, start, bound, compressed, size, crc, method, flags

    def members(self) -> Iterator[Member]:
        """Yields all samples in order, faster than `members_at`."""
        end = self._directory_start
        following = chain(islice(self._headers, 1, None), [self._after])
        for name, after, start, compressed, size, crc, method, flags in zip(
            self._names, following, *self._columns, strict=False
        ):
            bound = after if after > start else end
            yield name, start, bound, compressed, size, crc, method, flags

    def _bound(self, position: int, start: int) -> int:
        """Returns the offset of the next member or of the directory, before which a member has to end."""
        headers = self._headers
        after = headers[position + 1] if position + 1 < len(headers) else self._after
        return after if after > start else self._directory_start

    def check_overlaps(self, archive: str) -> None:
        """Refuses overlapping members, by which a small archive could contain any number of large ones.

        Raises:
            FormatError: Members overlap, or reach into the central directory.
        """
        if self._are_in_order():
            return
        order = sorted(range(len(self)), key=self._headers.__getitem__)
        bound = self._directory_start
        for position in reversed(order):
            start = self._headers[position]
            if start + LOCAL_HEADER_BYTES + self._compressed[position] > bound:
                raise FormatError(
                    f"{archive!r} is damaged, or made to unpack to more than it contains: member "
                    f"{self.name(position)!r}, which starts at byte {start}, overlaps what follows at byte "
                    f"{bound}. Publish it again from a complete file."
                )
            bound = start

    def _are_in_order(self) -> bool:
        """Returns whether each member ends before the next one in the list starts, as in most archives."""
        ends = map(add, map(add, self._headers, self._compressed), repeat(LOCAL_HEADER_BYTES))
        bounds = chain(islice(self._headers, 1, None), [self._directory_start])
        return all(map(le, ends, bounds))


def build_index(file: ObjectFile, encoding: str = "") -> ZipIndex:
    """Builds the index from the central directory.

    Args:
        file: The archive.
        encoding: As for `decode_name`.

    Raises:
        FormatError: The directory is missing or damaged, members overlap, or a name is unsafe.
        LimitError: There are too many members, or the file consists of few blocks that are repeated.
    """
    directory = find_directory(file)
    columns = [array(kind) for kind in _COLUMNS]
    index = ZipIndex(directory.start, NameTable(limits=file.limits), columns)
    repetition, position = RepetitionCheck(file, file.limits), directory.start
    for found in read_entries(file, directory, encoding):
        if samples := _samples(file.name, found):
            index.extend(samples)
        repetition.add(len(found), position)
        position = min(position + DIRECTORY_PIECE_BYTES, directory.stop - 1)
    index.check_overlaps(file.name)
    return index


def _samples(archive: str, found: list[Entry]) -> list[Entry]:
    """Returns the entries that are samples: no directories, symbolic links or junk.

    Raises:
        FormatError: A name is unsafe.
    """
    files = [entry for entry in found if not stat.S_ISLNK(entry[-1])]
    # One search over all names, because few of them are special.
    names = b"\0".join([b"", *(entry[0] for entry in files), b""])
    if names.count(b"\0") == len(files) + 1 and not any(part in names for part in _SPECIAL):
        return files
    return [entry for entry in files if _is_sample(archive, entry[0].decode())]


def _is_sample(archive: str, name: str) -> bool:
    if name.endswith("/") or is_junk(name):
        return False
    check_name(archive, name)
    return True
