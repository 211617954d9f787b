"""The central directory of a ZIP archive: what members it lists, read without touching them.

Own code, not `zipfile`, which makes an object of half a kilobyte for each member: a million of them
would not fit where the index does. What is accepted follows it: data before the archive, comments,
zip64.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core import FormatError
from ipfs_dataset_plugins._forward import ForwardBytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

LOCAL_HEADER = struct.Struct("<4s5H3L2H")

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_LOCATOR_64 = struct.Struct("<4sLQL")
_LOCATOR_64_SIGNATURE = b"PK\6\7"
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_SIGNATURE = b"PK\6\6"
_ENTRY = struct.Struct("<4s4B4H3L5H2L")
_ENTRY_SIGNATURE = b"PK\1\2"
_EXTRA = struct.Struct("<2H")
_UINT64 = struct.Struct("<Q")
_ZIP64_EXTRA = 1
_IN_EXTRA = 0xFFFFFFFF
_LATEST_VERSION = 63
_UTF8_FLAG = 1 << 11
_LONGEST_COMMENT = 0xFFFF


class Directory(NamedTuple):
    """Where the central directory lies.

    Attributes:
        start: Its first byte.
        stop: One past its last.
        shift: How many bytes were put in front of the archive since it was written.
    """

    start: int
    stop: int
    shift: int


class Entry(NamedTuple):
    """What the directory says of one member."""

    name: str
    header: int
    compressed: int
    size: int
    crc: int
    method: int
    flags: int
    mode: int


def find_directory(file: ObjectFile) -> Directory:
    """Finds the central directory, in one read of the end of the file.

    Raises:
        FormatError: There is none.
    """
    start = max(0, file.size - _END.size - _LONGEST_COMMENT - 1 - _LOCATOR_64.size - _END_64.size)
    tail = file.read_at(start, file.size - start)
    try:
        return _directory(tail, start)
    except ValueError as error:
        raise FormatError(
            f"{file.name!r} is not a ZIP archive, or cut off: {error}. Publish it again from a "
            "complete file."
        ) from None


def entries(file: ObjectFile, directory: Directory) -> Iterator[Entry]:
    """Yields all entries of the directory, in its order.

    Raises:
        FormatError: The directory is damaged.
    """
    archive = ForwardBytes(file)
    position = directory.start
    while position < directory.stop:
        fixed = archive.read(position, min(_ENTRY.size, directory.stop - position))
        try:
            length = _entry_length(fixed, directory.stop - position)
            yield _entry(archive.read(position, length), directory.shift)
        except FormatError:
            raise
        except ValueError as error:
            raise FormatError(
                f"{file.name!r} is damaged: the entry at byte {position} of its central directory "
                f"cannot be used: {error}."
            ) from None
        position += length


def decoded_name(name: bytes, flags: int) -> str:
    """Decodes a name, which is UTF-8 where a flag says so and code page 437 elsewhere.

    Raises:
        ValueError: It is not.
    """
    return name.decode("utf-8" if flags & _UTF8_FLAG else "cp437")


def _directory(tail: bytes, tail_start: int) -> Directory:
    at = _find_end(tail)
    *_, size, offset, _ = _END.unpack_from(tail, at)
    stop = tail_start + at
    if (record := _find_end_64(tail, at)) is not None:
        *_, size, offset = record
        stop -= _LOCATOR_64.size + _END_64.size
    if size > stop:
        raise ValueError("its central directory is larger than the file")
    return Directory(stop - size, stop, stop - size - offset)


def _find_end(tail: bytes) -> int:
    at = len(tail) - _END.size
    if at >= 0 and tail.startswith(_END_SIGNATURE, at) and tail.endswith(b"\0\0"):
        return at
    at = tail.rfind(_END_SIGNATURE, max(0, len(tail) - _END.size - _LONGEST_COMMENT - 1))
    if at < 0 or at + _END.size > len(tail):
        raise ValueError("it has no end of central directory")
    return at


def _find_end_64(tail: bytes, end: int) -> tuple[int, ...] | None:
    """Returns the record of large archives, which stands in front of the usual one."""
    at = end - _LOCATOR_64.size
    if at < 0 or not tail.startswith(_LOCATOR_64_SIGNATURE, at):
        return None
    _, disk, _, disks = _LOCATOR_64.unpack_from(tail, at)
    if disk or disks > 1:
        raise ValueError("it spans several disks")
    at -= _END_64.size
    if at < 0 or not tail.startswith(_END_64_SIGNATURE, at):
        return None
    return _END_64.unpack_from(tail, at)


def _entry_length(fixed: bytes, rest: int) -> int:
    if len(fixed) < _ENTRY.size:
        raise ValueError("it is cut off")
    if not fixed.startswith(_ENTRY_SIGNATURE):
        raise ValueError("it has no signature")
    name, extra, comment = struct.unpack_from("<3H", fixed, 28)
    length: int = _ENTRY.size + name + extra + comment
    if length > rest:
        raise ValueError("it is cut off")
    return length


def _entry(data: bytes, shift: int) -> Entry:
    (_, _, _, needed, _, flags, method, _, _, crc, compressed, size, name_bytes, extra_bytes) = (
        _ENTRY.unpack_from(data)[:14]
    )
    external, header = struct.unpack_from("<2L", data, 38)
    if needed > _LATEST_VERSION:
        raise ValueError(f"it needs version {needed / 10} of the format")
    extra_start = _ENTRY.size + name_bytes
    name = decoded_name(data[_ENTRY.size : extra_start], flags)
    extra = data[extra_start : extra_start + extra_bytes]
    size, compressed, header = _large(extra, size, compressed, header)
    if (header := header + shift) < 0:
        raise ValueError("it points in front of the file")
    return Entry(name, header, compressed, size, crc, method, flags, external >> 16)


def _large(extra: bytes, size: int, compressed: int, header: int) -> tuple[int, int, int]:
    """Returns the three numbers, those that do not fit taken from the zip64 extra field."""
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if at + length > len(extra):
            raise ValueError(f"its extra field {kind:#06x} is cut off")
        if kind == _ZIP64_EXTRA:
            large = _numbers(extra[at : at + length])
            try:
                size = next(large) if size == _IN_EXTRA else size
                compressed = next(large) if compressed == _IN_EXTRA else compressed
                header = next(large) if header == _IN_EXTRA else header
            except StopIteration:
                raise ValueError("its zip64 extra field is too short") from None
        at += length
    return size, compressed, header


def _numbers(data: bytes) -> Iterator[int]:
    whole = len(data) - len(data) % _UINT64.size
    return (number for (number,) in _UINT64.iter_unpack(data[:whole]))
