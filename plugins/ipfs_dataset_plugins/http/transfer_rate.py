"""The minimum transfer rate and the deadline of what is received and sent.

Socket time-outs alone do not bound a transfer: a peer that moves one byte now and then never times out.
"""

from __future__ import annotations

import time

from ipfs_dataset_core import TransportTimeoutError, time_left

# Whoever moves less than this on average keeps a connection busy for hours.
MIN_BYTES_PER_SECOND = 1024
# A wait of 0 would mean not to wait, and None to wait without end.
_SHORTEST_WAIT = 0.001


class TransferRate:
    """Watches one transfer.

    Args:
        seconds: How long one wait may take, and all waits together beyond what the bytes excuse.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds
        self._started = 0.0

    def start(self) -> float:
        """Begins a wait; returns how many seconds it may take."""
        self._started = time.monotonic()
        left = time_left()
        return self._seconds if left > self._seconds else max(left, _SHORTEST_WAIT)

    def moved(self, size: int) -> None:
        """Ends a wait in which so many bytes were received or sent.

        Raises:
            TransportTimeoutError: Too little was moved for too long, or the deadline has passed.
        """
        self._left -= time.monotonic() - self._started - size / MIN_BYTES_PER_SECOND
        if time_left() < 0:
            raise TransportTimeoutError("the deadline of the whole request has passed")
        if self._left < 0:
            raise TransportTimeoutError(f"slower than {MIN_BYTES_PER_SECOND} bytes a second")
