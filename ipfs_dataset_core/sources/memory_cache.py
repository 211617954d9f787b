"""A cache of bytes in memory, from which the least recently used are removed first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class BytesCache:
    """A thread-safe LRU cache of bytes.

    Args:
        budget: Size in bytes of all values together; a larger value is not kept.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._used = 0
        self._values: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """Returns a value, None where it is not cached."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: bytes) -> None:
        """Caches a value, and removes the least recently used beyond the budget."""
        if len(value) > self._budget:
            return
        with self._lock:
            if old := self._values.pop(key, None):
                self._used -= len(old)
            self._values[key] = value
            self._used += len(value)
            while self._used > self._budget:
                self._used -= len(self._values.popitem(last=False)[1])

    def drop(self, key: Hashable) -> None:
        """Removes a value, where it is cached."""
        with self._lock:
            if old := self._values.pop(key, None):
                self._used -= len(old)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)
