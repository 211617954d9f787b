"""ZIP archives: one sample per file, in the order of the central directory.

The members are those that Info-ZIP and Python's `zipfile` list, except directories and symbolic links.
Names are decoded as Info-ZIP decodes them.
"""

from __future__ import annotations

import codecs
import stat
from array import array
from itertools import chain, islice, repeat
from operator import add, itemgetter, le
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetError,
    Location,
    MemberIndex,
    NameTable,
    Reader,
    index_of,
    located,
    pack_columns,
    unpack_columns,
)
from ipfs_dataset_plugins.archives.buffered import BufferedFile, RandomAccessFile
from ipfs_dataset_plugins.archives.member_names import check_name, is_junk
from ipfs_dataset_plugins.archives.repetition import RepetitionCheck
from ipfs_dataset_plugins.zip.central_directory import (
    DIRECTORY_PIECE_BYTES,
    LOCAL_HEADER_BYTES,
    find_directory,
    read_entries,
)
from ipfs_dataset_plugins.zip.member import bytes_to_read, read_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core import Limits, ObjectFile, Sample, Span
    from ipfs_dataset_plugins.zip.central_directory import Entry
    from ipfs_dataset_plugins.zip.member import Member


class ZipReader(Reader):
    """Reads ZIP archives.

    Each member is held in memory as a whole, so a member larger than ``limits.member_bytes`` is refused.

    Args:
        encoding: The encoding of names that are not marked as UTF-8, such as ``"cp932"`` for archives
            made on Japanese Windows. By default such names are decoded as UTF-8 if they are valid UTF-8,
            and else as code page 437, which is what the format prescribes.

    Raises:
        LookupError: There is no such text encoding.
    """

    cheap_index = True

    def __init__(self, *, encoding: str | None = None) -> None:
        self.encoding = codecs.lookup(encoding).name if encoding else ""
        # Refuses codecs that do not encode text, such as base64.
        "".encode(self.encoding or "ascii")

    @property
    def index_form(self) -> str:  # type: ignore[override]
        return f"zip 2 {self.encoding}".rstrip()

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = cast("ZipIndex", index_of(self, source))
        archive, limits = BufferedFile(source), source.limits
        for member in index.members():
            yield member[0], _content(archive, member, limits, self.encoding)

    def index(self, source: ObjectFile) -> ZipIndex:
        return build_index(source, self.encoding)

    def load_index(self, source: ObjectFile, data: bytes) -> ZipIndex:
        return ZipIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        (member,) = cast("ZipIndex", index).members_at([position])
        archive = BufferedFile(source, piece=0)
        return member[0], _content(archive, member, source.limits, self.encoding)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = RandomAccessFile(source), source.limits
        for member in cast("ZipIndex", index).members_at(list(positions)):
            yield member[0], _content(archive, member, limits, self.encoding)


def _content(archive: BufferedFile, member: Member, limits: Limits, encoding: str) -> bytes:
    """Returns the content of a member; the errors name it and the archive."""
    name, compressed, size = member[0], member[3], member[4]
    if size > limits.member_bytes:
        limits.check("member_bytes", size, f"member {name!r} of {archive.name!r}")
    if size > limits.expansion_bytes:
        # Decompression stops at the declared size, so the check of that size is enough.
        limits.check_expansion(compressed, size, f"Member {name!r} of {archive.name!r}")
    try:
        return read_member(archive, member, limits, encoding)
    except IPFSDatasetError as error:
        raise located(error, Location(member=name)) from error.__cause__
    except ValueError as error:
        raise FormatError(
            f"Member {name!r} of {archive.name!r} (header at byte {member[1]}) cannot be read: {error}."
        ) from error


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
    position = directory.start
    # A directory of one piece has too few entries for the check.
    is_large = directory.stop - directory.start > DIRECTORY_PIECE_BYTES
    repetition = RepetitionCheck(file, file.limits) if is_large else None
    for found in read_entries(file, directory, encoding):
        if samples := _samples(file.name, found):
            index.extend(samples)
        if repetition is not None:
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
