"""What hard links point to: earlier members, found by walking over the headers once more."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.tar.headers import HARD_LINK, is_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset_plugins.tar.member import Member

_MAX_NAMES = 1_000_000


class Links:
    """Resolves the hard links of one archive, asked for in the order of the archive.

    An archive without hard links pays nothing: only the first one starts the second walk.

    Args:
        archive: What errors call the archive.
        walk: Starts the second walk.
    """

    def __init__(self, archive: str, walk: Callable[[], Iterator[Member]]) -> None:
        self._archive = archive
        self._walk = walk
        self._members: Iterator[Member] | None = None
        self._seen: dict[str, Member | None] = {}

    def target(self, link: Member) -> Member | None:
        """Returns the regular member that a link leads to, None where it leads to another kind.

        Raises:
            FormatError: There is nothing of that name in front of the link.
            LimitError: There are more than a million names in front of it.
        """
        if self._members is None:
            self._members = self._walk()
        while (member := next(self._members, link)).start < link.start:
            self._seen[_key(member.name)] = self._resolved(member)
            if len(self._seen) > _MAX_NAMES:
                raise LimitError(
                    f"{self._archive!r} has hard links behind more than {_MAX_NAMES} members. "
                    "Pack it without hard links."
                )
        self._seen[_key(link.name)] = target = self._resolved(link)
        return target

    def _resolved(self, member: Member) -> Member | None:
        if is_file(member.kind):
            return member
        if member.kind != HARD_LINK:
            return None
        try:
            return self._seen[_key(member.link)]
        except KeyError:
            raise FormatError(
                f"{self._archive!r} is damaged: member {member.name!r} is a hard link to "
                f"{member.link!r}, which is not in front of it."
            ) from None


def _key(name: str) -> str:
    return posixpath.normpath(name)
