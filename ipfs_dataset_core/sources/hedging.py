"""Hedged requests: if a response is late, the next source is tried too; the first good response counts."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.errors import TransportError, TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.runtime.pool import DaemonPool
from ipfs_dataset_core.sources.source import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipfs_dataset_core.sources.source import Source

T = TypeVar("T")

# Maximum number of concurrent hedges: a source that is always slow must not double the load on the others.
_MAX_HEDGES = 4


class HedgedRequests:
    """Sends requests to several sources in threads of its own. Thread-safe.

    Args:
        size: Number of concurrent requests, or a function that returns it.

    Attributes:
        permits: One is held for each request beyond the first one.
    """

    def __init__(self, size: int | Callable[[], int]) -> None:
        self._pool = DaemonPool(size, "ipfs-dataset-race")
        self.permits = threading.Semaphore(_MAX_HEDGES)

    def ask(
        self,
        sources: Sequence[Source],
        request: Callable[[Source], T],
        failures: dict[Source, Exception],
    ) -> tuple[Source, T] | None:
        """Requests from the first source, and from the next if one fails, or is late while few others are.

        Args:
            sources: The sources, in order.
            request: Makes a request to one source.
            failures: Receives the error of each source that fails, or does not respond before the deadline.

        Returns:
            The source with the first good response, and the response; None if there is none.
        """
        results: queue.SimpleQueue[tuple[Source, Any, Exception | None]] = queue.SimpleQueue()
        waiting = deque(sources)
        running: list[Source] = []
        hedges = 0

        def start_next() -> None:
            running.append(waiting.popleft())
            self._start(running[-1], request, results)

        start_next()
        try:
            while running:
                wait = min(time_left(), running[-1].hedge_delay() if waiting else math.inf)
                try:
                    source, answer, error = results.get(timeout=_bounded(wait))
                except queue.Empty:
                    if time_left() <= 0:
                        late = TransportTimeoutError("did not answer before the deadline")
                        failures.update(dict.fromkeys(running, late))
                        return None
                    if waiting and self.permits.acquire(blocking=False):
                        hedges += 1
                        start_next()
                    continue
                running.remove(source)
                if error is None:
                    for other in running:
                        other.was_late()
                    return source, answer
                if not isinstance(error, FAILURES):
                    raise error
                failures[source] = error
                if waiting:
                    start_next()
        finally:
            for _ in range(hedges):
                self.permits.release()
        return None

    def start(self, work: Callable[[], None], dropped: Callable[[], None]) -> None:
        """Runs a function soon, with the time that the caller has left; it must handle its own errors.

        Args:
            work: The function.
            dropped: Called instead if this object is closed before the function starts.
        """
        end = time.monotonic() + time_left()

        def timed() -> None:
            with until(end):
                work()

        try:
            self._pool.submit(timed, dropped)
        except RuntimeError:  # closed: run in the calling thread
            timed()

    def close(self) -> None:
        """Lets the threads end."""
        self._pool.close()

    def _start(
        self,
        source: Source,
        request: Callable[[Source], Any],
        results: queue.SimpleQueue[tuple[Source, Any, Exception | None]],
    ) -> None:
        def run() -> None:
            try:
                results.put((source, source.ask(request), None))
            except Exception as error:  # noqa: BLE001 - raised in the waiting thread
                results.put((source, None, error))

        def dropped() -> None:
            closed = TransportError("was closed before the request was sent")
            results.put((source, None, closed))

        self.start(run, dropped)


def _bounded(seconds: float) -> float | None:
    """Converts a time-out in seconds for a queue: None for no limit, never negative."""
    return None if seconds == math.inf else max(0.0, seconds)
