"""The members of a TAR archive, header by header; data are left to whoever wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.tar import extensions
from ipfs_dataset_plugins.tar.headers import (
    BLOCK,
    OLD_SPARSE,
    has_data,
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
_ZEROS = bytes(BLOCK)


class Scan:
    """Walks over the headers of an archive.

    Args:
        archive: May be replaced between two members, by one that reads in larger pieces.
    """

    def __init__(self, archive: Bytes) -> None:
        self.archive = archive
        self._shared: dict[bytes, bytes] = {}

    def members(self) -> Iterator[Member]:
        """Yields every member, of whatever kind, up to the end mark or the end of the file.

        Raises:
            FormatError: The archive is damaged or cut off, or not a TAR archive.
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
        """Returns the member whose first header is at `start`, None at the end; raises like `members`."""
        block = self._block(start)
        if block is None:
            return None
        header = self._parse(block, start)
        if header.kind in _RARE_KINDS or self._shared:
            return self._rare(start, header, block)
        name, kind, size, link = header
        data = start + BLOCK
        return Member(
            start, name, kind, data, size, data + padded(size) if has_data(kind) else data, link
        )

    def _block(self, start: int) -> bytes | None:
        """Returns the header block at `start`, None at the end of the archive."""
        block = self.archive.read(start, BLOCK)
        if block == _ZEROS or (start and not any(block)):
            return None
        if len(block) < BLOCK:
            if not start:
                raise FormatError(f"{self.archive.name!r} is too short for a TAR archive.")
            raise cut_off(self.archive.name, start + BLOCK)
        return block

    def _parse(self, block: bytes, start: int) -> Header:
        try:
            return parse_header(block)
        except ValueError as error:
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
        if block is None:
            raise ValueError("the one before it announces a member, but none follows")
        return block

    def _damaged(self, start: int, reason: object) -> FormatError:
        return FormatError(
            f"{self.archive.name!r} is not a TAR archive, or damaged: the header at byte {start} "
            f"cannot be used: {reason}."
        )
