"""A pool of daemon threads: unlike `concurrent.futures`, it never delays the end of the interpreter."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


IDLE_SECONDS = 10.0


class DaemonPool:
    """Runs functions in up to `size` threads, started when there is work and none is idle.

    Args:
        size: How many threads at the most.
        name: What the threads are called.
        patience: Seconds after which a thread without work ends, since owners are often just forgotten.
        retired: Called by a thread that ends so.
    """

    def __init__(
        self,
        size: int,
        name: str,
        patience: float = IDLE_SECONDS,
        retired: Callable[[], None] = lambda: None,
    ) -> None:
        self._size = size
        self._name = name
        self._work: deque[Callable[[], None]] = deque()
        self._condition = threading.Condition()
        self._idle = 0
        self._started = 0
        self._closed = False
        self._patience = patience
        self._retired = retired

    def submit(self, work: Callable[[], None]) -> None:
        """Runs `work` soon; it handles its own errors."""
        with self._condition:
            if self._closed:
                raise RuntimeError(f"{self._name} is closed")
            self._work.append(work)
            if self._idle >= len(self._work):
                self._condition.notify()
            elif self._started < self._size:
                self._started += 1
                threading.Thread(
                    target=self._run, name=f"{self._name}-{self._started}", daemon=True
                ).start()

    def close(self) -> None:
        """Drops work that has not begun and lets the threads end."""
        with self._condition:
            self._closed = True
            self._work.clear()
            self._condition.notify_all()

    def _run(self) -> None:
        while work := self._next():
            work()
            del work  # or what it refers to would live for as long as this thread idles
        self._retired()

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            while not self._work:
                if self._closed:
                    return None
                self._idle += 1
                notified = self._condition.wait(self._patience)
                self._idle -= 1
                if not notified and not self._work:
                    self._started -= 1
                    return None
            return self._work.popleft()
