"""ZIP archives byte by byte, as tools write them that are no Python."""

from __future__ import annotations

import struct
import zlib

import attrs

UTF8 = 1 << 11


@attrs.frozen
class Entry:
    """One member; what is not given is as plain tools have it."""

    name: bytes
    data: bytes = b""
    flags: int = 0
    system: int = 3
    extra: bytes = b""
    local_extra: bytes | None = None
    local_name: bytes | None = None
    method: int = 0
    content: bytes | None = None  # what `data` unpacks to


def unicode_path(name: str, raw: bytes, version: int = 1) -> bytes:
    """Returns the extra field 0x7075 of a name, which belongs to a raw one."""
    payload = struct.pack("<BL", version, zlib.crc32(raw)) + name.encode()
    return struct.pack("<2H", 0x7075, len(payload)) + payload


def archive(
    *entries: Entry,
    counted: int | None = None,
    comment: bytes = b"",
    behind: bytes = b"",
    between: bytes = b"",
    zip64: bytes | None = None,
    disk: int = 0,
) -> bytes:
    """Returns an archive.

    Args:
        entries: Its members.
        counted: How many the end record counts, by default as many as there are.
        comment: Of the archive.
        behind: What is behind the entries, as a part of the directory.
        between: What is between the directory and the end record, and no part of it.
        zip64: Special data of the zip64 record, None for no such record.
        disk: The number of the last part.
    """
    members = directory = b""
    for entry in entries:
        content = entry.data if entry.content is None else entry.content
        numbers = (zlib.crc32(content), len(entry.data), len(content))
        local_name = entry.name if entry.local_name is None else entry.local_name
        local_extra = entry.extra if entry.local_extra is None else entry.local_extra
        directory += struct.pack(
            "<4s2B3H2H3L5H2L", b"PK\1\2", 20, entry.system, 20, entry.flags, entry.method, 0, 33,
            *numbers, len(entry.name), len(entry.extra), 0, 0, 0, 0, len(members),
        ) + entry.name + entry.extra  # fmt: skip
        members += struct.pack(
            "<4s3H2H3L2H", b"PK\3\4", 20, entry.flags, entry.method, 0, 33, *numbers,
            len(local_name), len(local_extra),
        ) + local_name + local_extra + entry.data  # fmt: skip
    directory += behind
    count = len(entries) if counted is None else counted
    start, size = len(members), len(directory)
    data = members + directory + between
    if zip64 is not None:
        at = len(data)
        data += struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44 + len(zip64), 45, 45, 0, 0, count, count, size, start
        )
        data += zip64 + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        count, start, size = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    count &= 0xFFFF
    end = struct.pack("<4s4H2LH", b"PK\5\6", disk, disk, count, count, size, start, len(comment))
    return data + end + comment
