"""Access to folders that other users may write to: no link is followed, and only regular files are opened.

A path such as ``cache/blocks/ab/bafk…`` is resolved by the operating system component by component, and
anyone with write access to the folder can make any component a symbolic link, a FIFO or a device, even
between a check and its use. Therefore each directory is opened once, without following links, and everything
else is done relative to the open directory (``openat`` and related calls). Files are opened without blocking,
and used only if they are regular files.

If the system has no such calls (Windows), each component is checked before use, which leaves a short moment
between the two.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ipfs_dataset_core.errors import LimitError
from ipfs_dataset_core.runtime.pool import call_at_once

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")
# Age at which a temporary file belongs to a killed writer; a running one takes less than an hour per file.
STALE_SECONDS = 3600.0
_SHELF_CHARACTERS = 2
_SHELF = re.compile(r"[a-z0-9]{2}")
# Number of entries that are searched for such files when a process first writes to a directory.
_MOST_LOOKED_THROUGH = 10_000
_SYNCED_AT_ONCE = 8

_RELATIVE = (
    hasattr(os, "O_DIRECTORY")
    and hasattr(os, "O_NOFOLLOW")
    and {os.open, os.stat, os.mkdir, os.unlink, os.rename} <= os.supports_dir_fd
    and os.scandir in os.supports_fd
)
_COMMON = (
    getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOCTTY", 0)
)
_READ = os.O_RDONLY | _COMMON | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON
# What file systems answer that cannot write a directory to the disk by itself.
_NO_SYNC = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF))
_REPARSE_POINT = getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)


class NotRegularError(OSError):
    """Something other than a regular file, such as a link, FIFO, socket or device, has the name of a file."""


class NotDirectoryError(NotADirectoryError):
    """A link or a file has the name of a directory."""


class Directory:
    """An open directory, to be used in a ``with`` statement. Its methods never follow a link.

    Args:
        path: Its path, for messages, and for systems without relative calls.
        descriptor: The open directory; None on such systems.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor
        # The process that locked it.
        self._locked_by: int | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Directory:
        """Opens a directory; its last component must not be a link.

        Raises:
            NotDirectoryError: It is a link, or not a directory.
            OSError: It does not exist or cannot be opened.
        """
        return _open_directory(os.fspath(path), os.fspath(path), None)

    def __enter__(self) -> Directory:  # noqa: PYI034 - Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is None:
            return
        if self._locked_by is not None and self._locked_by == os.getpid():
            unlock_file(self._descriptor)
        os.close(self._descriptor)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the directory, which do not depend on its path."""
        status = os.stat(self.path if self._descriptor is None else self._descriptor)  # noqa: PTH116
        return status.st_dev, status.st_ino

    def enter(self, name: str, *, make: bool = False) -> Directory:
        """Opens a subdirectory.

        Args:
            name: Its name.
            make: Whether to create it if it does not exist.

        Raises:
            NotDirectoryError: It is a link, or not a directory.
            OSError: It does not exist, or cannot be opened or created.
        """
        path = os.path.join(self.path, name)  # noqa: PTH118 - text for messages, on a hot path
        try:
            return _open_directory(path, self._name(name), self._descriptor)
        except FileNotFoundError:
            if not make:
                raise
        self.make(name)
        return _open_directory(path, self._name(name), self._descriptor)

    def make(self, name: str) -> bool:
        """Creates a subdirectory if nothing has its name; returns whether it was created.

        Raises:
            OSError: It cannot be created.
        """
        try:
            os.mkdir(self._name(name), dir_fd=self._descriptor)
        except FileExistsError:
            return False
        return True

    def status(self, name: str) -> os.stat_result | None:
        """Returns the status of an entry itself, not of a link's target; None if it does not exist."""
        try:
            return os.stat(self._name(name), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self, name: str) -> IO[bytes]:
        """Opens a regular file for reading, unbuffered, without blocking.

        Raises:
            NotRegularError: It is not a regular file.
            OSError: It does not exist or cannot be opened.
        """
        if self._descriptor is None:
            self._check_regular(name)
        try:
            descriptor = os.open(self._name(name), _READ, dir_fd=self._descriptor)
        except FileNotFoundError:
            raise
        except OSError:
            self._check_regular(name)  # gives a better message for links and sockets
            raise
        if not _is_regular(os.fstat(descriptor)):
            os.close(descriptor)
            raise self._not_regular(name)
        return os.fdopen(descriptor, "rb", buffering=0)

    def read(self, name: str, limit: int) -> bytes | None:
        """Returns the content of a regular file; None if it does not exist.

        Args:
            name: Name of the file.
            limit: Maximum size in bytes; a larger file is not read at all.

        Raises:
            LimitError: It is larger than `limit`.
            NotRegularError: It is not a regular file.
            OSError: It cannot be read.
        """
        try:
            file = self.open_file(name)
        except FileNotFoundError:
            return None
        with file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise LimitError(
                    f"{os.path.join(self.path, name)!r} has {size} bytes, more than the limit of {limit}"  # noqa: PTH118
                )
            return read_up_to(file, size)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Writes a file atomically: even if this process is killed, it has either its old or its new content.

        Args:
            name: Name of the file.
            data: Its new content.
            durable: Whether this also holds for power failures, which requires waiting for the disk.

        Raises:
            NotRegularError: Something other than a regular file has this name; it is left as it is.
            OSError: It cannot be written; nothing is left behind.
        """
        self._check_regular(name)
        aside = self._write_aside(data, 0o666, durable=durable)
        try:
            os.replace(
                self._name(aside),
                self._name(name),
                src_dir_fd=self._descriptor,
                dst_dir_fd=self._descriptor,
            )
        except BaseException:
            self._drop(aside)
            raise

    def create(self, name: str, data: bytes, *, mode: int = 0o666) -> None:
        """Creates a file atomically if nothing has its name; otherwise leaves the existing entry.

        Raises:
            OSError: It cannot be written; nothing is left behind.
        """
        aside = self._write_aside(data, mode, durable=True)
        try:
            with suppress(FileExistsError):
                self._link(aside, name)
        finally:
            self._drop(aside)

    def unlink(self, name: str) -> bool:
        """Removes a regular file; returns whether it existed. Anything else with this name stays.

        Raises:
            OSError: It cannot be removed.
        """
        status = self.status(name)
        if status is None or not _is_regular(status):
            return False
        try:
            os.unlink(self._name(name), dir_fd=self._descriptor)
        except FileNotFoundError:
            return False
        return True

    def touch(self, name: str) -> None:
        """Creates an empty file if none exists.

        Raises:
            NotRegularError: Something other than a regular file has this name.
            OSError: It cannot be created.
        """
        if self.status(name) is None:
            self.write(name, b"")
        else:
            self._check_regular(name)

    def lock(self, *, shared: bool) -> bool | None:
        """Locks the directory until it is closed, without waiting; other programs need not respect the lock.

        Args:
            shared: Whether others may have a shared lock as well; an exclusive lock excludes all others.

        Returns:
            Whether it was locked; None if the system or file system has no locks.
        """
        if self._descriptor is None:
            return None
        is_locked = lock_file(self._descriptor, shared=shared)
        if is_locked:
            self._locked_by = os.getpid()
        return is_locked

    def sync(self) -> None:
        """Waits until the names of its files are on disk, if the system supports that.

        Raises:
            OSError: The disk reports an error, so the names may be lost in a power failure.
        """
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise

    def scan(self) -> Iterator[os.DirEntry[str]]:
        """Yields the entries; use only their names and types, and `status` for everything else."""
        with os.scandir(self.path if self._descriptor is None else self._descriptor) as entries:
            yield from entries

    def clear_abandoned(self, seconds: float = STALE_SECONDS) -> None:
        """Removes the temporary files that killed writers left behind.

        Args:
            seconds: Minimum age of such a file in seconds.
        """
        for entry in islice(self.scan(), _MOST_LOOKED_THROUGH):
            if TEMPORARY.fullmatch(entry.name):
                self.remove_if_abandoned(entry.name, seconds)

    def remove_if_abandoned(self, name: str, seconds: float = STALE_SECONDS) -> None:
        """Removes a temporary file that is too old to be still in use."""
        status = self.status(name)
        if status is not None and time.time() - status.st_mtime > seconds:
            with suppress(OSError):
                self.unlink(name)

    def _link(self, aside: str, name: str) -> None:
        try:
            os.link(
                self._name(aside),
                self._name(name),
                src_dir_fd=self._descriptor,
                dst_dir_fd=self._descriptor,
                follow_symlinks=False,
            )
        except FileExistsError:
            raise
        except (OSError, NotImplementedError):
            # A file system without hard links. If there are two writers at once, the last one wins.
            if self.status(name) is None:
                os.replace(
                    self._name(aside),
                    self._name(name),
                    src_dir_fd=self._descriptor,
                    dst_dir_fd=self._descriptor,
                )

    def _write_aside(self, data: bytes, mode: int, *, durable: bool) -> str:
        """Writes a file under a temporary name, which it returns."""
        # Not with tempfile, whose files only their owner can read, because folders may be shared.
        aside = f".tmp-{secrets.token_hex(8)}"
        descriptor = os.open(self._name(aside), _CREATE, mode, dir_fd=self._descriptor)
        try:
            try:
                _write_all(descriptor, data)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            self._drop(aside)
            raise
        return aside

    def _drop(self, aside: str) -> None:
        with suppress(OSError):
            os.unlink(self._name(aside), dir_fd=self._descriptor)

    def _name(self, name: str) -> str:
        return name if self._descriptor is not None else os.path.join(self.path, name)  # noqa: PTH118

    def _check_regular(self, name: str) -> None:
        status = self.status(name)
        if status is not None and not _is_regular(status):
            raise self._not_regular(name)

    def _not_regular(self, name: str) -> NotRegularError:
        status = self.status(name)
        kind = "no regular file" if status is None else _kind(status)
        return NotRegularError(
            errno.EINVAL,
            f"it is {kind}: only regular files are read and written here",
            os.path.join(self.path, name),  # noqa: PTH118
        )


class Folder(Protocol):
    """A folder that may have to be created."""

    def open(self, *, make: bool = False) -> Directory:
        """Opens it; if it is missing, creates it or raises FileNotFoundError."""


class PlainFolder:
    """A folder chosen by the user: links in its path are followed once; links in the folder never are.

    Args:
        path: Its path; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)

    def open(self, *, make: bool = False) -> Directory:
        """Opens the folder, creating it if it is missing and `make` is true; see `Directory.open`."""
        try:
            return Directory.open(self.path)
        except FileNotFoundError:
            if not make:
                raise
        os.makedirs(self.path, exist_ok=True)  # noqa: PTH103 - text, as everything here
        return Directory.open(self.path)


