"""Counts round trips by what a client sends before it has an answer; nothing depends on how fast it is."""

from __future__ import annotations

import threading
import time
from itertools import accumulate
from typing import TYPE_CHECKING

from tests.support.fetching import PATIENT_SECONDS

if TYPE_CHECKING:
    from tests.support.http_server import Plan, Request


class RoundTrips:
    """A fault of a `GatewayServer` that holds answers back until all requests of a round trip have come.

    A client that waits for an answer before it sends all of them waits too long, which `check` reports.

    Args:
        sizes: How many requests each round trip has.
        delay: Seconds that each answer takes at least, as from a distant server.

    Attributes:
        requests: What came, in the order of arrival.
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
        """Forgets what came so far, and expects other round trips."""
        with self._arrival:
            self.requests.clear()
            self._ends = list(accumulate(sizes))

    def check(self) -> None:
        """Fails where there were other round trips than expected."""
        sent = list(map(described, self.requests))
        assert not self._late, (self._late, sent)
        assert len(sent) == self._ends[-1], sent


def described(request: Request) -> str:
    """Returns the kind of a request: raw, car, or the range."""
    return request.query.get("format") or request.headers.get("range", "plain")
