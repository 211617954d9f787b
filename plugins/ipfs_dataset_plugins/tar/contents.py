"""The contents of TAR members: what counts as a sample, where its bytes are, and reading them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.archives.member_names import check_name, is_junk
from ipfs_dataset_plugins.tar.headers import CONTINUED, HARD_LINK, is_file
from ipfs_dataset_plugins.tar.links import Links
from ipfs_dataset_plugins.tar.members import Scan
from ipfs_dataset_plugins.tar.sparse import assemble

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import Limits, Span
    from ipfs_dataset_plugins.tar.member import Bytes, Member
    from ipfs_dataset_plugins.tar.sparse import Parts


class Contents:
    """Finds and reads the contents of one archive's members, asked for in order.

    Attributes:
        limit: The largest member, in bytes.

    Args:
        name: What errors call the archive.
        again: Opens the archive once more, for what hard links point to.
        limits: See above, and how much larger than what is stored a member may be.
        scan: Makes what walks over the headers of an archive.
    """

    def __init__(
        self,
        name: str,
        again: Callable[[], Bytes],
        limits: Limits,
        scan: Callable[[Bytes], Scan] = Scan,
    ) -> None:
        self._name = name
        self._again = again
        self._limits = limits
        self.limit = limits.member_bytes
        self._links = Links(name, lambda: scan(again()).members())
        self._earlier: Bytes | None = None

    def find(self, member: Member) -> Member | None:
        """Returns the member that holds a sample's content, None where a member is no sample.

        Raises:
            FormatError: Its name is unsafe, or it links to nothing.
        """
        if not is_file(member.kind) and member.kind != HARD_LINK:
            if member.kind == CONTINUED:
                raise FormatError(
                    f"{self._name!r} is one volume of several: its member {member.name!r} began in "
                    "another one. "
                    "Publish the archive in one piece."
                )
            return None
        if is_junk(member.name):
            return None
        check_name(self._name, member.name)
        return self._links.target(member) if member.kind == HARD_LINK else member

    def read(self, archive: Bytes, member: Member) -> bytes | None:
        """Returns a sample's content, read from `archive` on the way; None as from `find`.

        Raises:
            FormatError: As from `find`, or the archive is cut off.
            LimitError: It is too large.
        """
        content = self.find(member)
        if content is None:
            return None
        if content is not member:
            if self._earlier is None:
                self._earlier = self._again()
            archive = self._earlier
        span = content.data, content.data + content.stored
        return read_content(
            archive, member.name, span, size=content.size, parts=content.parts, limits=self._limits
        )


def read_content(
    archive: Bytes, name: str, span: Span, *, size: int, parts: Parts | None, limits: Limits
) -> bytes:
    """Reads a member's content, in one read.

    Raises:
        FormatError: The archive is cut off.
        LimitError: The content is larger than the limit, or a sparse or compressed one than what is stored
            of it; of what is declared to be, nothing was read.
    """
    if size > limits.member_bytes:
        limits.check("member_bytes", size, f"Member {name!r} of {archive.name!r}")
    start, stop = span
    if parts is not None:
        limits.check_expansion(stop - start, size, f"Sparse member {name!r} of {archive.name!r}")
    try:
        data = archive.read(start, stop - start)
    except LimitError as error:
        raise LimitError(f"Member {name!r} cannot be read: {error}") from error
    if len(data) < stop - start:
        raise cut_off(archive.name, stop)
    return data if parts is None else assemble(data, parts, size)
