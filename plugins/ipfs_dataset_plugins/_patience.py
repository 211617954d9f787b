"""Bytes of a socket, given up on when they trickle: time-outs of single waits alone would allow that."""

from __future__ import annotations

import io
import time
from typing import Any

from ipfs_dataset_core import TransportTimeoutError, time_left

# Who sends less than this on average keeps a connection busy for hours.
MIN_BYTES_PER_SECOND = 1024


class PatientReader(io.RawIOBase):
    """What a socket receives, headers and body alike.

    It sits below the buffer, so that a large read is one loop in C that stores each byte once.

    Args:
        raw: The socket's own reader.
        seconds: How long waiting may take beyond what the received bytes excuse.
    """

    def __init__(self, raw: Any, seconds: float) -> None:
        super().__init__()
        self._raw = raw
        self._left = seconds

    def readinto(self, buffer: Any) -> int | None:
        """Receives what is there.

        Raises:
            TransportTimeoutError: Too little came for too long, or the whole read's deadline has passed.
        """
        started = time.monotonic()
        received: int | None = self._raw.readinto(buffer)
        self._left -= time.monotonic() - started - (received or 0) / MIN_BYTES_PER_SECOND
        if time_left() < 0:
            raise TransportTimeoutError("the deadline of the whole read has passed")
        if self._left < 0:
            raise TransportTimeoutError(f"slower than {MIN_BYTES_PER_SECOND} bytes a second")
        return received

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Closes the socket's reader too."""
        if not self.closed:
            self._raw.close()
        super().close()
