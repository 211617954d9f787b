"""Work in background threads that has to be done in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.runtime.pool import DaemonPool

if TYPE_CHECKING:
    from collections.abc import Callable


class TimedWork:
    """Runs functions in threads, each on the time of who asks for it.

    Args:
        size: How many threads at the most.
        name: What the threads are called.
        seconds: How long anything may take.
        retired: Called by a thread that ends for want of work.
    """

    def __init__(self, size: int, name: str, seconds: float, retired: Callable[[], None]) -> None:
        self._pool = DaemonPool(size, name, retired=retired)
        self._seconds = seconds

    def end(self) -> float:
        """Returns when what begins now has to be done, on the monotonic clock."""
        return time.monotonic() + self._seconds

    def half(self) -> float:
        """Returns when half of the time of what runs now is over."""
        return time.monotonic() + min(time_left(), self._seconds) / 2

    def submit(self, work: Callable[[], None], end: float | None = None) -> None:
        """Runs `work` soon, on what time the caller has left, or up to `end`."""
        if end is None:
            end = min(self.end(), time.monotonic() + time_left())

        def timed() -> None:
            with until(end):
                work()

        try:
            self._pool.submit(timed)
        except RuntimeError:  # closed: who still reads does so without help
            timed()

    def close(self) -> None:
        """Drops work that has not begun, and lets the threads end."""
        self._pool.close()
