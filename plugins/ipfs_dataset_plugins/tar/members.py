"""The members of a TAR archive: scans the headers, and finds the member with the content of each sample."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.archives.compression import other_format, unreadable_compression
from ipfs_dataset_plugins.archives.member_names import check_name, is_junk
from ipfs_dataset_plugins.archives.repetition import RepetitionCheck
from ipfs_dataset_plugins.tar import extensions
from ipfs_dataset_plugins.tar.end_mark import next_archive
from ipfs_dataset_plugins.tar.headers import (
    BLOCK,
    CONTINUED,
    HARD_LINK,
    OLD_SPARSE,
    REGULAR,
    Member,
    has_data,
    is_file,
    is_header,
    padded,
    parse_header,
)
from ipfs_dataset_plugins.tar.sparse import MapBlocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Limits
    from ipfs_dataset_plugins.archives.buffered import BufferedFile
    from ipfs_dataset_plugins.tar.headers import Header

# Nothing else distinguishes the first volume from an archive that was cut off.
VOLUMES = "If it is the first of several volumes (tar -M), publish the archive in one piece."
_MAX_EXTENSION_BYTES = 1 << 20
# Tools write up to four: global and own pax headers, long name, long link.
_MAX_EXTENSIONS = 100
_MAX_NAMES_BEFORE_LINKS = 1_000_000
_UNCOMMON_KINDS = extensions.KINDS | {OLD_SPARSE}


class MemberScanner:
    """Finds the members of an archive by their headers, in the order of the archive; it reads no data.

    Attributes:
        archive: The archive. Callers may replace it between two members, by one with another buffer size.
        repetition: Counts the headers. Callers add those that they parse themselves.

    Args:
        archive: See above.
        limits: Limits for what is repeated, and for the number of zero bytes that may follow an end mark.
        ignore_zeros: Whether to continue after end marks, for archives that were concatenated.
    """

    def __init__(
        self, archive: BufferedFile, limits: Limits, *, ignore_zeros: bool = False
    ) -> None:
        self.archive = archive
        self.repetition = RepetitionCheck(archive, limits)
        self._ignore_zeros = ignore_zeros
        # A few compressed bytes, or blocks that are linked repeatedly, may stand for any number of headers.
        self._most_zeros = limits.expansion_bytes
        self._global_fields: dict[bytes, bytes] = {}

    @property
    def has_global_fields(self) -> bool:
        """Whether a global header that was scanned changes the meaning of all later headers."""
        return bool(self._global_fields)

    def members(self) -> Iterator[Member]:
        """Yields every member of any kind, up to the last end mark or the end of the file.

        Raises:
            FormatError: The archive is damaged or cut off, it is not a TAR archive, or another one follows.
            LimitError: A header is unreasonably large.
        """
        start = 0
        while (member := self.member(start)) is not None:
            yield member
            start = member.stop

    def member(self, start: int) -> Member | None:
        """Returns the member whose first header is at `start`; None at the end of the archive.

        At an end mark that is ignored, this is the first member after it.

        Raises:
            FormatError: As for `members`.
            LimitError: As for `members`.
        """
        self.repetition.add(1, start)
        block = self._read_block(start)
        if not any(block):
            following = self._after_end_mark(start) if len(block) == BLOCK else None
            if following is None:
                return None
            start, block = following, self.archive.read(following, BLOCK)
        header = self._parse(block, start)
        if header.kind in _UNCOMMON_KINDS or self._global_fields:
            return self._extended_member(start, header, block)
        name, kind, size, link = header
        data = start + BLOCK
        if kind == HARD_LINK and size and self._is_content(data):
            kind = REGULAR
        return Member(
            start, name, kind, data, size, data + padded(size) if has_data(kind) else data, link
        )

    def first_from(self, start: int) -> int | None:
        """Returns the offset of the first member at or after `start`; None if there is none.

        Raises:
            FormatError: As for `members`.
            LimitError: As for `members`.
        """
        position = 0
        while position < start:
            member = self.member(position)
            if member is None:
                return None
            if member.start >= start:  # after an end mark that is ignored
                return member.start
            position = member.stop
        return position

    def _after_end_mark(self, start: int) -> int | None:
        self._global_fields = {}  # global headers apply to one archive, not to the next one
        return next_archive(
            self.archive, start, ignore_zeros=self._ignore_zeros, most_zeros=self._most_zeros
        )

    def _is_content(self, start: int) -> bool:
        """Returns whether the content of a hard link follows its header, as POSIX allows since 2001.

        Older writers store a size for links, too, but no content, and no field identifies the writer.
        Therefore, as in libarchive, the next block decides: if it is a header or the end mark, there is no
        content.
        """
        block = self.archive.read(start, BLOCK)
        return len(block) == BLOCK and any(block) and not is_header(block)

    def _read_block(self, start: int) -> bytes:
        """Returns the header block at `start`; zeros at the end mark, which may be cut off or missing."""
        block = self.archive.read(start, BLOCK)
        if len(block) < BLOCK and (any(block) or not start):
            if not start:
                raise FormatError(
                    f"{self.archive.name!r} is {_other_format(block) or 'too short for a TAR archive.'}"
                )
            raise cut_off(self.archive.name, start + BLOCK)
        return block

    def _parse(self, block: bytes, start: int) -> Header:
        try:
            return parse_header(block)
        except ValueError as error:
            if not start and (other := _other_format(block)) is not None:
                raise FormatError(f"{self.archive.name!r} is {other}") from None
            raise self._damaged(start, error) from None

    def _extended_member(self, start: int, header: Header, block: bytes) -> Member:
        """Returns a member with extension headers in front of its own header, or with a sparse map."""
        extended = extensions.Extensions(self._global_fields)
        position, count = start, 0
        try:
            while header.kind in extensions.KINDS:
                self.repetition.add(1, position)
                count += 1
                if count > _MAX_EXTENSIONS:
                    reason = f"there are more than {_MAX_EXTENSIONS} in front of one member"
                    raise self._damaged(position, reason)
                payload = self._payload(position, header)
                extended.add(header.kind, payload)
                position += BLOCK + len(payload)
                block = self._extended_header(position)
                header = parse_header(block)
            map_blocks = MapBlocks(self.archive, position + BLOCK)
            return extended.member(start, header, block, map_blocks)
        except FormatError:
            raise
        except ValueError as error:
            raise self._damaged(position, error) from None

    def _extended_header(self, start: int) -> bytes:
        block = self._read_block(start)
        if not any(block):
            raise ValueError("the one before it extends a header, but none follows")
        return block

    def _payload(self, start: int, header: Header) -> bytes:
        if header.size > _MAX_EXTENSION_BYTES:
            raise LimitError(
                f"{self.archive.name!r} has a TAR header of {header.size} bytes at byte {start}, "
                f"more than the limit of {_MAX_EXTENSION_BYTES}."
            )
        size = padded(header.size)
        payload = self.archive.read(start + BLOCK, size)
        if len(payload) < size:
            raise cut_off(self.archive.name, start + BLOCK + size, VOLUMES)
        return payload

    def _damaged(self, start: int, reason: object) -> FormatError:
        return FormatError(
            f"{self.archive.name!r} is not a TAR archive, or damaged: the header at byte {start} "
            f"cannot be used: {reason}."
        )


class SampleMembers:
    """Decides which members are samples, and finds the member that holds the content of each.

    That is another member only for hard links. Members are passed in the order of the archive.

    Args:
        scanner: A scanner of its own for the same archive, to find what hard links refer to. It is not used
            before the first hard link, so that other archives are scanned only once.
    """

    def __init__(self, scanner: MemberScanner) -> None:
        self._name = scanner.archive.name
        self._earlier = scanner.members()
        self._files: dict[str, Member | None] = {}

    def content(self, member: Member) -> Member | None:
        """Returns the member that holds the content of a sample; None if `member` is not a sample.

        Raises:
            FormatError: Its name is unsafe, it is a hard link to a missing member, or it continues a file of
                another volume.
            LimitError: It is a hard link behind more than a million members.
        """
        if not is_file(member.kind) and member.kind != HARD_LINK:
            if member.kind == CONTINUED:
                raise FormatError(
                    f"{self._name!r} is one volume of several: its member {member.name!r} begins in "
                    "another one. Publish the archive in one piece."
                )
            return None
        if is_junk(member.name):
            return None
        check_name(self._name, member.name)
        return self._link_target(member) if member.kind == HARD_LINK else member

    def _link_target(self, link: Member) -> Member | None:
        """Returns the regular file that a hard link refers to; None if it refers to another kind."""
        while (member := next(self._earlier, link)).start < link.start:
            self._files[_key(member.name)] = self._resolve(member)
            if len(self._files) > _MAX_NAMES_BEFORE_LINKS:
                raise LimitError(
                    f"{self._name!r} has hard links after more than {_MAX_NAMES_BEFORE_LINKS} "
                    "members. Pack it without hard links."
                )
        self._files[_key(link.name)] = target = self._resolve(link)
        return target

    def _resolve(self, member: Member) -> Member | None:
        if is_file(member.kind):
            return member
        if member.kind != HARD_LINK:
            return None
        try:
            return self._files[_key(member.link)]
        except KeyError:
            raise FormatError(
                f"{self._name!r} is damaged: member {member.name!r} is a hard link to "
                f"{member.link!r}, which is not in front of it."
            ) from None


def _key(name: str) -> str:
    return posixpath.normpath(name)


def _other_format(head: bytes) -> str | None:
    """Returns what a file is that is not a TAR archive; None if its first bytes do not show it."""
    if (compression := unreadable_compression(head)) is not None:
        return (
            f"compressed by {compression}, which is not supported. Publish it as a plain .tar, or "
            "compressed by gzip, bzip2, xz or Zstandard."
        )
    if (other := other_format(head)) is not None:
        return f"not a TAR archive but {other}. Choose another format for it."
    return None
