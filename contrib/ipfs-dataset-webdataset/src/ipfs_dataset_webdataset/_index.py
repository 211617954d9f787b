"""Which members of an archive make up each sample: eight bytes a sample, beside the archive's own index."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import MemberIndex

if TYPE_CHECKING:
    from ipfs_dataset_core import Span


def split_name(name: str) -> tuple[str, str] | None:
    """Returns the key of a member's sample and the member's field, None where it belongs to no sample.

    The key is the path up to the first dot of its last part; the field is what follows, in lower case.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, field = base.partition(".")
    return (folder + slash + stem, field.lower()) if stem and dot else None


class SampleIndex(MemberIndex):
    """Where each sample of an archive lies: members of one key that follow each other are a sample.

    Args:
        members: The index of the archive.
    """

    def __init__(self, members: MemberIndex) -> None:
        self.members = members
        self._firsts = array("Q")
        last = None
        for position in range(len(members)):
            found = split_name(members.name(position))
            if found is not None and found[0] != last:
                last = found[0]
                self._firsts.append(position)

    def __len__(self) -> int:
        return len(self._firsts)

    def name(self, position: int) -> str:
        found = split_name(self.members.name(self._firsts[position]))
        assert found is not None, "samples begin with a member that has a key"
        return found[0]

    def span(self, position: int) -> Span:
        spans = [self.members.span(member) for member, _ in self.fields(position)]
        return min(start for start, _ in spans), max(stop for _, stop in spans)

    def fields(self, position: int) -> list[tuple[int, str]]:
        """Returns the members of a sample: the number of each in the archive, and its field."""
        following = position + 1
        stop = self._firsts[following] if following < len(self) else len(self.members)
        names = ((n, split_name(self.members.name(n))) for n in range(self._firsts[position], stop))
        return [(number, found[1]) for number, found in names if found is not None]
