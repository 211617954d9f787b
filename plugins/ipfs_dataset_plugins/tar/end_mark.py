"""What is behind the end mark of a TAR archive: padding, another archive, or bytes that are neither."""

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
    from ipfs_dataset_plugins.tar.member import Bytes

_PIECE_BYTES = 1 << 20
# Where bytes that are no archive follow, so many are searched for a header that comes later.
_MOST_SEARCHED = 8 << 20
_NOT_ZERO = re.compile(rb"[^\0]")
_MAGIC, _MAGIC_AT = b"ustar", 257
# The field of a checksum: old headers have nothing else that tells them.
_CHECKSUM = re.compile(rb"[ ]{0,2}[0-7]{3,7}[ \0]")
_CHECKSUM_AT = 148


def next_archive(archive: Bytes, mark: int, *, ignore_zeros: bool, most_zeros: float) -> int | None:
    """Returns where the next archive starts behind an end mark, None where there is only padding.

    Archives end with two blocks of zeros, and are padded with more of them. Bytes that are neither zeros nor
    an archive, which some writers leave in their last record, are warned of and ignored.

    Args:
        archive: The archive.
        mark: Where its first block of zeros is.
        ignore_zeros: Whether to go on with what follows them.
        most_zeros: How many zeros may follow.

    Raises:
        FormatError: An archive follows and is not asked for, or what follows it cannot be read, or there are
            other bytes and no member was in front of the mark.
        LimitError: More zeros follow.
    """
    at = _after_zeros(archive, mark + BLOCK, most_zeros)
    if at is None:
        return None
    block = archive.read(at, BLOCK)
    if is_header(block):
        if ignore_zeros:
            return at
        raise _continued(archive.name, mark, at)
    name = archive.name
    kind = compression_of(block) or unreadable_compression(block)
    what = f"data compressed by {kind}" if kind else other_format(block)
    if what is not None:
        raise FormatError(
            f"{name!r} has {what} at byte {at}, behind its end mark at byte {mark}. Publish them as "
            "separate objects."
        )
    if (later := _later_header(archive, at)) is not None:
        if not ignore_zeros:
            raise _continued(name, mark, later)
        raise FormatError(
            f"{name!r} is damaged: at byte {at}, behind the end mark at byte {mark}, are bytes that are no "
            f"header, and one follows at byte {later}. Publish it again from its parts."
        )
    if not mark:
        raise FormatError(
            f"{name!r} is not a TAR archive, or damaged: it begins with zeros, and at byte {at} come "
            "bytes that are "
            "no header."
        )
    warnings.warn(
        f"{name!r} has bytes behind its end mark, from byte {at} on, that are no archive. They are "
        "ignored; nothing is "
        "missing unless they were meant to be data.",
        stacklevel=2,
    )
    return None


def _continued(name: str, mark: int, at: int) -> FormatError:
    return FormatError(
        f"{name!r} has another TAR header at byte {at}, behind its end mark at byte {mark}, as where "
        "archives were put one "
        "behind the other. To read on as tar --ignore-zeros does, give the object the format "
        "TarReader(ignore_zeros=True), of ipfs_dataset_plugins.tar; or publish the archives separately."
    )


def _after_zeros(archive: Bytes, start: int, most_zeros: float) -> int | None:
    """Returns the block, counted from `start`, that has the first byte which is not zero."""
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
                f"{archive.name!r} has more than {most_zeros} zero bytes behind its end mark: where "
                "you trust it, give "
                "limits=Limits(expansion_bytes=…)"
            )
    return None


def _later_header(archive: Bytes, start: int) -> int | None:
    """Returns where a header is among bytes that are none; ustar and GNU ones need not start with a block."""
    position = start
    while position - start < _MOST_SEARCHED:
        piece = archive.read(position, _PIECE_BYTES + BLOCK)
        for at in _candidates(piece):
            if is_header(piece[at : at + BLOCK]):
                return position + at
        if len(piece) < _PIECE_BYTES + BLOCK:
            break
        position += _PIECE_BYTES
    return None


def _candidates(piece: bytes) -> list[int]:
    last = len(piece) - BLOCK
    found = [at for at in range(0, last + 1, BLOCK) if _CHECKSUM.match(piece, at + _CHECKSUM_AT)]
    at = piece.find(_MAGIC, _MAGIC_AT)
    while 0 <= at - _MAGIC_AT <= last:
        if _CHECKSUM.match(piece, at - _MAGIC_AT + _CHECKSUM_AT):
            found.append(at - _MAGIC_AT)
        at = piece.find(_MAGIC, at + 1)
    return sorted(found)
