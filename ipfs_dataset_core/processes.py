"""State that belongs to one process: made at first use in each, never shared by fork, never pickled."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_creation = threading.RLock()


def _renew_lock() -> None:
    """Another thread of the parent may have held the lock at the moment of the fork."""
    global _creation
    _creation = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class ProcessLocal(Generic[T]):
    """A value that each process makes for itself: clients, threads, locks, caches.

    Args:
        make: Makes the value; must be picklable where the holder is pickled.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._owner: tuple[int, T] | None = None

    def get(self) -> T:
        """Returns this process's value."""
        owner = self._owner
        if owner is not None and owner[0] == os.getpid():
            return owner[1]
        with _creation:
            owner = self._owner
            if owner is None or owner[0] != os.getpid():
                owner = self._owner = (os.getpid(), self._make())
            return owner[1]

    def pop(self) -> T | None:
        """Forgets the value and returns it, None where this process made none."""
        owner, self._owner = self._owner, None
        return owner[1] if owner is not None and owner[0] == os.getpid() else None

    def __getstate__(self) -> Callable[[], T]:
        return self._make

    def __setstate__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._owner = None
