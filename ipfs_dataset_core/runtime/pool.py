"""Pools of daemon threads, which do not delay the interpreter's exit like those of `concurrent.futures`."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.runtime.deadlines import time_left, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds after which a thread without work ends.
IDLE_SECONDS = 10.0


class DaemonPool:
    """Runs functions in daemon threads, which are started when there is work and none is idle. Thread-safe.

    Args:
        size: Maximum number of threads, or a function that returns it, if it may change.
        name: Prefix of the threads' names.
        patience: Seconds after which an idle thread ends, because owners are often not closed.
        retired: Called by a thread that ends because it was idle.
    """

    def __init__(
        self,
        size: int | Callable[[], int],
        name: str,
        patience: float = IDLE_SECONDS,
        retired: Callable[[], None] = lambda: None,
    ) -> None:
        self._size = size if callable(size) else lambda: size
        self._name = name
        self._work: deque[tuple[Callable[[], None], Callable[[], None] | None]] = deque()
        self._condition = threading.Condition()
        self._idle = 0
        self._started = 0
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._patience = patience
        self._retired = retired

    def submit(self, work: Callable[[], None], dropped: Callable[[], None] | None = None) -> None:
        """Runs a function soon; the function must handle its own errors.

        Args:
            work: The function.
            dropped: Called instead of `work` if the pool is closed before it starts, for example to notify a
                waiting thread.

        Raises:
            RuntimeError: The pool is closed, or has no threads and cannot start one.
        """
        with self._condition:
            if self._closed:
                raise RuntimeError(f"{self._name} is closed")
            self._work.append((work, dropped))
            if self._idle >= len(self._work):
                self._condition.notify()
            elif self._started < self._size():
                self._start_thread()

    def _start_thread(self) -> None:
        self._started += 1
        # In an empty context, because free-threaded Python copies that of the caller, with its deadline.
        thread = threading.Thread(
            target=Context().run,
            args=(self._run,),
            name=f"{self._name}-{self._started}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the interpreter is ending
            self._started -= 1
            if not self._started:
                self._work.pop()
                raise
            # Otherwise a busy thread takes the work later.
        else:
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]

    def close(self) -> None:
        """Discards work that has not started, and lets the threads end."""
        with self._condition:
            self._closed = True
            left, self._work = self._work, deque()
            self._condition.notify_all()
        for _, dropped in left:
            if dropped is not None:
                dropped()

    def join(self, seconds: float) -> None:
        """Waits until the threads of a closed pool have ended, for at most `seconds`."""
        end = time.monotonic() + min(seconds, threading.TIMEOUT_MAX)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while work := self._next():
            try:
                work()
            except Exception:
                # A bug. Ending the thread would make everything that waits for it, and all later work, wait
                # forever.
                log.exception("Work of %s failed", self._name)
            del work  # otherwise its references would live while this thread is idle
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
            return self._work.popleft()[0]


def settle(future: Future[T], function: Callable[[], T]) -> None:
    """Completes a future with the result or exception of a function, unless it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
        future.set_exception(error)


def call_at_once(function: Callable[[T], object], items: Sequence[T], size: int, name: str) -> None:
    """Calls a function with each item, several at once, and waits until no call is left.

    Args:
        function: What to call.
        items: What to call it with.
        size: Number of threads at the most.
        name: Start of their names.

    Raises:
        Exception: What the first of the calls that failed raised; of items behind it some may be left out.
    """
    pool = DaemonPool(size, name)
    calls: list[Future[object]] = []
    try:
        for item in items:
            calls.append(Future())
            work = partial(settle, calls[-1], partial(function, item))
            try:
                pool.submit(work)
            except RuntimeError:  # the system refuses a thread
                work()
        for call in calls:
            call.result()
    finally:
        pool.close()
        pool.join(threading.TIMEOUT_MAX)


class TimedWork(DaemonPool):
    """A pool whose work has a deadline: by default the time that its caller has left.

    Args:
        size: Returns the maximum number of threads, which may change.
        name: Prefix of the threads' names.
        seconds: Maximum duration of any work.
        retired: Called by a thread that ends because it was idle.
    """

    def __init__(
        self, size: Callable[[], int], name: str, seconds: float, retired: Callable[[], None]
    ) -> None:
        super().__init__(size, name, retired=retired)
        self._seconds = seconds

    def end(self) -> float:
        """Returns the time by which work that starts now must be done, in seconds on the monotonic clock."""
        return time.monotonic() + self._seconds

    def half(self) -> float:
        """Returns the midpoint of the time left for the current work, in seconds on the monotonic clock."""
        return time.monotonic() + min(time_left(), self._seconds) / 2

    def submit(  # type: ignore[override]
        self, work: Callable[[], None], end: float | None = None
    ) -> None:
        """Runs a function soon; in the calling thread if the pool is closed.

        Args:
            work: The function, which handles its own errors.
            end: The time by which it must be done, on the monotonic clock; None for the time that the caller
                has left.
        """
        if end is None:
            end = min(self.end(), time.monotonic() + time_left())

        def timed() -> None:
            with until(end):
                work()

        try:
            super().submit(timed)
        except RuntimeError:  # closed, or no thread available: run it in this thread
            timed()
