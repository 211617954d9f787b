"""The central directory of a ZIP archive, and the index that is built from it; no member is read.

The standard library's `zipfile` is not used, because it keeps an object of half a kilobyte for each
member, far more than the index. The same archives are accepted: with data in front, comments, zip64.
Entries are plain tuples, parsed in one loop for each piece of the directory: a function call or a named
tuple for each entry would take most of the time of reading a million of them.
"""

from __future__ import annotations

import stat
import struct
import zlib
from array import array
from itertools import chain, islice, repeat
from operator import add, itemgetter, le
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core import FormatError, MemberIndex, NameTable, pack_columns, unpack_columns
from ipfs_dataset_plugins.archives.compression import compression_of, unreadable_compression
from ipfs_dataset_plugins.archives.member_names import check_name, is_junk
from ipfs_dataset_plugins.archives.repetition import RepetitionCheck

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core import Limits, ObjectFile, Span

LOCAL_HEADER_BYTES = 30

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_LOCATOR_64 = struct.Struct("<4sLQL")
_LOCATOR_64_SIGNATURE = b"PK\6\7"
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_SIGNATURE = b"PK\6\6"
_END_64_COUNTED_FROM = 12
# Signature, system, version, flags, method, CRC, two sizes, three lengths, attributes, offset of the
# local header.
_ENTRY = struct.Struct("<4sx2Bx2H4x3L3H4x2L")
_ENTRY_BYTES = _ENTRY.size
_ENTRY_SIGNATURE = b"PK\1\2"
_DIGITAL_SIGNATURE = b"PK\5\5"  # behind the entries of some archives
_HEADER_SIGNATURE = b"PK\3\4"
_PART_SIGNATURE = b"PK\7\x08"
_UTF8_FLAG = 1 << 11
_EXTRA = struct.Struct("<2H")
_UINT64 = struct.Struct("<Q")
_ZIP64_EXTRA = 1
_UNICODE_PATH_EXTRA = 0x7075
_UNICODE_PATH_ID = b"up"  # the number of that field, little-endian
RENAMED_FLAG = 1 << 15
"""A flag that the format leaves unused, set in an `Entry` whose name was taken from an extra field."""
_IN_EXTRA = 0xFFFFFFFF
_LATEST_VERSION = 63  # 6.3, in tenths
_FAT = 0
_MAX_COMMENT_BYTES = 0xFFFF
# Larger than any entry, so that each piece contains at least one.
DIRECTORY_PIECE_BYTES = 1 << 20
# An entry takes some 60 bytes, so that members have 4 KiB on the average where the directory is that large.
_FILE_BYTES_PER_ENTRY_BYTE = 64
_MAX_OFFSET = (1 << 63) - 1
_JOIN = "Join the parts first: zip -s 0 parts.zip --out whole.zip"

Entry = tuple[bytes, int, int, int, int, int, int, int]
"""Name in UTF-8, offset of the local header, compressed size, size, CRC-32, method, flags, Unix mode."""

Member = tuple[str, int, int, int, int, int, int, int]
"""Name, offset of the local header, bound, compressed size, size, CRC-32, method, flags.

The bound is the offset of the next member or of the central directory; the member ends before it. A plain
tuple, because reading a member takes a few microseconds, of which a named tuple would cost half a
microsecond.
"""

# A local header without its name. Its extra field may be longer than in the directory; 256 bytes hold
# nearly all.
HEADER_BYTES = LOCAL_HEADER_BYTES + 256


class CentralDirectory(NamedTuple):
    """The position of the central directory.

    Attributes:
        start: The offset of its first byte.
        stop: The offset after its last byte.
        shift: The number of bytes inserted in front of the archive after it was written.
        counted: The number of entries according to the end record.
        modulus: The modulus of that number, which overflows in archives without zip64.
    """

    start: int
    stop: int
    shift: int
    counted: int
    modulus: int


