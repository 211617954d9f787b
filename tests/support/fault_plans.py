"""Random plans of faults of several sources, and servers that follow them.

The first responses of a source fail in a few ways; then all fail in one way, or none. A source is good if it
has all blocks, serves them, and only its first responses with blocks fail, in retryable ways.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any, cast

import attrs
from hypothesis import strategies as st

from tests.support.api_server import ApiServer
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan, endless, html, redirect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.builders import Blocks
    from tests.support.http_server import Request

SUNSET = "Sat, 01 Jan 2022 00:00:00 GMT"
LONG = ("100", "99999999999999999999")
BULK = frozenset({"range", "car", "cat", "dag/export"})


@attrs.frozen
class Fault:
    """A fault.

    Args:
        name: The kind of fault.
        at: Its position in the body, as a fraction of the length.
        value: Its parameter, if any: a status, or the value of a header.
    """

    name: str
    at: float = 0.5
    value: Any = None


@attrs.frozen(kw_only=True)
class SourcePlan:
    """The behaviour of one source.

    Args:
        is_api: Whether it is the API of a node; otherwise it is a gateway.
        serves: The kinds of responses that a gateway serves: raw, car, plain.
        at_first: The faults of its first responses, in order.
        for_ever: The fault of each further response; None if these are correct.
        bulk_only: Whether `for_ever` only applies to ranges and CARs.
        has: The share of the blocks that it has.
    """

    is_api: bool = False
    serves: frozenset[str] = frozenset({"raw", "car", "plain"})
    at_first: tuple[Fault, ...] = ()
    for_ever: Fault | None = None
    bulk_only: bool = False
    has: float = 1.0

    @property
    def good(self) -> bool:
        faults = [fault for fault in (*self.at_first, self.for_ever) if fault is not None]
        if any(fault.value in LONG for fault in faults):
            return False  # who is told to wait longer than the deadline has to give up
        able = self.has == 1.0 and (self.is_api or "raw" in self.serves)
        lives = self.for_ever is None or self.bulk_only or self.for_ever.name in HARMLESS
        return able and lives and all(fault.name in PASSING for fault in self.at_first)

    @property
    def hopeless(self) -> bool:
        """Whether all its responses are unusable."""
        return self.for_ever is not None and self.for_ever.name in FATAL and not self.bulk_only


def _place(fault: Fault, plan: Plan) -> int:
    return int(fault.at * len(cast("bytes", plan.body)))


def _headers(plan: Plan, **headers: str) -> dict[str, str]:
    return {**plan.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}


def _trailer(_: Request, plan: Plan, fault: Fault) -> Plan:
    body = cast("bytes", plan.body)[: _place(fault, plan)]
    return attrs.evolve(plan, body=body, trailers={"X-Stream-Error": "context deadline exceeded"})


def _foreign(_: Request, plan: Plan, fault: Fault) -> Plan:
    return attrs.evolve(plan, body=fault.value)


def _limited(_: Request, __: Plan, fault: Fault) -> Plan:
    return Plan(status=429, headers={"Retry-After": fault.value})


def _length(_: Request, plan: Plan, fault: Fault) -> Plan:
    length = max(0, len(cast("bytes", plan.body)) + fault.value)
    if fault.value < 0:
        return attrs.evolve(plan, body=cast("bytes", plan.body)[:length])
    return attrs.evolve(plan, content_length=length)


FAULTS: Mapping[str, Callable[[Request, Plan, Fault], Plan]] = {
    "delay": lambda _, plan, fault: attrs.evolve(plan, delay=0.08 * fault.at),
    "stall": lambda _, plan, fault: attrs.evolve(plan, stall_at=_place(fault, plan)),
    "silence": lambda _, plan, fault: attrs.evolve(plan, delay=1.0),
    "cut": lambda _, plan, fault: attrs.evolve(plan, cut_at=_place(fault, plan)),
    "drop": lambda _, plan, fault: attrs.evolve(plan, cut_at=-1),
    "flip": lambda _, plan, fault: attrs.evolve(plan, flip_at=_place(fault, plan)),
    "foreign": _foreign,
    "nothing": lambda _, plan, fault: attrs.evolve(plan, body=b""),
    "more": lambda _, plan, fault: attrs.evolve(plan, body=cast("bytes", plan.body) + b"more"),
    "endless": lambda _, plan, fault: attrs.evolve(endless(), headers=plan.headers),
    "length": _length,
    "status": lambda _, plan, fault: Plan(status=fault.value, body=b"no"),
    "busy": lambda _, plan, fault: Plan(status=fault.value),
    "limited": _limited,
    "ended": lambda *_: Plan(status=429, headers={"Sunset": SUNSET}),
    "page": lambda _, plan, fault: html(status=fault.value),
    "trailer": _trailer,
    "moved": lambda _, plan, fault: attrs.evolve(
        plan, headers=_headers(plan, Content_Range=fault.value)
    ),
    "whole": lambda _, plan, fault: attrs.evolve(plan, status=200),
    "loop": lambda request, plan, fault: redirect(f"{request.path}?again", fault.value),
    "away": lambda _, plan, fault: redirect(fault.value),
    "untyped": lambda _, plan, fault: attrs.evolve(plan, headers={}),
    "garbled": lambda _, plan, fault: attrs.evolve(
        plan, headers=_headers(plan, Content_Encoding="gzip")
    ),
}
HARMLESS = frozenset({"delay", "untyped", "garbled"})
# What a good source may do at first: a client that asks again gets its answer.
PASSING = HARMLESS | {"stall", "silence", "drop", "busy", "limited"}
# What leaves nothing of an answer.
FATAL = frozenset({"silence", "drop", "status", "busy", "limited", "ended", "page", "away"})


def faults(foreign: list[bytes]) -> st.SearchStrategy[Fault]:
    """Returns all faults.

    Args:
        foreign: Valid blocks and CARs that are sent instead of others.
    """
    values = {
        "foreign": st.sampled_from(foreign),
        "length": st.sampled_from([-1000, -1, 1, 1000]),
        "status": st.sampled_from([400, 401, 402, 403, 404, 405, 406, 410, 451, 500, 501, 599]),
        "busy": st.sampled_from([500, 502, 503, 504, 408]),
        "limited": st.sampled_from(["0", "soon", "-1", SUNSET, *LONG]),
        "page": st.sampled_from([200, 403, 503]),
        "moved": st.sampled_from(["bytes 0-5/6", "bytes 1-2/*", "x", "bytes */9", ""]),
        "loop": st.sampled_from([301, 302, 303, 307, 308]),
        "away": st.sampled_from(["http://127.0.0.1:9/x", "https://gw.invalid/x", "//", "x:"]),
    }
    place = st.sampled_from([0.0, 0.1, 0.5, 0.9]) | st.floats(0, 1, exclude_max=True)
    return st.sampled_from(sorted(FAULTS)).flatmap(
        lambda name: st.builds(Fault, st.just(name), place, values.get(name, st.none()))
    )


def passing() -> st.SearchStrategy[Fault]:
    """Returns the faults that the first responses of a good source may have."""
    place = st.floats(0, 1, exclude_max=True)
    busy = st.builds(Fault, st.just("busy"), place, st.sampled_from([502, 503, 504]))
    limited = st.builds(Fault, st.just("limited"), place, st.sampled_from(["0", SUNSET, "soon"]))
    others = st.sampled_from(sorted(PASSING - {"busy", "limited"}))
    return st.one_of(busy, limited, st.builds(Fault, others, place))


def good_sources(foreign: list[bytes]) -> st.SearchStrategy[SourcePlan]:
    """Returns sources that deliver all blocks eventually."""
    others = st.frozensets(st.sampled_from(["car", "plain"]))
    return st.builds(
        SourcePlan,
        is_api=st.booleans(),
        serves=others.map(lambda kinds: kinds | {"raw"}),
        at_first=st.lists(passing(), max_size=2).map(tuple),
        for_ever=st.none() | faults(foreign),
        bulk_only=st.just(True),
    ).filter(lambda source: source.good)


def any_sources(foreign: list[bytes]) -> st.SearchStrategy[SourcePlan]:
    """Returns sources with any faults."""
    return st.builds(
        SourcePlan,
        is_api=st.booleans(),
        serves=st.frozensets(st.sampled_from(["raw", "car", "plain"])),
        at_first=st.lists(faults(foreign), max_size=3).map(tuple),
        for_ever=st.none() | faults(foreign),
        bulk_only=st.booleans(),
        has=st.sampled_from([0.0, 0.5, 1.0]),
    )


def server_of(source: SourcePlan, blocks: Blocks) -> GatewayServer | ApiServer:
    """Returns a server that follows a plan; it is not running yet."""
    count = int(len(blocks) * source.has)
    some = dict(itertools.islice(sorted(blocks.items()), count))
    turns = iter(source.at_first)
    lock = threading.Lock()

    def fault(request: Request, plan: Plan) -> Plan:
        whole = (
            plan if isinstance(plan.body, bytes) else attrs.evolve(plan, body=b"".join(plan.body))
        )
        with lock:
            chosen = next(turns, None)
        if chosen is None and (not source.bulk_only or _kind(request) in BULK):
            chosen = source.for_ever
        return whole if chosen is None else FAULTS[chosen.name](request, whole, chosen)

    if source.is_api:
        return ApiServer(some, fault=fault)
    return GatewayServer(
        some,
        fault=fault,
        serve_raw="raw" in source.serves,
        serve_car="car" in source.serves,
        serve_plain="plain" in source.serves,
    )


def _kind(request: Request) -> str:
    if request.path.startswith("/api/v0/"):
        return request.path.removeprefix("/api/v0/")
    return "range" if "range" in request.headers else request.query.get("format", "plain")
