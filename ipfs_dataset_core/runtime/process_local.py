"""State that belongs to one process: created on first use, never shared through a fork, never pickled."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_creation = threading.Lock()
# Identifies this process: a system call for its number would take longer than the rest of `get`.
_here = object()


def _begin_anew() -> None:
    """Replaces the lock, which another thread of the parent may have held during the fork."""
    global _creation, _here  # noqa: PLW0603 - both must be replaced, not shared
    _creation = threading.Lock()
    _here = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class ProcessLocal(Generic[T]):
    """A value that each process creates for itself, such as clients, threads, locks or caches. Thread-safe.

    Args:
        make: Creates the value; must be picklable if the holder is pickled.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._process: object = None
        # The value, if any, and a lock of its own, because creating the value may take long.
        self._made: list[T] = []
        self._lock = threading.RLock()

    def get(self) -> T:
        """Returns this process's value."""
        if self._process is not _here:
            self._begin()
        made = self._made
        if not made:
            with self._lock:
                if not made:
                    made.append(self._make())
        return made[0]

    def put(self, value: T) -> None:
        """Sets the value of this process; has no effect if it already has one."""
        if self._process is not _here:
            self._begin()
        with self._lock:
            if not self._made:
                self._made.append(value)

    def pop(self) -> T | None:
        """Removes and returns the value; None if this process has none."""
        with _creation:
            made = self._made if self._process is _here else []
            self._process, self._made = None, []
        return made[0] if made else None

    def _begin(self) -> None:
        """Discards state of another process, including its lock, which may have been held during a fork."""
        with _creation:
            if self._process is not _here:
                self._made, self._lock = [], threading.RLock()
                self._process = _here

    def __getstate__(self) -> Callable[[], T]:
        return self._make

    def __setstate__(self, make: Callable[[], T]) -> None:
        self.__init__(make)  # type: ignore[misc]
