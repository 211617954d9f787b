"""The central directory of a ZIP archive: what members it lists, read without touching them.

Own code, not `zipfile`, which makes an object of half a kilobyte for each member: a million of them
would not fit where the index does. What is accepted follows it: data before the archive, comments,
zip64. Entries are plain tuples, parsed in one loop a piece: a function or a named tuple for each would
take most of the time that a million of them need.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core import FormatError
from ipfs_dataset_plugins.archives.compression import compression_of, unreadable_compression
from ipfs_dataset_plugins.archives.member_names import decoded_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

LOCAL_HEADER_BYTES = 30

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_LOCATOR_64 = struct.Struct("<4sLQL")
_LOCATOR_64_SIGNATURE = b"PK\6\7"
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_SIGNATURE = b"PK\6\6"
_END_64_COUNTED_FROM = 12
# Signature, system, version, flags, method, CRC, two sizes, three lengths, attributes, place of the header.
_ENTRY = struct.Struct("<4sx2Bx2H4x3L3H4x2L")
_ENTRY_BYTES = _ENTRY.size
_ENTRY_SIGNATURE = b"PK\1\2"
_DIGITAL_SIGNATURE = b"PK\5\5"  # behind the entries of some archives
_HEADER_SIGNATURE = b"PK\3\4"
_PART_SIGNATURE = b"PK\7\x08"
_EXTRA = struct.Struct("<2H")
_UINT64 = struct.Struct("<Q")
_ZIP64_EXTRA = 1
_UNICODE_PATH_EXTRA = 0x7075
UNICODE_PATH = b"up"  # its number, as it is written
RENAMED_FLAG = 1 << 15
"""Set by us in an entry's flags, where the format has no use for it: the name is that of an extra field."""
_IN_EXTRA = 0xFFFFFFFF
_LATEST_VERSION = 63
_FAT = 0
_LONGEST_COMMENT = 0xFFFF
# Larger than any entry.
_PIECE_BYTES = 1 << 20
_LAST_POSITION = (1 << 63) - 1

Entry = tuple[bytes, int, int, int, int, int, int, int]
"""Name in UTF-8, place of the local header, compressed size, size, CRC, method, flags, mode."""


class Directory(NamedTuple):
    """Where the central directory lies.

    Attributes:
        start: Its first byte.
        stop: One past its last.
        shift: How many bytes were put in front of the archive since it was written.
        counted: How many entries the end record counts.
        modulus: What that number is modulo; writers without zip64 let it overflow.
    """

    start: int
    stop: int
    shift: int
    counted: int
    modulus: int


def find_directory(file: ObjectFile) -> Directory:
    """Finds the central directory, in one read of the end of the file.

    Raises:
        FormatError: There is none.
    """
    start = max(0, file.size - _END.size - _LONGEST_COMMENT - 1 - _LOCATOR_64.size - _END_64.size)
    tail = file.read_at(start, file.size - start)
    try:
        directory = _directory(tail, start)
    except ValueError as error:
        raise FormatError(
            f"{file.name!r} is not a ZIP archive, or cut off: {_other(file) or error}. Publish it "
            "again from a "
            "complete file."
        ) from None
    return directory if directory.shift == 0 else _shifted(file, directory)


def _shifted(file: ObjectFile, directory: Directory) -> Directory:
    """Returns the directory of an archive that has bytes in front, or between the directory and its end.

    Raises:
        FormatError: What is in front is another archive, or there is nothing, and the numbers overflowed.
    """
    name, (start, stop, shift, count, modulus) = file.name, directory
    written_start = start - shift
    signatures = (_ENTRY_SIGNATURE, _DIGITAL_SIGNATURE)
    if count and not file.read_at(start, 4).startswith(signatures) and written_start >= 0:
        if file.read_at(written_start, 4).startswith(signatures):
            return Directory(written_start, written_start + stop - start, 0, count, modulus)
        return directory
    if shift > 0 and shift % (1 << 32) == 0 and file.read_at(0, 4) == _HEADER_SIGNATURE:
        raise FormatError(
            f"{name!r} is larger than 4 GiB, which its table of contents has no room for, as the "
            "Archive Utility of "
            "macOS writes it. Pack it again with a tool that writes zip64, such as zip."
        )
    if shift > 0 and _ends_there(file, shift):
        raise FormatError(
            f"{name!r} has another ZIP archive in front, up to byte {shift}, as where archives were "
            "put one behind the "
            "other: the members of that one would be left out. Publish the archives separately."
        )
    return directory


def _ends_there(file: ObjectFile, stop: int) -> bool:
    """Tells whether a ZIP archive ends at a position, or has all that follows for its comment."""
    start = max(0, stop - _END.size - _LONGEST_COMMENT)
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
    """Returns what a file is that has no directory at its end, None where its first bytes do not tell."""
    head = file.read_at(0, 512)
    if head.startswith(_PART_SIGNATURE):
        return f"it is the first part of an archive that was split. {_JOIN}"
    if (kind := compression_of(head) or unreadable_compression(head)) is not None:
        return f"it is compressed by {kind}"
    if head[257:262] == b"ustar":
        return "it is a TAR archive"
    return None


