"""What follows the end mark of a TAR archive: padding, another archive, or other data."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.archives.compression import (
    compression_of,
    other_format,
    unreadable_compression,
)
from ipfs_dataset_plugins.tar.headers import BLOCK, is_header

if TYPE_CHECKING:
    from ipfs_dataset_plugins.archives.buffered import BufferedFile

_PIECE_BYTES = 1 << 20
# Number of bytes of other data that are searched for a header.
_MAX_SEARCHED_BYTES = 8 << 20
_NOT_ZERO = re.compile(rb"[^\0]")
_MAGIC, _MAGIC_OFFSET = b"ustar", 257
# The checksum field; nothing else identifies headers without the magic, of the v7 dialect.
_CHECKSUM = re.compile(rb"[ ]{0,2}[0-7]{3,7}[ \0]")
_CHECKSUM_OFFSET = 148


def next_archive(
    archive: BufferedFile, mark: int, *, ignore_zeros: bool, most_zeros: float
) -> int | None:
    """Returns the offset of the archive that follows an end mark; None if only padding follows.

    An archive ends with two blocks of zeros, and is padded with more of them. Some writers leave other bytes
    in their last record; these cause a warning and are ignored.

    Args:
        archive: The archive.
        mark: The offset of its first block of zeros.
        ignore_zeros: Whether another archive may follow.
        most_zeros: The largest number of zero bytes that may follow.

    Raises:
        FormatError: Another archive follows although `ignore_zeros` is false, or data that cannot be read
            follow, or there are other bytes and the archive is empty.
        LimitError: More zeros follow.
    """
    at = _skip_zeros(archive, mark + BLOCK, most_zeros)
    if at is None:
        return None
    block = archive.read(at, BLOCK)
    if is_header(block):
        if ignore_zeros:
            return at
        raise _concatenated(archive.name, mark, at)
    name = archive.name
    kind = compression_of(block) or unreadable_compression(block)
    what = f"data compressed by {kind}" if kind else other_format(block)
    if what is not None:
        raise FormatError(
            f"{name!r} has {what} at byte {at}, after its end mark at byte {mark}. Publish them as "
            "separate objects."
        )
    if (later := _find_header(archive, at)) is not None:
        if not ignore_zeros:
            raise _concatenated(name, mark, later)
        raise FormatError(
            f"{name!r} is damaged: at byte {at}, after the end mark at byte {mark}, there are "
            f"bytes that are not a header, and a header follows at byte {later}. Publish it again "
            "from its parts."
        )
    if not mark:
        raise FormatError(
            f"{name!r} is not a TAR archive, or damaged: it begins with zeros, and the bytes that follow "
            f"them at byte {at} are not a header."
        )
    warnings.warn(
        f"{name!r} has bytes after its end mark, from byte {at} on, that are not an archive. They are "
        "ignored; nothing is missing unless they were meant to be data.",
        stacklevel=2,
    )
    return None


def _concatenated(name: str, mark: int, at: int) -> FormatError:
    return FormatError(
        f"{name!r} has another TAR header at byte {at}, after its end mark at byte {mark}, as in "
        "concatenated archives. To continue there as tar --ignore-zeros does, give the object the format "
        "TarReader(ignore_zeros=True), of ipfs_dataset_plugins.tar; or publish the archives separately."
    )


def _skip_zeros(archive: BufferedFile, start: int, most_zeros: float) -> int | None:
    """Returns the offset of the first block, counted from `start`, that is not all zeros; None at the end."""
    position = start
    while piece := archive.read(position, _PIECE_BYTES):
        if used := _NOT_ZERO.search(piece):
            at = position + used.start()
            return at - (at - start) % BLOCK
        position += len(piece)
        if len(piece) < _PIECE_BYTES:
            break
        if position - start > most_zeros:
            raise LimitError(
                f"{archive.name!r} has more than {most_zeros} zero bytes after its end mark: if you "
                "trust it, give limits=Limits(expansion_bytes=…)"
            )
    return None


def _find_header(archive: BufferedFile, start: int) -> int | None:
    """Returns the offset of a header among other data; None if there is none.

    Headers with the magic, of the ustar and GNU dialects, are found at any offset, others at those of blocks.
    """
    position = start
    while position - start < _MAX_SEARCHED_BYTES:
        piece = archive.read(position, _PIECE_BYTES + BLOCK)
        for at in _header_offsets(piece):
            if is_header(piece[at : at + BLOCK]):
                return position + at
        if len(piece) < _PIECE_BYTES + BLOCK:
            break
        position += _PIECE_BYTES
    return None


def _header_offsets(piece: bytes) -> list[int]:
    """Returns the offsets at which a header is possible, in ascending order."""
    last = len(piece) - BLOCK
    found = [
        at for at in range(0, last + 1, BLOCK) if _CHECKSUM.match(piece, at + _CHECKSUM_OFFSET)
    ]
    at = piece.find(_MAGIC, _MAGIC_OFFSET)
    while 0 <= at - _MAGIC_OFFSET <= last:
        if _CHECKSUM.match(piece, at - _MAGIC_OFFSET + _CHECKSUM_OFFSET):
            found.append(at - _MAGIC_OFFSET)
        at = piece.find(_MAGIC, at + 1)
    return sorted(found)
