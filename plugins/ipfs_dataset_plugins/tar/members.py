"""The members of a TAR archive, header by header; data are left to whoever wants them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.archives.compression import other_format, unreadable_compression
from ipfs_dataset_plugins.tar import extensions
from ipfs_dataset_plugins.tar.end_mark import next_archive
from ipfs_dataset_plugins.tar.headers import (
    BLOCK,
    HARD_LINK,
    OLD_SPARSE,
    REGULAR,
    has_data,
    is_header,
    padded,
    parse_header,
)
from ipfs_dataset_plugins.tar.member import Blocks, Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_plugins.tar.headers import Header
    from ipfs_dataset_plugins.tar.member import Bytes

MAX_EXTENSION_BYTES = 1 << 20

_RARE_KINDS = extensions.KINDS | {OLD_SPARSE}


class Scan:
    """Walks over the headers of an archive.

    Args:
        archive: May be replaced between two members, by one that reads in larger pieces.
        ignore_zeros: Whether to go on behind end marks, where archives were put one behind the other.
        most_zeros: How many zeros may follow an end mark.
    """

    def __init__(
        self, archive: Bytes, *, ignore_zeros: bool = False, most_zeros: float = math.inf
    ) -> None:
        self.archive = archive
        self._ignore_zeros = ignore_zeros
        self._most_zeros = most_zeros
        self._shared: dict[bytes, bytes] = {}

    def members(self) -> Iterator[Member]:
        """Yields every member, of whatever kind, up to the last end mark or the end of the file.

        Raises:
            FormatError: The archive is damaged or cut off, or not a TAR archive, or another one follows it.
            LimitError: A header is unreasonably large.
        """
        start = 0
        while (member := self.member(start)) is not None:
            yield member
            start = member.stop

    @property
    def extended(self) -> bool:
        """Whether a header seen so far changes what those of all later members say."""
        return bool(self._shared)

    def member(self, start: int) -> Member | None:
        """Returns the member whose first header is at `start`, None at the end; raises like `members`.

        Where end marks are ignored, and one is at `start`, it is the first member behind it.
        """
        block = self._block(start)
        if not any(block):
            behind = self._behind_end_mark(start) if len(block) == BLOCK else None
            if behind is None:
                return None
            start, block = behind, self.archive.read(behind, BLOCK)
        header = self._parse(block, start)
        if header.kind in _RARE_KINDS or self._shared:
            return self._rare(start, header, block)
        name, kind, size, link = header
        data = start + BLOCK
        if kind == HARD_LINK and size and self._is_content(data):
            kind = REGULAR
        return Member(
            start, name, kind, data, size, data + padded(size) if has_data(kind) else data, link
        )

    def _behind_end_mark(self, start: int) -> int | None:
        self._shared = {}  # what global headers of one archive say is not about the next one
        return next_archive(
            self.archive, start, ignore_zeros=self._ignore_zeros, most_zeros=self._most_zeros
        )

    def _is_content(self, start: int) -> bool:
        """Tells whether the content of a hard link follows its header, as POSIX allows since 2001.

        Older writers give links a size as well, but no content, and no field tells who wrote it. So what
        follows is looked at, as libarchive does: a header or the end mark means that there is no content.
        """
        block = self.archive.read(start, BLOCK)
        return len(block) == BLOCK and any(block) and not is_header(block)

    def _block(self, start: int) -> bytes:
        """Returns the header block at `start`; zeros at the end mark, which may be cut off or missing."""
        block = self.archive.read(start, BLOCK)
        if len(block) < BLOCK and (any(block) or not start):
            if not start:
                raise FormatError(
                    f"{self.archive.name!r} is {_other(block) or 'too short for a TAR archive.'}"
                )
            raise cut_off(self.archive.name, start + BLOCK)
        return block

    def _parse(self, block: bytes, start: int) -> Header:
        try:
            return parse_header(block)
        except ValueError as error:
            if not start and (other := _other(block)) is not None:
                raise FormatError(f"{self.archive.name!r} is {other}") from None
            raise self._damaged(start, error) from None

    def _rare(self, start: int, header: Header, block: bytes) -> Member:
        """Returns a member with headers in front of its own, or with a map of what is stored."""
        extended = extensions.Extensions(self._shared)
        at = start
        try:
            while header.kind in extensions.KINDS:
                payload = self._payload(at, header)
                extended.note(header.kind, payload)
                at += BLOCK + len(payload)
                block = self._announced(at)
                header = parse_header(block)
            return extended.describe(start, header, block, Blocks(self.archive, at + BLOCK))
        except FormatError:
            raise
        except ValueError as error:
            raise self._damaged(at, error) from None

    def _payload(self, start: int, header: Header) -> bytes:
        if header.size > MAX_EXTENSION_BYTES:
            raise LimitError(
                f"{self.archive.name!r} has a TAR header of {header.size} bytes at byte {start}, "
                f"more than the limit of {MAX_EXTENSION_BYTES}."
            )
        size = padded(header.size)
        payload = self.archive.read(start + BLOCK, size)
        if len(payload) < size:
            raise cut_off(self.archive.name, start + BLOCK + size)
        return payload

    def _announced(self, start: int) -> bytes:
        block = self._block(start)
        if not any(block):
            raise ValueError("the one before it announces a member, but none follows")
        return block

    def _damaged(self, start: int, reason: object) -> FormatError:
        return FormatError(
            f"{self.archive.name!r} is not a TAR archive, or damaged: the header at byte {start} "
            f"cannot be used: {reason}."
        )


def _other(head: bytes) -> str | None:
    """Returns what a file is that is no TAR archive, None where its first bytes do not tell."""
    if (compression := unreadable_compression(head)) is not None:
        return (
            f"compressed by {compression}, which is not supported. Publish it as a plain .tar, or "
            "compressed by gzip, "
            "bzip2, xz or Zstandard."
        )
    if (other := other_format(head)) is not None:
        return f"not a TAR archive but {other}. Choose another format for it."
    return None