def entries(file: ObjectFile, directory: Directory, encoding: str = "") -> Iterator[list[Entry]]:
    """Yields all entries of the directory, in its order, as many at once as a piece of it holds.

    Args:
        file: The archive.
        directory: Where its directory lies.
        encoding: Of names that are not marked as UTF-8; "" for UTF-8 where they are that, and else code
            page 437.

    Raises:
        FormatError: The directory is damaged, or has another number of entries than the end record counts.
    """
    position, count = directory.start, 0
    while position < directory.stop:
        piece = file.read_at(position, min(_PIECE_BYTES, directory.stop - position))
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
                f"{file.name!r} is damaged: the entry at byte {position} of its central directory "
                f"cannot be used: {reason}."
            )
        yield found
        position += length
        count += len(found)
    if count % directory.modulus != directory.counted % directory.modulus:
        raise FormatError(
            f"{file.name!r} is damaged: it has {count} entries in its central directory, and its end "
            "record counts "
            f"{directory.counted}. Publish it again from a complete file."
        )


def _directory(tail: bytes, tail_start: int) -> Directory:
    at = _find_end(tail)
    _, disk, directory_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
    stop, modulus = at, 1 << 16
    if (found := _find_end_64(tail, at)) is not None:
        stop, (*_, disk, directory_disk, _, count, size, offset) = found
        modulus = 1 << 64
    if disk or directory_disk:
        raise ValueError(
            f"it is the last of {disk + 1} parts of an archive that was split. {_JOIN}"
        )
    stop += tail_start
    if size > stop:
        raise ValueError("its central directory is larger than the file")
    return Directory(stop - size, stop, stop - size - offset, count, modulus)


_JOIN = "Join the parts first: zip -s 0 parts.zip --out whole.zip"


def _find_end(tail: bytes) -> int:
    """Returns where the end record is: that which ends with the file, else the last one."""
    at = len(tail) - _END.size
    if at >= 0 and tail.startswith(_END_SIGNATURE, at) and tail.endswith(b"\0\0"):
        return at
    first = max(0, len(tail) - _END.size - _LONGEST_COMMENT - 1)
    last = at = tail.rfind(_END_SIGNATURE, first)
    while at >= 0:
        if at + _END.size <= len(tail) and _exact_end(tail, at):
            return at
        at = tail.rfind(_END_SIGNATURE, first, at)
    if last < 0 or last + _END.size > len(tail):
        raise ValueError("it has no end of central directory")
    return last


def _exact_end(tail: bytes, at: int) -> bool:
    """Tells whether the comment of an end record is as long as what follows it."""
    return at + _END.size + int.from_bytes(
        tail[at + _END.size - 2 : at + _END.size], "little"
    ) == len(tail)


def _find_end_64(tail: bytes, end: int) -> tuple[int, tuple[int, ...]] | None:
    """Returns where the record of large archives is, in front of the usual one, and what it has."""
    locator = end - _LOCATOR_64.size
    if locator < 0 or not tail.startswith(_LOCATOR_64_SIGNATURE, locator):
        return None
    _, disk, _, disks = _LOCATOR_64.unpack_from(tail, locator)
    if disk or disks > 1:
        raise ValueError(f"it is the last of {disks} parts of an archive that was split. {_JOIN}")
    # Data for special purposes may be between the record and its locator; the record counts them.
    at = tail.rfind(_END_64_SIGNATURE, 0, locator)
    while at >= 0:
        if at + _END_64.size <= locator:
            record = _END_64.unpack_from(tail, at)
            if at + _END_64_COUNTED_FROM + record[1] == locator:
                return at, record
        at = tail.rfind(_END_64_SIGNATURE, 0, at)
    return None


class _EntryError(ValueError):
    """Where in a piece an entry is that cannot be used, and why."""


def _parse(piece: bytes, shift: int, encoding: str, found: list[Entry]) -> int:
    """Appends the entries that are whole in a piece, and returns how many bytes they have.

    Raises:
        _EntryError: One cannot be used.
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
                size, compressed, header = _large(extra, size, compressed, header)
                special = special or UNICODE_PATH in extra
            if special or (system == _FAT and b"\\" in name):
                raw, (text, renamed) = name, entry_name(name, flags, extra, encoding)
                if system == _FAT and "/" not in text:
                    text = text.replace("\\", "/")
                name = text.encode()
                flags |= RENAMED_FLAG if renamed and raw != name else 0
        except ValueError as error:
            raise _EntryError(at, error) from None
        header += shift
        if not 0 <= header <= _LAST_POSITION:
            raise _EntryError(at, "it points out of the file")
        found.append((name, header, compressed, size, crc, method, flags, attributes >> 16))
        at = stop
    return at


def entry_name(name: bytes, flags: int, extra: bytes, encoding: str) -> tuple[str, bool]:
    """Returns the name of an entry, and whether an extra field has it.

    That is the Unicode path of Info-ZIP, which counts as long as the name that it belongs to is still
    there: its checksum shows whether a tool that does not use the field has changed the name since.

    Raises:
        ValueError: It is not of the encoding that it is said to be of.
    """
    if UNICODE_PATH in extra:
        for kind, data in _fields(extra):
            if (
                kind == _UNICODE_PATH_EXTRA
                and data[:1] == b"\1"
                and data[1:5] == zlib.crc32(name).to_bytes(4, "little")
            ):
                return data[5:].decode(), True
    return decoded_name(name, flags, encoding), False


def _large(extra: bytes, size: int, compressed: int, header: int) -> tuple[int, int, int]:
    """Returns the three numbers, those that do not fit taken from the zip64 extra field."""
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
