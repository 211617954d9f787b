"""Limits for walking a directory: every entry counts, and entries below repeated blocks count as repeated.

A few verified blocks that link to each other can span more paths than can be walked: 25 directories, each
with two links to the next one, have 2**24 paths. Entries are therefore counted for each path that leads to
them, whether they are samples or not, and entries below a directory that was walked before are also counted
as repeated, all at once when the directory is entered again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ipfs_dataset_core.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import Limits

T = TypeVar("T")

# Directories, symlinks and hidden files are not samples, but a folder with few samples may contain some of
# them.
_ENTRIES_A_SAMPLE, _MORE_ENTRIES = 2, 1024
# Number of repeated entries allowed per distinct entry, regardless of the limit.
_REPEATED = 16
# Maximum number of entries of directories that are kept in case a directory is repeated.
_KEPT_ENTRIES = 1 << 16


class KnownEntry(NamedTuple):
    """An entry of a directory, with its kind: ``"file"``, ``"directory"``, ``"hamt"`` or ``"symlink"``."""

    name: str
    cid: CID
    kind: str
    # Size of its DAG in storage, as stated by the directory.
    tsize: int


class Visits:
    """Counts the entries of one walk, and remembers the entries of directories.

    Args:
        limits: `members`, `repeated_entries` and `name_bytes` are used.
        name: Name of the walked directory in errors.
    """

    def __init__(self, limits: Limits, name: str) -> None:
        self._limits = limits
        self._name = name
        # `_entries` counts each path, `_once` the entries of directories on their first visit.
        self._entries = self._once = self._repeated = self._characters = 0
        # Number of entries below each directory that was walked.
        self._totals: dict[Hashable, int] = {}
        # For each directory that is being walked, the number of entries counted before it.
        self._before: list[int] = []
        # Number of directories being walked that were entered below a repeated one, including that one.
        self._again = 0
        self._known: OrderedDict[CID, list[KnownEntry]] = OrderedDict()
        self._kept = 0

    def enter(self, directory: Hashable, entries: int) -> bool:
        """Enters a directory, and counts its entries.

        Args:
            directory: Its CID, or another identifier.
            entries: The number of its entries.

        Returns:
            Whether the directory is new.

        Raises:
            LimitError: There are too many entries.
        """
        total = self._totals.get(directory)
        if self._again or total is not None:
            if not self._again:
                self._entries += total or 0
                self._repeated += total or 0
            self._again += 1
        else:
            self._before.append(self._entries)
            self._entries += entries
            self._once += entries
        self._check()
        return total is None

    def counted(self, entries: Iterable[T]) -> Iterator[T]:
        """Yields and counts further entries of the new directory that was entered last.

        Raises:
            LimitError: There are too many entries.
        """
        for entry in entries:
            self._entries += 1
            self._once += 1
            self._check()
            yield entry

    def leave(self, directory: Hashable) -> None:
        """Leaves the directory that was entered last."""
        if self._again:
            self._again -= 1
        else:
            self._totals[directory] = self._entries - self._before.pop()

    def path(self, path: str) -> None:
        """Counts the characters of a path.

        Raises:
            LimitError: All paths together are too long.
        """
        self._characters += len(path)
        if self._characters > self._limits.name_bytes:
            self._limits.check("name_bytes", self._characters, f"the paths below {self._name!r}")

    def known(self, directory: CID) -> list[KnownEntry] | None:
        """Returns the entries of a directory that was walked before; None if they were not kept."""
        found = self._known.get(directory)
        if found is not None:
            self._known.move_to_end(directory)
        return found

    @staticmethod
    def keeps(count: int) -> bool:
        """Returns whether the entries of a directory with `count` entries may be kept."""
        return count <= _KEPT_ENTRIES // 8

    def keep(self, directory: CID, entries: list[KnownEntry]) -> None:
        """Keeps the entries of a directory in case it is repeated, unless there are too many."""
        if directory in self._known or not self.keeps(len(entries)):
            return
        self._known[directory] = entries
        # Plus one per directory, because there may be many without entries.
        self._kept += len(entries) + 1
        while self._kept > _KEPT_ENTRIES:
            self._kept -= len(self._known.popitem(last=False)[1]) + 1

    def _check(self) -> None:
        limits = self._limits
        if self._repeated > max(limits.repeated_entries, _REPEATED * self._once):
            raise LimitError(
                f"{self._name!r} leads to the same directories again and again: {self._repeated} "
                f"entries are below directories that were listed before, but only {self._once} are "
                f"distinct, and the limit is {limits.repeated_entries}. If you trust it, give "
                "limits=Limits(repeated_entries=…)"
            )
        if self._entries > _ENTRIES_A_SAMPLE * limits.members + _MORE_ENTRIES:
            raise LimitError(
                f"{self._name!r} has more than {self._entries - 1} entries, directories and hidden files "
                f"included, too many for the limit of {limits.members} members: if you trust it, give "
                "limits=Limits(members=…)"
            )
