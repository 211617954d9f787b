"""How much is asked of one source at once and per second, shared out over the workers of a loader."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def loader_workers() -> int:
    """Returns how many DataLoader workers share the sources with this process, itself included."""
    data = sys.modules.get("torch.utils.data")  # where torch is not imported, this is no worker
    info = None if data is None else data.get_worker_info()
    return 1 if info is None else int(info.num_workers)


class Throttle:
    """Lets only so many requests through at once, and not more than so many a second.

    Every worker takes its part of what the loader may do, so none needs to know what the others do.

    Args:
        in_flight: Requests at once, of all workers.
        per_second: Requests a second, of all workers; None for as many as come.
        workers: How many workers there are.
    """

    def __init__(self, in_flight: int, per_second: float | None, workers: int) -> None:
        self._slots = threading.Semaphore(max(1, in_flight // workers))
        self._gap = 0.0 if per_second is None else workers / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Waits for a turn, and holds it."""
        with self._slots:
            if self._gap:
                time.sleep(self._wait())
            yield

    def _wait(self) -> float:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._gap
            return start - now
