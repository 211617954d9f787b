"""Which source to ask first: one that failed rests for a while, one that asked us to wait is left alone."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import (
    RateLimitedError,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.sources.retry import wait_at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.interfaces import Transport

FAILED_SECONDS = 10.0
WRONG_BYTES_SECONDS = 300.0


class Health:
    """What a process learnt about its sources.

    The user's order of preference holds among sources that work; one that rests is asked last, so that a dead
    one costs its time-out now and then, not for every block.
    """

    def __init__(self) -> None:
        self._rests_until: dict[Transport, float] = {}
        self._limited: dict[Transport, float] = {}
        self._lock = threading.Lock()

    def in_order(self, transports: Sequence[Transport]) -> list[Transport]:
        """Returns the transports, those that rest last."""
        now = time.monotonic()
        with self._lock:
            return sorted(transports, key=lambda t: self._rests_until.get(t, 0.0) > now)

    def check(self, transport: Transport) -> None:
        """Returns where the source may be asked.

        Raises:
            RateLimitedError: It asked us to wait longer than until now.
        """
        with self._lock:
            left = self._limited.get(transport, 0.0) - time.monotonic()
        if left > 0:
            raise RateLimitedError(
                f"{transport.name}: asked us to wait, for {left:.1f} seconds more", retry_after=left
            )

    def worked(self, transport: Transport) -> None:
        """Notes that a source delivered."""
        if transport in self._rests_until:
            with self._lock:
                self._rests_until.pop(transport, None)

    def late(self, transport: Transport) -> None:
        """Notes that another source answered before one that was asked first."""
        with self._lock:
            rests = max(self._rests_until.get(transport, 0.0), time.monotonic() + FAILED_SECONDS)
            self._rests_until[transport] = rests

    def failed(self, transport: Transport, error: Exception) -> None:
        """Notes that a source failed; that it lacks a block, or serves no ranges, is no failure."""
        if isinstance(error, RateLimitedError):
            wait = wait_at_least(error)
            with self._lock:
                self._limited[transport] = time.monotonic() + wait
        elif isinstance(error, VerificationError):
            wait = WRONG_BYTES_SECONDS
        elif isinstance(error, TransportError) and error.final:
            wait = math.inf
        elif isinstance(error, TransportError) and error.retryable:
            wait = FAILED_SECONDS
        else:
            return
        with self._lock:
            self._rests_until[transport] = time.monotonic() + wait