class Entry(NamedTuple):
    """A file on a shelf.

    Attributes:
        modified: When it was last written or used, in seconds since the epoch.
        size: Its size in bytes.
        name: Its name, which determines the shelf.
    """

    modified: float
    size: int
    name: str


class Shelves:
    """Files in subdirectories named by the last two characters of the files' names: ``ab/…ab``.

    Args:
        folder: The folder that contains the directory.
        directory: The name of the directory in it.
        names: Pattern for complete file names. Other files belong to others: they are neither listed nor
            removed.
        durable: Whether files survive a power failure once `sync` has returned.
    """

    def __init__(
        self, folder: Folder, directory: str, names: re.Pattern[str], *, durable: bool
    ) -> None:
        self._folder = folder
        self._directory = directory
        self._names = names
        self._durable = durable
        self._cleared: set[str] = set()
        # Shelves whose new names may not be on disk yet.
        self._written: set[str] = set()
        self._lock = threading.Lock()

    def has(self, name: str) -> bool:
        """Returns whether there is a regular file with this name."""
        try:
            with self._shelf(name) as shelf:
                status = shelf.status(name)
        except OSError:
            return False
        return status is not None and _is_regular(status)

    def holds(self, name: str, data: bytes) -> bool:
        """Returns whether a file has exactly this content; False if that cannot be determined."""
        try:
            with self._shelf(name) as shelf:
                return _holds(shelf, name, data)
        except OSError:
            return False

    def read(self, name: str, limit: int) -> bytes | None:
        """Returns the content of a file; None if there is none; see `Directory.read`."""
        try:
            with self._shelf(name) as shelf:
                return shelf.read(name, limit)
        except FileNotFoundError:
            return None

    def open_file(self, name: str) -> IO[bytes]:
        """Opens a file to read; see `Directory.open_file`."""
        with self._shelf(name) as shelf:
            return shelf.open_file(name)

    def write(self, name: str, data: bytes) -> bool:
        """Writes a file unless it already has this content; returns whether it was written.

        Raises:
            NotRegularError: Something other than a regular file has this name; it is left as it is.
            OSError: It cannot be written.
        """
        with self.opened() as write:
            return write(name, data)

    @contextmanager
    def opened(self) -> Iterator[Callable[[str, bytes], bool]]:
        """Returns a context manager for a function like `write` that keeps the directory open between calls.

        This saves system calls, each of which may let another thread of Python run.

        Raises:
            OSError: The directory cannot be opened.
        """
        with self._top(make=True) as top:
            yield partial(self._write, top)

    def _write(self, top: Directory, name: str, data: bytes) -> bool:
        shelf_name, is_new = _shelf_of(name), False
        try:
            shelf = top.enter(shelf_name)
        except FileNotFoundError:
            is_new = top.make(shelf_name)
            shelf = top.enter(shelf_name, make=True)
        with shelf:
            # A directory that was just created contains no abandoned files.
            if not is_new and _holds(shelf, name, data):
                return False
            if shelf_name not in self._cleared:
                self._cleared.add(shelf_name)
                if not is_new:
                    shelf.clear_abandoned()
            shelf.write(name, data, durable=self._durable)
            if self._durable:
                with self._lock:
                    self._written.add(shelf_name)
        return True

    def sync(self) -> None:
        """Waits until written files are on disk under their names, if `durable`.

        Raises:
            OSError: The disk reports an error, or a directory cannot be opened. The next call tries again.
        """
        with self._lock:
            written, self._written = self._written, set()
        if not written:
            return
        try:
            with self._top() as top:

                def sync(name: str) -> None:
                    with top.enter(name) as shelf:
                        shelf.sync()

                # Each call waits for the disk, which serves all waiting calls in one turn.
                call_at_once(sync, list(written), _SYNCED_AT_ONCE, "ipfs-dataset-sync")
                top.sync()
        except BaseException:
            with self._lock:
                self._written |= written
            raise

    def remove(self, name: str) -> None:
        """Removes a file if it exists.

        Raises:
            OSError: It cannot be removed.
        """
        with suppress(FileNotFoundError), self._shelf(name) as shelf:
            shelf.unlink(name)

    def remove_all(self, names: Iterable[str]) -> OSError | None:
        """Removes several files; those that cannot be removed stay.

        Returns:
            The reason why the first of them cannot be removed; None if all are removed.
        """
        failure: OSError | None = None
        for shelf_name, names_there in groupby(sorted(names, key=_shelf_of), _shelf_of):
            try:
                with self._shelf(shelf_name) as shelf:
                    for name in names_there:
                        try:
                            shelf.unlink(name)
                        except OSError as error:
                            failure = failure or error
            except FileNotFoundError:  # another job removed the shelf
                pass
            except OSError as error:
                failure = failure or error
        return failure

    def entries(self, stale_seconds: float = STALE_SECONDS) -> Iterator[Entry]:
        """Yields every file on its shelf; removes temporary files of killed writers.

        Args:
            stale_seconds: Minimum age of such temporary files in seconds.
        """
        with suppress(FileNotFoundError), self._top() as top:
            for found in top.scan():
                if _SHELF.fullmatch(found.name) and found.is_dir(follow_symlinks=False):
                    with suppress(OSError), top.enter(found.name) as shelf:
                        yield from self._on(found.name, shelf, stale_seconds)

    def _on(self, shelf_name: str, shelf: Directory, stale_seconds: float) -> Iterator[Entry]:
        for found in shelf.scan():
            name = found.name
            if TEMPORARY.fullmatch(name):
                shelf.remove_if_abandoned(name, stale_seconds)
            elif name.endswith(shelf_name) and self._names.fullmatch(name):
                status = shelf.status(name)
                if status is not None and _is_regular(status):
                    yield Entry(status.st_mtime, status.st_size, name)

    def _top(self, *, make: bool = False) -> Directory:
        with self._folder.open(make=make) as folder:
            return folder.enter(self._directory, make=make)

    def _shelf(self, name: str) -> Directory:
        with self._top() as top:
            return top.enter(_shelf_of(name))


