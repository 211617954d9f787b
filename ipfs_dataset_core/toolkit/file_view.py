"""File objects for C libraries, and the end of the process while threads are still inside such libraries.

C libraries keep the file that they are given, and replace its errors by their own; see `FileView`.

At the end of the process, Python stops a daemon thread as soon as it needs the interpreter. A thread stopped
inside HDF5 keeps a lock for which all other threads wait; one stopped inside Arrow crashes the process.
`FileView.errors` therefore counts the threads inside a library. At the end of the process, the next read of
each thread fails, so that all threads leave the library and stay outside.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset_core.interfaces import ObjectFile

# Seconds between checks, at the end of the process, whether the threads have left their libraries.
_SECONDS = 0.1


class FileView(io.RawIOBase):
    """A view of a file with its own position.

    Args:
        source: The file. The view does not keep it alive, so that a reader may store objects opened with a
            view in an `ObjectLocal`.
        padded: Whether reads beyond the end are padded with zeros, as HDF5 expects, rather than cut short.
    """

    def __init__(self, source: ObjectFile, *, padded: bool = False) -> None:
        super().__init__()
        self.size = source.size
        self._source = weakref.ref(source)
        self._padded = padded
        self._position = 0
        self._errors = _Errors()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence!r}")
        if base + offset < 0:  # like a file of the system, which zipfile relies on
            raise OSError(errno.EINVAL, f"there is no position {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        # The base class allocates `size` bytes first, which in a damaged file may be any number.
        rest = max(0, self.size - self._position)
        if size is None or size < 0 or (size > rest and not self._padded):
            size = rest
        return super().read(size) or b""

    def readinto(self, buffer: Any) -> int:
        source = self._source()
        if source is None:
            raise ValueError("the file was closed")
        view = memoryview(buffer).cast("B")
        try:
            check_exit()
            data = source.read_at(self._position, len(view))
        except BaseException as error:  # including interrupts, which would be reported as damage
            self._errors.last = error
            raise
        view[: len(data)] = data
        if self._padded:
            view[len(data) :] = bytes(len(view) - len(data))
        self._position += len(data)
        return len(data)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises the error of the source if the library replaced it by an error of its own.

        Every call of the library must be inside this context manager, and the conversion of its errors to
        `FormatError` around it. Never ``yield`` inside it, because the end of the process waits until a
        thread has left it.
        """
        with inside_library():
            try:
                yield
            except Exception:
                if self._errors.last is None:
                    raise
                raise self._errors.last from None
            finally:
                # Its traceback refers to objects of the library, and these to this view, by references that
                # the garbage collector cannot see: they would never be freed, and the file never closed.
                self._errors.last = None


class _Errors(threading.local):
    """The errors of a source, each in the thread whose read raised it.

    Attributes:
        last: The last error in this thread that `FileView.errors` has not raised yet.
    """

    last: BaseException | None = None


class _Exit:
    """The threads of this process that are inside libraries, and whether the process is ending."""

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
                self._changed.wait(_SECONDS)  # a read in progress has a deadline of its own


_exit = _Exit()
_last: list[Callable[[], None]] = []


def _renew() -> None:
    """Resets the state in a forked child, which has no other threads, even if one of them held the lock."""
    global _exit  # noqa: PLW0603 - the lock must be replaced, not shared
    _exit = _Exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def inside_library() -> Iterator[None]:
    """Marks that this thread must not be stopped; when the process ends, it waits at the end of the block."""
    known, thread = _exit, threading.current_thread()
    known.enter(thread)
    try:
        yield
    finally:
        known.leave(thread)


def check_exit() -> None:
    """Raises SystemExit in a daemon thread when the process ends, so that it leaves the library."""
    if _exit.stops(threading.current_thread()):
        raise SystemExit


def at_exit(close: Callable[[], None]) -> None:
    """Calls a function when the process ends, once no daemon thread is inside a library.

    Args:
        close: Closes objects that a C library would otherwise close itself after the interpreter's end.
    """
    _last.append(close)


@atexit.register
def _end() -> None:
    _exit.end()
    for close in reversed(_last):
        close()


def _stay() -> None:
    threading.Event().wait()