def find_directory(file: ObjectFile) -> CentralDirectory:
    """Finds the central directory, by one read of the end of the file in most cases.

    From a distant source that read is as long as the directory may be, which is then in memory.

    Raises:
        FormatError: It has none, or only that of another archive or of one part of an archive.
    """
    longest = _END.size + _MAX_COMMENT_BYTES + 1 + _LOCATOR_64.size + _END_64.size
    probable = min(file.size // _FILE_BYTES_PER_ENTRY_BYTE, file.bytes_per_round_trip)
    start = max(0, file.size - max(longest, probable))
    tail = file.read_at(start, file.size - start)
    try:
        directory = _parse_end(tail, start)
    except ValueError as error:
        raise FormatError(
            f"{file.name!r} is not a ZIP archive, or cut off: {_other(file) or error}. Publish it again "
            "from a complete file."
        ) from None
    return directory if directory.shift == 0 else _check_shifted(file, directory)


def _check_shifted(file: ObjectFile, directory: CentralDirectory) -> CentralDirectory:
    """Returns the directory of an archive with bytes in front of it, or between directory and end record.

    Raises:
        FormatError: The bytes in front are another archive, or the archive itself is larger than 4 GiB
            and its offsets have overflowed.
    """
    name, (start, stop, shift, count, modulus) = file.name, directory
    written_start = start - shift
    signatures = (_ENTRY_SIGNATURE, _DIGITAL_SIGNATURE)
    if count and not file.read_at(start, 4).startswith(signatures) and written_start >= 0:
        if file.read_at(written_start, 4).startswith(signatures):
            return CentralDirectory(written_start, written_start + stop - start, 0, count, modulus)
        return directory
    if shift > 0 and shift % (1 << 32) == 0 and file.read_at(0, 4) == _HEADER_SIGNATURE:
        raise FormatError(
            f"{name!r} is larger than 4 GiB and was written without zip64, as by the Archive "
            "Utility of macOS, so that the positions and sizes in its central directory are "
            "ambiguous. Pack it again with a tool that writes zip64, such as zip."
        )
    if shift > 0 and _ends_there(file, shift):
        raise FormatError(
            f"{name!r} has another ZIP archive in front of it, up to byte {shift}, as if archives had been "
            "concatenated: the members of that one would be left out. Publish the archives separately."
        )
    return directory


def _ends_there(file: ObjectFile, stop: int) -> bool:
    """Returns whether a ZIP archive ends at a position, or extends to the end of the file by its comment."""
    start = max(0, stop - _END.size - _MAX_COMMENT_BYTES)
    tail = file.read_at(start, stop - start)
    at = tail.rfind(_END_SIGNATURE)
    while at >= 0:
        comment = at + _END.size
        if comment <= len(tail):
            comment_bytes = int.from_bytes(tail[comment - 2 : comment], "little")
            if start + comment + comment_bytes in (stop, file.size):
                return True
        at = tail.rfind(_END_SIGNATURE, 0, at)
    return False


def _other(file: ObjectFile) -> str | None:
    """Returns what a file without a central directory is; None if its first bytes are not recognized."""
    head = file.read_at(0, 512)
    if head.startswith(_PART_SIGNATURE):
        return f"it is the first part of a split archive. {_JOIN}"
    if (kind := compression_of(head) or unreadable_compression(head)) is not None:
        return f"it is compressed by {kind}"
    if head[257:262] == b"ustar":
        return "it is a TAR archive"
    return None


def read_entries(
    file: ObjectFile, directory: CentralDirectory, encoding: str = ""
) -> Iterator[list[Entry]]:
    """Yields all entries of the directory in order, in lists of those in one piece (1 MiB) of it.

    Args:
        file: The archive.
        directory: The position of its directory.
        encoding: As for `decode_name`.

    Raises:
        FormatError: The directory is damaged, or its number of entries differs from that in the end record.
    """
    position, count = directory.start, 0
    while position < directory.stop:
        piece = file.read_at(position, min(DIRECTORY_PIECE_BYTES, directory.stop - position))
        if piece.startswith(_DIGITAL_SIGNATURE):
            break
        found: list[Entry] = []
        reason: object = "it is cut off"
        try:
            length = _parse(piece, directory.shift, encoding, found)
        except _EntryError as error:
            length, (at, reason) = 0, error.args
            position += at
        if not length:
            raise FormatError(
                f"{file.name!r} is damaged or not supported: the entry of its central directory at "
                f"byte {position} cannot be used: {reason}."
            )
        yield found
        position += length
        count += len(found)
    if count % directory.modulus != directory.counted % directory.modulus:
        raise FormatError(
            f"{file.name!r} is damaged: its central directory has {count} entries, but its end "
            f"record counts {directory.counted}. Publish it again from a complete file."
        )


def _parse_end(tail: bytes, tail_start: int) -> CentralDirectory:
    """Returns the directory that the end records point to; raises ValueError if there is none."""
    at = _find_end(tail)
    _, disk, directory_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    stop, modulus = at, 1 << 16
    if (found := _find_end_64(tail, at)) is not None:
        stop, (*_, disk, directory_disk, _, count, size, offset) = found
        modulus = 1 << 64
    if disk or directory_disk:
        raise ValueError(f"it is the last of {disk + 1} parts of a split archive. {_JOIN}")
    stop += tail_start
    if size > stop:
        raise ValueError("its central directory is larger than the file")
    return CentralDirectory(stop - size, stop, stop - size - offset, count, modulus)


def _find_end(tail: bytes) -> int:
    """Returns the offset of the end record: the one that ends with the file, or else the last one."""
    at = len(tail) - _END.size
    if at >= 0 and tail.startswith(_END_SIGNATURE, at) and tail.endswith(b"\0\0"):
        return at
    first = max(0, len(tail) - _END.size - _MAX_COMMENT_BYTES - 1)
    last = at = tail.rfind(_END_SIGNATURE, first)
    while at >= 0:
        if at + _END.size <= len(tail) and _ends_with_comment(tail, at):
            return at
        at = tail.rfind(_END_SIGNATURE, first, at)
    if last < 0 or last + _END.size > len(tail):
        raise ValueError("it has no end of central directory")
    return last


def _ends_with_comment(tail: bytes, at: int) -> bool:
    """Returns whether the comment of an end record reaches exactly to the end of the file."""
    return at + _END.size + int.from_bytes(
        tail[at + _END.size - 2 : at + _END.size], "little"
    ) == len(tail)


def _find_end_64(tail: bytes, end: int) -> tuple[int, tuple[int, ...]] | None:
    """Returns the offset and the fields of the zip64 end record, which is in front of the end record."""
    locator = end - _LOCATOR_64.size
    if locator < 0 or not tail.startswith(_LOCATOR_64_SIGNATURE, locator):
        return None
    _, disk, _, disks = _LOCATOR_64.unpack_from(tail, locator)
    if disk or disks > 1:
        raise ValueError(f"it is the last of {disks} parts of a split archive. {_JOIN}")
    # Vendors' data may be between the record and its locator; the size of the record includes them.
    at = tail.rfind(_END_64_SIGNATURE, 0, locator)
    while at >= 0:
        if at + _END_64.size <= locator:
            record = _END_64.unpack_from(tail, at)
            if at + _END_64_COUNTED_FROM + record[1] == locator:
                return at, record
        at = tail.rfind(_END_64_SIGNATURE, 0, at)
    return None


class _EntryError(ValueError):
    """An entry cannot be used. Arguments: its offset in the piece, the reason."""


def _parse(piece: bytes, shift: int, encoding: str, found: list[Entry]) -> int:
    """Parses the entries of a piece, without the last one if it is cut off, and appends them to `found`.

    Args:
        piece: Part of the directory; an entry starts at its first byte.
        shift: The number of bytes to add to offsets.
        encoding: As for `decode_name`.
        found: The list to append to.

    Returns:
        How many bytes the entries occupy.

    Raises:
        _EntryError: An entry cannot be used.
    """
    at, end, unpack = 0, len(piece), _ENTRY.unpack_from
    while at + _ENTRY_BYTES <= end:
        (
            signature, system, version, flags, method, crc, compressed, size,
            name_bytes, extra_bytes, comment_bytes, attributes, header,
        ) = unpack(piece, at)  # fmt: skip
        name_stop = at + _ENTRY_BYTES + name_bytes
        stop = name_stop + extra_bytes + comment_bytes
        if signature != _ENTRY_SIGNATURE:
            if signature == _DIGITAL_SIGNATURE and at:
                break
            raise _EntryError(at, "it has no signature")
        if stop > end:
            break
        if version > _LATEST_VERSION:
            raise _EntryError(at, f"it needs version {version / 10} of the format")
        name = piece[at + _ENTRY_BYTES : name_stop]
        if flags >= RENAMED_FLAG:
            flags -= RENAMED_FLAG
        try:
            extra = b""
            special = encoding or not name.isascii()
            if extra_bytes:
                extra = piece[name_stop : name_stop + extra_bytes]
                size, compressed, header = _zip64_sizes(extra, size, compressed, header)
                special = special or _UNICODE_PATH_ID in extra
            if special or (system == _FAT and b"\\" in name):
                raw, (text, renamed) = name, _entry_name(name, flags, extra, encoding)
                if system == _FAT and "/" not in text:
                    text = text.replace("\\", "/")
                name = text.encode()
                flags |= RENAMED_FLAG if renamed and raw != name else 0
        except ValueError as error:
            raise _EntryError(at, error) from None
        header += shift
        if not 0 <= header <= _MAX_OFFSET:
            raise _EntryError(at, "its offset is outside the file")
        found.append((name, header, compressed, size, crc, method, flags, attributes >> 16))
        at = stop
    return at


def _entry_name(name: bytes, flags: int, extra: bytes, encoding: str) -> tuple[str, bool]:
    """Returns the decoded name of an entry, and whether it comes from the extra field of Info-ZIP.

    That field, the Unicode path, contains a checksum of the plain name. If it does not match, a tool that
    does not support the field has renamed the member, and the field is ignored.

    Raises:
        ValueError: The name is not valid in its encoding.
    """
    if _UNICODE_PATH_ID in extra:
        for kind, data in _fields(extra):
            if (
                kind == _UNICODE_PATH_EXTRA
                and data[:1] == b"\1"
                and data[1:5] == zlib.crc32(name).to_bytes(4, "little")
            ):
                return data[5:].decode(), True
    return decode_name(name, flags, encoding), False


def decode_name(name: bytes, flags: int, encoding: str = "") -> str:
    """Decodes the name of a member.

    The format allows code page 437, and UTF-8 if a flag is set. Real tools also write UTF-8 without the
    flag, as `zip` and macOS do, or the code page of their own system.

    Args:
        name: The bytes in the archive.
        flags: The flags of the member.
        encoding: The encoding of names that are not marked as UTF-8; "" decodes them as UTF-8 if they
            are valid UTF-8, and else as code page 437.

    Raises:
        ValueError: The name is not valid in its encoding.
    """
    if name.isascii() and not encoding:
        return name.decode("ascii")  # equal in all encodings, and ten times faster
    if flags & _UTF8_FLAG or not encoding:
        try:
            return name.decode()
        except UnicodeDecodeError:
            if not flags & _UTF8_FLAG:
                return name.decode("cp437")
            if not encoding:
                raise ValueError(
                    f"its name {name!r} is marked as UTF-8 but is not valid UTF-8; give the object "
                    "the format ZipReader(encoding=…), of ipfs_dataset_plugins.zip"
                ) from None
    try:
        return name.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"its name {name!r} is not valid in the encoding {encoding} that was given ({error})"
        ) from None