def _shelf_of(name: str) -> str:
    return name[-_SHELF_CHARACTERS:]


def _holds(shelf: Directory, name: str, data: bytes) -> bool:
    try:
        return shelf.read(name, len(data)) == data
    except LimitError:
        return False
    except NotRegularError:
        raise
    except OSError:  # an unreadable file is written again
        return False


def lock_file(descriptor: int, *, shared: bool = False) -> bool | None:
    """Locks an open file or directory until it is closed, without waiting.

    Args:
        descriptor: Its descriptor.
        shared: Whether others may have a shared lock as well; an exclusive lock excludes all others.

    Returns:
        Whether it was locked; None if the system or file system has no locks.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def unlock_file(descriptor: int) -> None:
    """Unlocks a file or directory that this process has locked with `lock_file`.

    Closing it does not suffice: forked processes, such as the workers of a DataLoader, have copies of the
    descriptor, and the lock ends when all of them are closed. Such a process must not call this, because it
    would end the lock of its parent.
    """
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def mark_used(file: IO[bytes], after_seconds: float) -> float:
    """Records the current time as that of the last use of a file, at most once per `after_seconds` seconds.

    A file with several names is left alone: it may be a user's own file, linked into the folder.

    Returns:
        The recorded time, in seconds since the epoch by the clock of the disk.
    """
    status = os.fstat(file.fileno())
    if status.st_nlink == 1 and time.time() - status.st_mtime > after_seconds:
        os.utime(file.fileno() if os.utime in os.supports_fd else file.name)
        status = os.fstat(file.fileno())
    return status.st_mtime


def read_up_to(file: IO[bytes], size: int) -> bytes:
    """Returns the next bytes of an unbuffered file, fewer only at its end."""
    data = file.read(size)
    if len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (data := file.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _open_directory(path: str, name: str, parent: int | None) -> Directory:
    """Opens `name`, relative to `parent` if given; `path` is the complete path, for messages."""
    try:
        if not _RELATIVE:
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode) or _is_reparse_point(status):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            return Directory(path, None)
        flags = os.O_RDONLY | os.O_DIRECTORY | _COMMON
        return Directory(path, os.open(name, flags, dir_fd=parent))
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
            raise
        status = None
        with suppress(OSError):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if status is None or (stat.S_ISDIR(status.st_mode) and not _is_reparse_point(status)):
            raise
        raise NotDirectoryError(
            error.errno, f"it is {_kind(status)}, not a directory of its own", path
        ) from None


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and not _is_reparse_point(status)


def _is_reparse_point(status: os.stat_result) -> bool:
    """Returns whether it is a Windows link or junction, which may not count as a symbolic link."""
    return bool(getattr(status, "st_file_attributes", 0) & _REPARSE_POINT)


def _kind(status: os.stat_result) -> str:
    mode = status.st_mode
    if stat.S_ISLNK(mode) or _is_reparse_point(status):
        return "a link"
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a file" if stat.S_ISREG(mode) else "a device"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
