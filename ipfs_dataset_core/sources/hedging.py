"""Asks one source after the other, the next one also when an answer is late: the first good answer counts."""

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
# How many second requests may be on their way at once: a source that is slow for everything must not
# double the load on the others.
_MAX_HEDGES = 4


class Outcome(Generic[T]):
    """What came of asking several sources.

    Attributes:
        answer: The first good one.
        winner: Which attempt gave it, None where all failed.
        late: The attempts that were still on their way then.
        failures: What those that failed raised, by attempt.
    """

    def __init__(self) -> None:
        self.answer: T | None = None
        self.winner: int | None = None
        self.late: list[int] = []
        self.failures: dict[int, Exception] = {}


def in_turn(attempts: Sequence[Callable[[], T]]) -> Outcome[T]:
    """Asks one source after the other, here and now, until one answers."""
    race: Outcome[T] = Outcome()
    for number, attempt in enumerate(attempts):
        if race.failures and time_left() <= 0:
            break
        try:
            race.answer = attempt()
        except FAILURES as error:
            race.failures[number] = error
        else:
            race.winner = number
            break
    return race


class HedgedRequests:
    """Runs races in threads of its own.

    Args:
        size: How many requests at once.
    """

    def __init__(self, size: int) -> None:
        self._pool = DaemonPool(size, "ipfs-dataset-race")
        self._permits = threading.Semaphore(_MAX_HEDGES)

    def run(self, attempts: Sequence[Callable[[], T]], patience: Sequence[float]) -> Outcome[T]:
        """Asks the first source, the next one when it failed, or is late and few others are.

        Args:
            attempts: Each asks one source.
            patience: Seconds after which each is late.
        """
        race: Outcome[T] = Outcome()
        results: queue.SimpleQueue[tuple[int, T | None, Exception | None]] = queue.SimpleQueue()
        running, hedges = {0}, 0
        self._start(0, attempts[0], results)
        try:
            while running:
                started = len(running) + len(race.failures)
                may_hedge = started < len(attempts)
                wait = min(time_left(), patience[started - 1] if may_hedge else time_left())
                try:
                    number, answer, error = results.get(timeout=_bounded(wait))
                except queue.Empty:
                    if time_left() <= 0:
                        self._give_up(race, running)
                    elif may_hedge and self._permits.acquire(blocking=False):
                        hedges += 1
                        running.add(started)
                        self._start(started, attempts[started], results)
                    continue
                running.discard(number)
                if error is None:
                    race.answer, race.winner, race.late = answer, number, sorted(running)
                    return race
                if not isinstance(error, FAILURES):
                    raise error
                race.failures[number] = error
                if started < len(attempts):
                    running.add(started)
                    self._start(started, attempts[started], results)
        finally:
            for _ in range(hedges):
                self._permits.release()
        return race

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
            except Exception as error:  # noqa: BLE001 - goes to whoever waits
                results.put((number, None, error))

        try:
            self._pool.submit(run)
        except RuntimeError:  # closed: who still reads does so without help
            run()

    @staticmethod
    def _give_up(race: Outcome[T], running: set[int]) -> None:
        for number in sorted(running):
            race.failures[number] = TransportTimeoutError("did not answer before the deadline")
        running.clear()


def _bounded(seconds: float) -> float | None:
    """Returns a time-out as the queue takes it: None for none, and never less than nothing."""
    return None if seconds == math.inf else max(0.0, seconds)


class Latencies:
    """How long a source takes, and from when on an answer is late."""

    _KEPT = 32
    _ENOUGH = 8
    # Until something is known, and the least in any case: a hedge is for tails, not for jitter.
    _DEFAULT_SECONDS = 1.0
    _LEAST_SECONDS = 0.05

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Notes how long an answer took."""
        with self._lock:
            self._seconds = [*self._seconds[1 - self._KEPT :], seconds]

    def hedge_delay(self) -> float:
        """Returns after how many seconds an answer is late: half as much again as nearly all took."""
        with self._lock:
            known = sorted(self._seconds)
        if len(known) < self._ENOUGH:
            return self._DEFAULT_SECONDS
        return max(self._LEAST_SECONDS, 1.5 * known[int(0.95 * (len(known) - 1))])
