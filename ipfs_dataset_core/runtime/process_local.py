"""State that belongs to one process: made at first use, never shared through a fork, never pickled."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_creation = threading.Lock()
# Stands for this process: a system call for its number takes longer than the rest of `get`.
_here = object()


def _begin_anew() -> None:
    """Replaces the lock, which another thread of the parent may have held at the moment of the fork."""
    global _creation, _here  # noqa: PLW0603 - both are replaced, not shared
    _creation = threading.Lock()
    _here = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class ProcessLocal(Generic[T]):
    """A value that each process makes for itself: clients, threads, locks, caches. Thread-safe.

    Args:
        make: Makes the value; has to be picklable where the holder is pickled.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._slot: _Slot[T] | None = None

    def get(self) -> T:
        """Returns this process's value."""
        slot = self._slot
        if slot is None or slot.process is not _here:
            slot = self._own_slot()
        if not slot.made:
            with slot.lock:
                slot.made = slot.made or [self._make()]
        return slot.made[0]

    def pop(self) -> T | None:
        """Removes the value and returns it, None where this process made none."""
        slot, self._slot = self._slot, None
        return slot.made[0] if slot and slot.made and slot.process is _here else None

    def _own_slot(self) -> _Slot[T]:
        with _creation:
            slot = self._slot
            if slot is None or slot.process is not _here:
                slot = self._slot = _Slot()
            return slot

    def __getstate__(self) -> Callable[[], T]:
        return self._make

    def __setstate__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._slot = None


class _Slot(Generic[T]):
    """The value of one process, empty at first, with a lock of its own, since making it may take long."""

    def __init__(self) -> None:
        self.process = _here
        self.lock = threading.RLock()
        self.made: list[T] = []