def _zip64_sizes(extra: bytes, size: int, compressed: int, header: int) -> tuple[int, int, int]:
    """Returns the two sizes and the offset; those that need 64 bits come from the zip64 extra field."""
    for kind, data in _fields(extra):
        if kind == _ZIP64_EXTRA:
            large = _numbers(data)
            try:
                size = next(large) if size == _IN_EXTRA else size
                compressed = next(large) if compressed == _IN_EXTRA else compressed
                header = next(large) if header == _IN_EXTRA else header
            except StopIteration:
                raise ValueError("its zip64 extra field is too short") from None
    return size, compressed, header


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if at + length > len(extra):
            raise ValueError(f"its extra field {kind:#06x} is cut off")
        yield kind, extra[at : at + length]
        at += length


def _numbers(data: bytes) -> Iterator[int]:
    whole = len(data) - len(data) % _UINT64.size
    return (number for (number,) in _UINT64.iter_unpack(data[:whole]))


def bytes_to_read(name_bytes: int, start: int, bound: int, compressed: int) -> int:
    """Returns how many bytes to read for a member and its local header.

    Args:
        name_bytes: The length of the name in bytes.
        start: The offset of the local header.
        bound: The offset at which the next member or the central directory starts.
        compressed: The compressed size in bytes.
    """
    return min(bound - start, HEADER_BYTES + name_bytes + compressed)


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

    def spans_at(self, positions: Iterable[int]) -> Iterator[Span]:
        headers, compressed = self._headers, self._compressed
        last = len(headers) - 1
        for position in positions:
            start = headers[position]
            bound = headers[position + 1] if position < last else self._after
            # Whatever the length of its name, most members with their header end where the next begins.
            if 0 < bound - start <= HEADER_BYTES + compressed[position]:
                yield start, bound
            else:
                yield self.span(position)

    def part(self, start: int, stop: int) -> ZipIndex:
        names = NameTable(self._names.at(range(start, stop)))
        columns = [column[start:stop] for column in self._columns]
        after = self._headers[stop] if stop < len(self) else self._after
        return ZipIndex(self._directory_start, names, columns, after)

    def members_at(self, positions: Sequence[int]) -> Iterator[Member]:
        """Yields the samples at some positions, in the order of the positions."""
        names = self._names.at(positions)
        columns = [map(column.__getitem__, positions) for column in self._columns]
        headers, last = self._headers, len(self._headers) - 1
        for position, name, start, compressed, size, crc, method, flags in zip(
            positions, names, *columns, strict=False
        ):
            bound = headers[position + 1] if position < last else self._after
            if bound <= start:
                bound = self._directory_start
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
