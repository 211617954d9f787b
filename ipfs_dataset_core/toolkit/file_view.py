"""A file object for libraries in C, and the end of the process while threads are still inside of them.

Such libraries keep the file that they are given, and report its errors in their own words: see `FileView`.

At the end of the process, Python stops a daemon thread wherever it next needs the interpreter. In the middle
of HDF5 the thread then keeps a lock for which all others wait; in the middle of Arrow it ends the process as
a crash. So `FileView.errors` counts the threads that are inside. At the end, the next read of each fails, so
that all leave the library, and they stay outside.
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

# How often the end of the process looks whether the threads inside libraries have left them.
_SECONDS = 0.1


class FileView(io.RawIOBase):
    """Reads an object at a position of its own.

    Args:
        source: The file. It is not kept alive, so that a reader may keep what it opened with a view in a
            `weakref.WeakKeyDictionary` by file.
        padded: Whether a read beyond the end is filled up with zeros, as HDF5 expects it, not cut short.
    """

    def __init__(self, source: ObjectFile, *, padded: bool = False) -> None:
        super().__init__()
        self.size = source.size
        self._source = weakref.ref(source)
        self._padded = padded
        self._position = 0
        self._error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence is 0, 1 or 2, not {whence!r}")
        if base + offset < 0:  # as a file of the system does, which zipfile relies on
            raise OSError(errno.EINVAL, f"there is no position {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        # The base makes room for all of `size` first, which in a damaged file may be any number.
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
        except BaseException as error:  # an interruption too, or it would be reported as damage
            self._error = error
            raise
        view[: len(data)] = data
        if self._padded:
            view[len(data) :] = bytes(len(view) - len(data))
        self._position += len(data)
        return len(data)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises what the source raised, where the library made an error of its own of it.

        Every call of the library belongs in here, and what turns its errors into `FormatError` around it;
        never a ``yield``, for the end of the process waits until a thread has left this.
        """
        with inside_library():
            try:
                yield
            except Exception:
                if self._error is None:
                    raise
                raise self._error from None
            finally:
                # Its traceback leads to what the library opened, and that to this view, in ways that the
                # garbage collector does not see: it would never be freed, nor the file closed.
                self._error = None


class _Exit:
    """The threads of one process that are inside libraries, and whether the process is ending."""

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
                self._changed.wait(_SECONDS)  # a read that is under way has a deadline of its own


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
    """Marks that this thread must not be stopped; when the process ends, it stays at the end of the block."""
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
