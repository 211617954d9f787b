"""Reads one member of a ZIP archive: checks it against what the central directory says of it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ipfs_dataset_plugins.archives import deflate as _deflate
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.archives.member_names import decoded_name
from ipfs_dataset_plugins.zip.central_directory import LOCAL_HEADER_BYTES, RENAMED_FLAG
from ipfs_dataset_plugins.zip.methods import decompress

if TYPE_CHECKING:
    from ipfs_dataset_core import Limits
    from ipfs_dataset_plugins.archives.buffered import ForwardBytes

Member = tuple[str, int, int, int, int, int, int, int]
"""Name, place of the local header, where what follows starts, compressed size, size, CRC, method, flags.

A plain tuple: archives are read at some microseconds a member, and a named one costs half of one.
"""

# Signature, flags, lengths of the name and of the extra field.
_LOCAL_HEADER = struct.Struct("<4s2xH18x2H")
_SIGNATURE = b"PK\3\4"
_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_PATCH_FLAG = 1 << 5
_UNREADABLE_FLAGS = _ENCRYPTED_FLAGS | _PATCH_FLAG
# A local header but for its name; its extra field may be longer than the directory's, and nearly all fit.
_HEAD_BYTES = LOCAL_HEADER_BYTES + 256
# Larger members are read apart from their header: cutting them out of one piece would copy them.
_READ_IN_ONE_BYTES = 1 << 20


def extent(name_bytes: int, start: int, bound: int, compressed: int) -> int:
    """Returns how many bytes to read for a member with its header; `bound` is where what follows starts."""
    return min(bound - start, _HEAD_BYTES + name_bytes + compressed)


def read_member(archive: ForwardBytes, member: Member, limits: Limits, encoding: str = "") -> bytes:
    """Returns what a member holds.

    Raises:
        FormatError: The archive is cut off.
        LimitError: To decompress it takes too much memory.
        MissingDependencyError: Nothing installed reads its compression.
        ValueError: The member cannot be read, and why.
    """
    name, start, bound, compressed, size, crc, method, flags = member
    if flags & _UNREADABLE_FLAGS:
        raise ValueError(_why_unreadable(flags))
    wanted = bound - start
    if wanted > _HEAD_BYTES + compressed:  # else it is that, however long the name
        wanted = extent(len(name.encode()), start, bound, compressed)
    piece, at = archive.window(start, min(wanted, _READ_IN_ONE_BYTES))
    head = _check_header(piece, at, name, flags, encoding)
    if start + head + compressed > bound:
        raise ValueError("it overlaps what follows")
    data = piece[at + head : at + head + compressed]
    if len(data) < compressed:
        data = archive.read(start + head, compressed)
    if len(data) < compressed:
        raise cut_off(archive.name, start + head + compressed)
    content = decompress(method, data, size, limits)
    if len(content) != size:
        raise ValueError(f"it does not have the {size} bytes that the archive declares")
    if _deflate.crc32(content) != crc:
        raise ValueError("its CRC does not match")
    return content


def _why_unreadable(flags: int) -> str:
    if flags & _ENCRYPTED_FLAGS:
        return "it is encrypted; publish the archive without a password"
    return "it is a patch, which is not supported"


def _check_header(piece: bytes, at: int, name: str, flags_there: int, encoding: str) -> int:
    """Returns how far behind the start of a local header its member's data start."""
    if len(piece) < at + LOCAL_HEADER_BYTES or not piece.startswith(_SIGNATURE, at):
        raise ValueError("it has no header where the directory says")
    _, flags, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(piece, at)
    at += LOCAL_HEADER_BYTES
    local = piece[at : at + name_bytes]
    # Most names are ASCII, and need not be decoded to be compared.
    if not (name.isascii() and local == name.encode()):
        _check_name(local, name, flags, flags_there, encoding)
    data_start: int = LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    return data_start


def _check_name(local: bytes, name: str, flags: int, flags_there: int, encoding: str) -> None:
    """Refuses a member whose own header has another name than the directory."""
    if flags_there & RENAMED_FLAG:
        # The directory has it in an extra field, which headers need not have.
        return
    decoded = decoded_name(local, flags, encoding)
    if name not in (decoded, decoded.replace("\\", "/")):
        raise ValueError(f"its own header calls it {decoded!r}")
