"""Counts round trips by the requests that a client sends before it has a response, independently of time."""

from __future__ import annotations

import threading
import time
from itertools import accumulate
from typing import TYPE_CHECKING

from tests.support.fetching import PATIENT_SECONDS

if TYPE_CHECKING:
    from tests.support.http_server import Plan, Request


class RoundTrips:
    """A fault of a `GatewayServer` that delays responses until all requests of a round trip have arrived.

    A client that waits for a response before it sends all of them waits too long, which `check` reports.

    Args:
        sizes: Number of requests of each round trip.
        delay: Minimum number of seconds of each response, as from a distant server.

    Attributes:
        requests: The requests in the order of arrival.
    """

    def __init__(self, *sizes: int, delay: float = 0.05) -> None:
        self.requests: list[Request] = []
        self._ends = list(accumulate(sizes))
        self._delay = delay
        self._late: list[str] = []
        self._arrival = threading.Condition()

    def __call__(self, request: Request, plan: Plan) -> Plan:
        with self._arrival:
            self.requests.append(request)
            number = len(self.requests)
            self._arrival.notify_all()
            # What comes later than expected is not held back; `check` finds it.
            end = next((end for end in self._ends if end >= number), 0)
            if not self._arrival.wait_for(lambda: len(self.requests) >= end, PATIENT_SECONDS):
                self._late.append(f"{described(request)} was not sent together with others")
        time.sleep(self._delay)
        return plan

    def expect(self, *sizes: int) -> None:
        """Clears the recorded requests, and expects other round trips."""
        with self._arrival:
            self.requests.clear()
            self._ends = list(accumulate(sizes))

    def check(self) -> None:
        """Fails if the round trips were not the expected ones."""
        sent = list(map(described, self.requests))
        assert not self._late, (self._late, sent)
        assert len(sent) == self._ends[-1], sent


def described(request: Request) -> str:
    """Returns the kind of a request: raw, car, or the range."""
    return request.query.get("format") or request.headers.get("range", "plain")
