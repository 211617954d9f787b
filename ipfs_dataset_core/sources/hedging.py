"""Hedged requests: the next source is asked too when an answer is late, and the first good answer counts."""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from ipfs_dataset_core.errors import (
    FormatError,
    LimitError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.runtime.pool import DaemonPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

FAILURES = (TransportError, VerificationError, LimitError, FormatError)
# Hedging requests at once: a source that is slow for everything must not double the load on the others.
_MAX_HEDGES = 4


class Outcome(Generic[T]):
    """The outcome of requests to several sources.

    Attributes:
        answer: The first good one.
        winner: Number of the attempt that gave it, None where all failed.
        late: Numbers of the attempts that were still running then.
        failures: The errors of those that failed, by number.
    """

    def __init__(self) -> None:
        self.answer: T | None = None
        self.winner: int | None = None
        self.late: list[int] = []
        self.failures: dict[int, Exception] = {}


def in_turn(attempts: Sequence[Callable[[], T]]) -> Outcome[T]:
    """Asks one source after the other, in this thread, until one answers."""
    outcome: Outcome[T] = Outcome()
    for number, attempt in enumerate(attempts):
        if outcome.failures and time_left() <= 0:
            break
        try:
            outcome.answer = attempt()
        except FAILURES as error:
            outcome.failures[number] = error
        else:
            outcome.winner = number
            break
    return outcome


class HedgedRequests:
    """Asks several sources in threads of its own. Thread-safe.

    Args:
        size: Number of requests at once.
    """

    def __init__(self, size: int) -> None:
        self._pool = DaemonPool(size, "ipfs-dataset-race")
        self._permits = threading.Semaphore(_MAX_HEDGES)

    def run(self, attempts: Sequence[Callable[[], T]], patience: Sequence[float]) -> Outcome[T]:
        """Asks the first source, and the next where one failed, or is late while few others are.

        Args:
            attempts: Each asks one source.
            patience: Seconds after which each attempt is late.
        """
        outcome: Outcome[T] = Outcome()
        results: queue.SimpleQueue[tuple[int, T | None, Exception | None]] = queue.SimpleQueue()
        running, hedges = {0}, 0
        self._start(0, attempts[0], results)
        try:
            while running:
                started = len(running) + len(outcome.failures)
                may_hedge = started < len(attempts)
                wait = min(time_left(), patience[started - 1] if may_hedge else time_left())
                try:
                    number, answer, error = results.get(timeout=_bounded(wait))
                except queue.Empty:
                    if time_left() <= 0:
                        self._give_up(outcome, running)
                    elif may_hedge and self._permits.acquire(blocking=False):
                        hedges += 1
                        running.add(started)
                        self._start(started, attempts[started], results)
                    continue
                running.discard(number)
                if error is None:
                    outcome.answer, outcome.winner, outcome.late = answer, number, sorted(running)
                    return outcome
                if not isinstance(error, FAILURES):
                    raise error
                outcome.failures[number] = error
                if started < len(attempts):
                    running.add(started)
                    self._start(started, attempts[started], results)
        finally:
            for _ in range(hedges):
                self._permits.release()
        return outcome

    def close(self) -> None:
        """Lets the threads end."""
        self._pool.close()

    def _start(
        self,
        number: int,
        attempt: Callable[[], T],
        results: queue.SimpleQueue[tuple[int, T | None, Exception | None]],
    ) -> None:
        end = time.monotonic() + time_left()

        def run() -> None:
            try:
                with until(end):
                    results.put((number, attempt(), None))
            except Exception as error:  # noqa: BLE001 - raised in the thread that waits
                results.put((number, None, error))

        try:
            self._pool.submit(run)
        except RuntimeError:  # closed: what is still read is read without other threads
            run()

    @staticmethod
    def _give_up(outcome: Outcome[T], running: set[int]) -> None:
        for number in sorted(running):
            outcome.failures[number] = TransportTimeoutError("did not answer before the deadline")
        running.clear()


def _bounded(seconds: float) -> float | None:
    """Returns a time-out in seconds for a queue: None for none, never less than 0."""
    return None if seconds == math.inf else max(0.0, seconds)
