"""A remote pinning service with the whole IPFS Pinning Service API over HTTP, with faults."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from tests.support.http_server import FaultServer, Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_server import Request

TOKEN = "s3cret-token-of-the-service"
DELEGATES = ["/ip4/203.0.113.9/tcp/4001/p2p/QmServicePeerId"]


class PinningServer(FaultServer):
    """Serves during its ``with`` block.

    Args:
        states: The states of a request, one for each query; the last one is kept.
        fault: Returns a response that replaces the correct one; None for the correct one.

    Attributes:
        pins: The requests for pins by identifier.
    """

    def __init__(
        self,
        *,
        states: tuple[str, ...] = ("queued", "pinning", "pinned"),
        fault: Callable[[Request], Plan | None] = lambda request: None,
    ) -> None:
        super().__init__(self._answer)
        self.pins: dict[str, dict[str, Any]] = {}
        self._states = states
        self._fault = fault
        self._left: dict[str, list[str]] = {}
        self._numbers = itertools.count(1)

    @property
    def address(self) -> str:
        return f"pinning+{self.url}/psa"

    def add(self, pin: dict[str, Any], states: tuple[str, ...] | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        identifier = f"request/{number}"
        self._left[identifier] = list(self._states if states is None else states)
        self.pins[identifier] = {
            "requestid": identifier,
            "status": self._left[identifier][0],
            "created": f"2026-11-29T12:00:00.{number:06}Z",
            "pin": pin,
            "delegates": DELEGATES,
            "info": {"status_details": "the queue is long"},
        }
        return self.pins[identifier]

    def _answer(self, request: Request) -> Plan:
        if (plan := self._fault(request)) is not None:
            return plan
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return failure(401, "UNAUTHORIZED", f"not with {request.headers.get('authorization')}")
        path = request.path.removeprefix("/psa")
        if path == "/pins":
            return self._add(request) if request.method == "POST" else self._list(request.query)
        return self._of_one(request, path)

    def _of_one(self, request: Request, path: str) -> Plan:
        identifier = path.removeprefix("/pins/").replace("%2F", "/")
        if identifier not in self.pins:
            return failure(404, "NOT_FOUND", "there is no such request")
        if request.method == "DELETE":
            del self.pins[identifier]
            return Plan(status=202)
        if request.method == "POST":
            del self.pins[identifier]
            return self._add(request)
        left = self._left[identifier]
        if len(left) > 1:
            left.pop(0)
        self.pins[identifier]["status"] = left[0]
        return answer(self.pins[identifier])

    def _add(self, request: Request) -> Plan:
        assert request.headers["content-type"] == "application/json"
        return answer(self.add(json.loads(request.body)), 202)

    def _list(self, query: dict[str, str]) -> Plan:
        states = query.get("status", "pinned").split(",")
        found = [
            pin
            for pin in sorted(self.pins.values(), key=lambda pin: pin["created"], reverse=True)
            if pin["status"] in states
            and query.get("cid", pin["pin"]["cid"]) == pin["pin"]["cid"]
            and pin["created"] < query.get("before", "9")
        ]
        page = found[: int(query.get("limit", "10"))]
        return answer({"count": len(found), "results": page})


def answer(value: Any, status: int = 200) -> Plan:
    headers = {"Content-Type": "application/json"}
    return Plan(status=status, headers=headers, body=json.dumps(value).encode())


def failure(status: int, reason: str, details: str = "") -> Plan:
    return answer({"error": {"reason": reason, "details": details}}, status)
