"""Sends and receives bytes on sockets with a minimum transfer rate and a deadline.

A time-out of a socket limits single waits only: a peer that moves one byte now and then never times out.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import TransportTimeoutError, time_left

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_BYTES_PER_SECOND = 1024
# A wait of 0 would mean not to wait, and None to wait without end.
_MIN_WAIT_SECONDS = 0.001
# Bodies from this size on are sent by `sendmsg`; smaller ones fit into the buffer of the socket anyway.
_LARGE_BYTES = 1 << 20
_SLICE_BYTES = 1 << 16
# The header and the first bytes of the body arrive together; a small block arrives as a whole.
_BUFFER_BYTES = 16384
_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")
_MAX_PIECES = os.sysconf("SC_IOV_MAX") if _HAS_SENDMSG else 0


class TransferRate:
    """Checks the rate of one transfer.

    Args:
        timeout: The longest single wait in seconds. The waits together may exceed it only by the time that
            the bytes moved would take at the minimum rate.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._left = timeout
        self._started = 0.0

    def start_wait(self) -> float:
        """Starts a wait, and returns how many seconds it may take."""
        self._started = time.monotonic()
        left = time_left()
        return self._timeout if left > self._timeout else max(left, _MIN_WAIT_SECONDS)

    def end_wait(self, size: int) -> None:
        """Ends a wait.

        Args:
            size: The number of bytes that were received or sent.

        Raises:
            TransportTimeoutError: The transfer is too slow, or the deadline has passed.
        """
        self._left -= time.monotonic() - self._started - size / MIN_BYTES_PER_SECOND
        if time_left() < 0:
            raise TransportTimeoutError("the deadline of the whole request has passed")
        if self._left < 0:
            raise TransportTimeoutError(f"slower than {MIN_BYTES_PER_SECOND} bytes a second")


class SocketReader(TransferRate, io.RawIOBase):
    """A readable file of what a socket receives, with a minimum transfer rate.

    It is meant to be buffered, so that a large read is a single loop in C that copies each byte once.

    Args:
        sock: The socket, whose time-out is that of the `TransferRate`. It stays open at least until this
            file is closed.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.gettimeout() or 0.0)
        self._file = sock.makefile("rb", buffering=0)
        self._receive = sock.recv_into
        self._set_timeout = sock.settimeout

    def readinto(self, buffer: Any) -> int:
        """Receives at least one byte, or none at the end.

        Raises:
            TransportTimeoutError: The transfer is too slow, or the deadline has passed.
        """
        wait = self.start_wait()
        if wait < self._timeout:
            self._set_timeout(wait)
        received = self._receive(buffer)
        self.end_wait(received)
        return received

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Returns this file with a buffer, as `http.client.HTTPResponse` takes it from a socket."""
        return io.BufferedReader(self, _BUFFER_BYTES)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Closes this file, after which the socket can be closed."""
        super().close()
        self._file.close()


def send(sock: socket.socket, pieces: Sequence[bytes]) -> None:
    """Sends pieces of bytes one after the other, with as few system calls as possible.

    Args:
        sock: A connected socket, whose time-out is that of the `TransferRate`.
        pieces: All that is to be sent.

    Raises:
        OSError: The connection failed, or timed out.
        TransportTimeoutError: The transfer is too slow, or the deadline has passed.
    """
    timeout = sock.gettimeout() or 0.0
    if len(pieces) == 1 and len(pieces[0]) <= _SLICE_BYTES:  # one wait, which the time-out limits
        if (left := time_left()) < timeout:
            sock.settimeout(max(left, _MIN_WAIT_SECONDS))
        sock.sendall(pieces[0])
        return
    rate = TransferRate(timeout)
    # The type is checked because a subclass, such as that for TLS, must see all bytes.
    if _HAS_SENDMSG and type(sock) is socket.socket and sum(map(len, pieces)) >= _LARGE_BYTES:
        try:
            _send_large(sock, pieces, rate)
        finally:
            sock.settimeout(timeout)
        return
    for piece in pieces:
        for start in range(0, len(piece), _SLICE_BYTES):
            wait = rate.start_wait()
            if wait < timeout:
                sock.settimeout(wait)
            part = piece if len(piece) <= _SLICE_BYTES else piece[start : start + _SLICE_BYTES]
            sock.sendall(part)
            rate.end_wait(len(part))


def _send_large(sock: socket.socket, pieces: Sequence[bytes], rate: TransferRate) -> None:
    """Sends pieces with a blocking socket, whose time-out the operating system applies.

    A Python socket with a time-out returns after each part that fits into the buffer, and then has to
    acquire the GIL again, for which the threads that make the next blocks compete.
    """
    left = [memoryview(piece) for piece in pieces if piece]
    at = 0
    sock.settimeout(None)
    try:
        while at < len(left):
            wait = rate.start_wait()
            whole = int(wait)
            timeval = struct.pack("ll", whole, int((wait - whole) * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
            size = sock.sendmsg(left[at : at + _MAX_PIECES])
            rate.end_wait(size)
            while at < len(left) and size >= len(left[at]):
                size -= len(left[at])
                at += 1
            if size:
                left[at] = left[at][size:]
    except BlockingIOError:
        raise TimeoutError("timed out") from None
