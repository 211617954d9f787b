"""How many requests may be under way at one source: fewer after it asked us to wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import time_left

if TYPE_CHECKING:
    from types import TracebackType


class RequestSlots:
    """A semaphore whose number of permits falls and grows as TCP's congestion window does. Thread-safe.

    When a source asks us to wait, all requests that wait for it would otherwise be sent at once when the time
    is over, and most of them refused again. So one is sent then, and with each round of requests that succeed
    one more at once.

    Args:
        most: Number of permits at the most.
        name: The source, for errors.
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
            TransportTimeoutError: There was none before the deadline.
        """
        with self._changed:
            seconds = min(max(0.0, time_left()), threading.TIMEOUT_MAX)
            if not self._changed.wait_for(lambda: self._in_use < int(self._allowed), seconds):
                raise TransportTimeoutError(
                    f"{self._name}: as many other requests as are allowed at once, {self._in_use}, were "
                    "under way until the deadline: raise max_requests=, which all workers share, or deadline="
                )
            self._in_use += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives the permit back."""
        with self._changed:
            self._in_use -= 1
            self._changed.notify()

    def shrink(self) -> None:
        """Lets one request be under way at once."""
        with self._changed:
            self._allowed = 1.0

    def grow(self) -> None:
        """Lets one more be under way at once after as many calls as may be now."""
        if self._allowed >= self._most:  # the usual case, without the lock
            return
        with self._changed:
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)
            self._changed.notify_all()
