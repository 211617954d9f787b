"""Limits the concurrent requests to one source; the limit shrinks after the source has limited requests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import time_left

if TYPE_CHECKING:
    from types import TracebackType


class RequestSlots:
    """A semaphore whose number of permits shrinks and grows like TCP's congestion window. Thread-safe.

    When a source limits requests, all requests that wait for it would otherwise be sent at once after the
    waiting time, and most of them rejected again. Instead, a single request is sent, and one more
    concurrently after each round of successful requests.

    Args:
        most: Maximum number of permits.
        name: Name of the source for messages.
    """

    def __init__(self, most: int, name: str) -> None:
        self._name = name
        self._most = float(most)
        self._allowed = float(most)
        self._in_use = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        """Waits for a permit.

        Raises:
            TransportTimeoutError: There was no permit before the deadline.
        """
        with self._changed:
            seconds = min(max(0.0, time_left()), threading.TIMEOUT_MAX)
            if not self._changed.wait_for(lambda: self._in_use < int(self._allowed), seconds):
                raise TransportTimeoutError(
                    f"{self._name}: the maximum number of concurrent requests, {self._in_use}, was "
                    "in use until the deadline: raise max_requests=, which all workers share, or "
                    "deadline="
                )
            self._in_use += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Returns the permit."""
        with self._changed:
            self._in_use -= 1
            self._changed.notify()

    def shrink(self) -> None:
        """Reduces the limit to one concurrent request."""
        with self._changed:
            self._allowed = 1.0

    def grow(self) -> None:
        """Increases the limit by one after as many calls as the current limit."""
        if self._allowed >= self._most:  # the common case, without the lock
            return
        with self._changed:
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)
            self._changed.notify_all()
