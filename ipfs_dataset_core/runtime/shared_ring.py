"""A ring buffer in anonymous shared memory: one process writes messages, others read each of them once.

The memory is a file without a name (memfd_create, Linux), which the reading process opens through ``/proc``.
It needs no space in ``/dev/shm``, and is released when the processes have ended, however they end. It is
accessed with system calls and not mapped: running out of memory is an error of the call, whereas it would end
the process with a mapping.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from multiprocessing import util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The address of a ring: the process that writes, its file descriptor there, and the identity at the start of
# the file, because both numbers are reused. A plain tuple, because it is sent with every message.
RingAddress = tuple[int, int, bytes]

# The head of a message: whether it has been read.
_UNREAD, _READ = b"\0", b"\1"
_HEADER_BYTES = 64
# The head of the file: the ring's identity, and whether a reader could open it.
_IDENTITY_BYTES = 16
_CONTROL_BYTES = 4096
# Maximum number of buffers per system call (IOV_MAX).
_MOST_BUFFERS = 1024
# Parts of a message smaller than this are copied once more rather than read by a system call each.
_SMALL_PART = 32 << 10


class RingWriter:
    """The writing end of a ring. Thread-safe.

    Args:
        capacity: Capacity in bytes, including 64 bytes per message; memory is allocated as needed.

    Raises:
        OSError: The system does not support such memory.
    """

    def __init__(self, capacity: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("this system has no memfd_create")
        self._file = os.memfd_create("ipfs-dataset-ring")
        self.address: RingAddress = (os.getpid(), self._file, os.urandom(_IDENTITY_BYTES))
        self._end = _CONTROL_BYTES + capacity
        self._lock = threading.Lock()
        self._next = _CONTROL_BYTES
        # The starts of messages that may be unread, in the order in which they were written.
        self._unread: deque[int] = deque()
        self._opened = False
        os.pwrite(self._file, self.address[2] + _UNREAD, 0)
        # Runs after the queues of multiprocessing (-5), which may still have messages.
        util.Finalize(self, _release, (self._file,), exitpriority=-10)

    @property
    def is_open(self) -> bool:
        """Whether a reader could open the ring; before that, messages may be lost."""
        if not self._opened:
            self._opened = os.pread(self._file, 1, _IDENTITY_BYTES) == _READ
        return self._opened

    def write(self, parts: Sequence[bytes]) -> int | None:
        """Writes a message.

        Args:
            parts: The parts of the message.

        Returns:
            The start of the message; None if there is no room until others are read.
        """
        size = _HEADER_BYTES + sum(map(len, parts))
        with self._lock:
            start = self._room(size)
            if start is None:
                return None
            try:
                self._write_at(start, [_UNREAD.ljust(_HEADER_BYTES, b"\0"), *parts])
            except OSError:  # out of memory
                return None
            self._unread.append(start)
            self._next = start + size
        return start

    def _room(self, size: int) -> int | None:
        """Returns the start of `size` free bytes; None if there are none."""
        unread = self._unread
        while unread and os.pread(self._file, 1, unread[0]) == _READ:
            unread.popleft()
        if not unread:
            # Starting again at the beginning reuses memory that is already allocated.
            return _CONTROL_BYTES if _CONTROL_BYTES + size <= self._end else None
        oldest = unread[0]
        if self._next > oldest:
            if self._next + size <= self._end:
                return self._next
            return _CONTROL_BYTES if _CONTROL_BYTES + size <= oldest else None
        return self._next if self._next + size <= oldest else None

    def _write_at(self, position: int, parts: Sequence[bytes]) -> None:
        for first in range(0, len(parts), _MOST_BUFFERS):
            group = parts[first : first + _MOST_BUFFERS]
            size = sum(map(len, group))
            written = os.pwritev(self._file, group, position)
            if written < size:
                rest = memoryview(b"".join(group))
                while written < size:
                    written += os.pwrite(self._file, rest[written:], position + written)
            position += size


def _release(file: int) -> None:
    """Releases the memory, which a reader with the file open would keep, and closes the file."""
    os.ftruncate(file, 0)
    os.close(file)


def open_ring(address: RingAddress) -> bool:
    """Opens a ring in this process and marks it as open for its writer; returns whether that succeeded.

    Args:
        address: The address of the ring.
    """
    try:
        file = _file(address)
        os.pwrite(file, _READ, _IDENTITY_BYTES)
    except OSError:
        return False
    return True


def read_message(address: RingAddress, start: int, sizes: Sequence[int]) -> list[bytes]:
    """Returns the parts of a message, and frees its place in the ring.

    Args:
        address: The address of the ring.
        start: The start of the message.
        sizes: The sizes of its parts in bytes.

    Raises:
        ConnectionResetError: The process that wrote it has ended.
    """
    try:
        file = _file(address)
        parts = _read_parts(file, start + _HEADER_BYTES, sizes)
        os.pwrite(file, _READ, start)
    except OSError as error:
        raise ConnectionResetError(
            f"process {address[0]} ended before its message was read: {error}"
        ) from error
    return parts


def _read_parts(file: int, position: int, sizes: Sequence[int]) -> list[bytes]:
    total = sum(sizes)
    if total >= len(sizes) * _SMALL_PART:
        parts = []
        for size in sizes:
            parts.append(_read_exactly(file, position, size))
            position += size
        return parts
    data = _read_exactly(file, position, total)
    parts, start = [], 0
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    return parts


def _read_exactly(file: int, position: int, size: int) -> bytes:
    data = os.pread(file, size, position)
    while len(data) < size:  # one call reads at most 2 GiB
        more = os.pread(file, size - len(data), position + len(data))
        if not more:
            raise OSError("its memory has been released")
        data += more
    return data


_files: dict[RingAddress, int] = {}
_files_lock = threading.Lock()


def _file(address: RingAddress) -> int:
    file = _files.get(address)
    if file is not None:
        return file
    with _files_lock:
        if address not in _files:
            _close_all(dead_only=True)
            _files[address] = _open(address)
        return _files[address]


def _open(address: RingAddress) -> int:
    process, descriptor, identity = address
    file = os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
    if os.pread(file, _IDENTITY_BYTES, 0) != identity:
        os.close(file)
        raise OSError("it is not there")
    return file


def _close_all(*, dead_only: bool) -> None:
    """Closes the rings of this process, or only those whose writers have ended."""
    for address, file in list(_files.items()):
        if not (dead_only and _is_alive(address[0])):
            del _files[address]
            os.close(file)


def _is_alive(process: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


def _begin_anew() -> None:
    """Closes rings inherited by a forked process, which would keep the memory without reading it."""
    global _files_lock  # noqa: PLW0603 - replaced, not shared
    _files_lock = threading.Lock()
    _close_all(dead_only=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
