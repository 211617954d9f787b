"""The index of a TAR archive: 24 bytes a member, plus its name."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import MemberIndex, NameTable

if TYPE_CHECKING:
    from ipfs_dataset_core import Limits, Span
    from ipfs_dataset_plugins._tar_member import Member
    from ipfs_dataset_plugins._tar_sparse import Parts


class TarIndex(MemberIndex):
    """Where each sample of an uncompressed archive lies.

    Args:
        limits: How many samples, and how long their names.
    """

    def __init__(self, limits: Limits) -> None:
        self._names = NameTable(limits=limits)
        self._starts = array("Q")
        self._sizes = array("Q")
        self._sparse: dict[int, tuple[int, Parts]] = {}

    def append(self, name: str, content: Member) -> None:
        """Adds a sample: its name, and the member that holds its content."""
        if content.parts is not None:
            self._sparse[len(self)] = content.size, content.parts
        self._names.append(name)
        self._starts.append(content.data)
        self._sizes.append(content.stored)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> str:
        return self._names[position]

    def span(self, position: int) -> Span:
        start = self._starts[position]
        return start, start + self._sizes[position]

    def content(self, position: int) -> tuple[int, Parts | None]:
        """Returns the size of a sample and, where it is sparse, where its stored parts belong."""
        return self._sparse.get(position) or (self._sizes[position], None)
