"""Files of a folder that will be opened next, looked up once, and fetched as far ahead as memory allows."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.ipld import DirectoryEntry

_MAX_KNOWN = 4096


class PrefetchQueue:
    """What paths lead to, of which some are on their way and others wait until those were opened.

    Args:
        budget: How many bytes may be on their way.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._known: dict[str, DirectoryEntry] = {}
        self._waiting: deque[DirectoryEntry] = deque()
        self._underway = 0
        self._files = 0
        self._lock = threading.Lock()

    def __contains__(self, path: object) -> bool:
        return path in self._known

    @property
    def has_waiting(self) -> bool:
        """Whether something is not on its way yet."""
        return bool(self._waiting)

    def add(self, found: Iterable[tuple[str, DirectoryEntry]]) -> None:
        """Adds paths in the order in which they will be opened."""
        found = list(found)  # which may take a while
        with self._lock:
            if len(self._known) > _MAX_KNOWN:  # of a reader that has gone elsewhere
                self._known.clear()
                self._waiting.clear()
                self._underway = self._files = 0
            for path, entry in found:
                self._known[path] = entry
                self._waiting.append(entry)

    def take(self, path: str) -> DirectoryEntry | None:
        """Returns what a path that is opened now leads to, None where that was not announced."""
        with self._lock:
            entry = self._known.pop(path, None)
            if entry is not None:
                self._underway -= entry.tsize
                self._files -= 1
            return entry

    def next_batch(self, most: int) -> list[DirectoryEntry]:
        """Returns what is to be asked for now; nothing until half of what was asked for is opened.

        Args:
            most: How many files may be on their way.
        """
        batch: list[DirectoryEntry] = []
        with self._lock:
            if self._underway > self._budget // 2 or self._files > most // 2:
                return batch
            while self._waiting and self._underway <= self._budget and self._files < most:
                batch.append(self._waiting.popleft())
                self._underway += batch[-1].tsize
                self._files += 1
        return batch
