"""Bytes of a socket, given up on when they trickle: time-outs of single waits alone would allow that."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import TransportTimeoutError, time_left

if TYPE_CHECKING:
    import socket

# Who sends less than this on average keeps a connection busy for hours.
MIN_BYTES_PER_SECOND = 1024


class PatientReader(io.RawIOBase):
    """What a socket receives, headers and body alike.

    It sits below the buffer, so that a large read is one loop in C that stores each byte once.

    Args:
        sock: Its time-out is also how long waiting may take in all, beyond what the received bytes excuse.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._receive = sock.recv_into
        self._left = sock.gettimeout() or 0.0

    def readinto(self, buffer: Any) -> int:
        """Receives what is there.

        Raises:
            TransportTimeoutError: Too little came for too long, or the whole read's deadline has passed.
        """
        started = time.monotonic()
        received = self._receive(buffer)
        self._left -= time.monotonic() - started - received / MIN_BYTES_PER_SECOND
        if time_left() < 0:
            raise TransportTimeoutError("the deadline of the whole read has passed")
        if self._left < 0:
            raise TransportTimeoutError(f"slower than {MIN_BYTES_PER_SECOND} bytes a second")
        return received

    def readable(self) -> bool:
        return True
