"""The encrypted bytes of a connection, after the handshake."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.libp2p.errors import PeerClosedError, PeerProtocolError
from ipfs_dataset_bitswap.libp2p.noise import MAX_MESSAGE, MAX_PLAIN, TAG
from ipfs_dataset_core import TransportTimeoutError, VerificationError

if TYPE_CHECKING:
    from ipfs_dataset_bitswap.libp2p.noise import Cipher

_PREFIX = 2
_BUFFER = 4 * (_PREFIX + MAX_MESSAGE)
# Bytes of answers that wait because the peer does not read; a peer that never reads is given up on.
MAX_QUEUED = 1 << 20
# Seconds after which a wait for the socket is checked anew.
_GLANCE = 1.0


def wait_for(sock: socket.socket, *, write: bool, read: bool, seconds: float) -> None:
    """Waits until a socket can be read or written, or the time is over."""
    seconds = max(0.0, seconds)
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        poll.poll(min(seconds * 1000, 1 << 30))
    else:
        select.select([sock] if read else [], [sock] if write else [], [], min(seconds, 1 << 20))


class SecureChannel:
    """Noise messages over a socket: one thread receives, any thread sends.

    Args:
        sock: A connected socket; it belongs to the channel from now on.
        peer: What errors call the peer.
        ciphers: The cipher to send with, and the one to receive with.
        received: What has arrived already, and was not used by the handshake.
    """

    def __init__(
        self, sock: socket.socket, peer: str, ciphers: tuple[Cipher, Cipher], received: bytes
    ) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._peer = peer
        self._sending, self._receiving = ciphers
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._buffer[: len(received)] = received
        self._start, self._end = 0, len(received)
        self._lock = threading.Lock()
        self._queue = bytearray()
        self._queued = self._sent = 0

    def receive(self, seconds: float) -> list[bytes]:
        """Returns what messages hold that have arrived; waits for the first one.

        Args:
            seconds: How long to wait at the most. After that nothing is returned.

        Raises:
            PeerClosedError: The connection has ended.
            PeerProtocolError: A message does not decrypt.
        """
        plains = self._decrypt()
        if plains:
            return plains
        self._make_room()
        try:
            count = self._sock.recv_into(self._view[self._end :])
        except (BlockingIOError, InterruptedError):
            if self._queue:
                with self._lock:
                    self._flush()
            wait_for(self._sock, read=True, write=bool(self._queue), seconds=seconds)
            try:
                count = self._sock.recv_into(self._view[self._end :])
            except (BlockingIOError, InterruptedError):
                return []
            except (OSError, ValueError) as error:
                raise self._broken(error) from None
        except (OSError, ValueError) as error:
            raise self._broken(error) from None
        if not count:
            raise PeerClosedError(f"peer {self._peer} closed the connection")
        self._end += count
        return self._decrypt()

    def _decrypt(self) -> list[bytes]:
        plains = []
        start, end, view = self._start, self._end, self._view
        while end - start >= _PREFIX:
            size = view[start] << 8 | view[start + 1]
            stop = start + _PREFIX + size
            if stop > end:
                break
            if size < TAG:
                raise PeerProtocolError(f"peer {self._peer} sent a Noise message of {size} bytes")
            try:
                plains.append(self._receiving.decrypt(view[start + _PREFIX : stop]))
            except VerificationError as error:
                raise PeerProtocolError(f"peer {self._peer}: {error}") from None
            start = stop
        self._start = start
        return plains

    def _make_room(self) -> None:
        """Moves what is left of an unfinished message to the start of the buffer."""
        if self._start:
            left = self._end - self._start
            self._view[:left] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, left

    def send(self, data: bytes, end: float) -> None:
        """Sends data; returns when the operating system has taken them.

        Args:
            data: What to send.
            end: Until when, on the monotonic clock.

        Raises:
            TransportTimeoutError: The peer does not read.
            PeerClosedError: The connection has ended.
        """
        with self._lock:
            self._enqueue(data)
            mine = self._queued
            self._flush()
        while self._sent < mine:
            left = end - time.monotonic()
            if left <= 0:
                raise TransportTimeoutError(f"peer {self._peer} takes no more data")
            try:
                wait_for(self._sock, read=False, write=True, seconds=min(left, _GLANCE))
            except (OSError, ValueError) as error:
                raise self._broken(error) from None
            with self._lock:
                self._flush()

    def queue(self, data: bytes | bytearray) -> None:
        """Sends what can be sent at once; the rest is sent by `receive`. Never waits.

        Raises:
            PeerProtocolError: Too much waits to be sent.
            PeerClosedError: The connection has ended.
        """
        with self._lock:
            self._enqueue(data)
            self._flush()
            if len(self._queue) > MAX_QUEUED:
                raise PeerProtocolError(
                    f"peer {self._peer} causes answers and does not read them: {len(self._queue)} bytes wait"
                )

    def _enqueue(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        for start in range(0, len(view), MAX_PLAIN):
            message = self._sending.encrypt(view[start : start + MAX_PLAIN])
            self._queue += len(message).to_bytes(_PREFIX, "big")
            self._queue += message
            self._queued += _PREFIX + len(message)

    def _flush(self) -> None:
        while self._queue:
            try:
                count = self._sock.send(self._queue)
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, ValueError) as error:
                raise self._broken(error) from None
            del self._queue[:count]
            self._sent += count

    def _broken(self, error: Exception) -> PeerClosedError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return PeerClosedError(f"the connection to peer {self._peer} broke: {reason}")

    def shut_down(self) -> None:
        """Ends the connection; a thread that receives notices."""
        with contextlib.suppress(OSError):  # where it has ended already
            self._sock.shutdown(socket.SHUT_RDWR)

    def leave_to_parent(self) -> None:
        """Closes the copy of the socket that a child process has; the connection of the parent stays."""
        self._lock = threading.Lock()
        self._sock.close()

    def close(self) -> None:
        """Closes the socket; called by the thread that receives, or where there is none."""
        self._sock.close()
