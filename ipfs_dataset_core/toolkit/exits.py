"""The end of the process, while daemon threads are still inside libraries in C.

Python stops such a thread wherever it next asks for the interpreter. In the middle of HDF5 it then keeps a
lock for which all others wait, in the middle of Arrow it ends the process as a crash. So threads say when
they are inside; at the end the next read fails, all come out, and stay where they are.
"""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS = 0.1


class _Exit:
    """What is known of one process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: list[threading.Thread] = []
        self._ending = False

    def enter(self, thread: threading.Thread) -> None:
        with self._changed:
            if not self.stops(thread):
                self._inside.append(thread)
                return
        _stay()

    def leave(self, thread: threading.Thread) -> None:
        with self._changed:
            self._inside.remove(thread)
            self._changed.notify_all()
            if not self.stops(thread):
                return
        _stay()

    def stops(self, thread: threading.Thread) -> bool:
        return self._ending and thread.daemon

    def end(self) -> None:
        with self._changed:
            self._ending = True
            while any(thread.daemon and thread.is_alive() for thread in self._inside):
                self._changed.wait(_SECONDS)  # the read that goes on has a deadline of its own


_exit = _Exit()
_last: list[Callable[[], None]] = []


def _renew() -> None:
    """Other threads of the parent are not in a forked child, even if one held the lock."""
    global _exit  # noqa: PLW0603 - a lock is replaced, not shared
    _exit = _Exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def inside_library() -> Iterator[None]:
    """Says that this thread must not be stopped; once the process ends, it goes no further than this."""
    known, thread = _exit, threading.current_thread()
    known.enter(thread)
    try:
        yield
    finally:
        known.leave(thread)


def check_exit() -> None:
    """Makes a daemon thread leave the library that asks for more, when the process ends."""
    if _exit.stops(threading.current_thread()):
        raise SystemExit


def at_exit(close: Callable[[], None]) -> None:
    """Calls a function when the process ends and no daemon thread is inside a library any more.

    Args:
        close: Closes what a library in C has still open, and would close itself after the interpreter's end.
    """
    _last.append(close)


@atexit.register
def _end() -> None:
    _exit.end()
    for close in reversed(_last):
        close()


def _stay() -> None:
    threading.Event().wait()
