"""Requests to the test server, and plans of its responses."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PIECE = 64 * 1024


@attrs.frozen(kw_only=True)
class Request:
    """A request of a client.

    Attributes:
        path: The path as sent, with percent-encoding.
        query: The decoded query; the last of several values of one name.
        headers: Headers by lower-case name.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@attrs.frozen(kw_only=True)
class Plan:
    """A response; positions are byte positions in the body.

    Args:
        status: Its status.
        headers: Its headers.
        body: Its body; an iterable is sent in chunks, and may be endless.
        delay: Seconds before the first byte of the response.
        stall_at: Position at which sending stops while the connection stays open.
        cut_at: Position at which the connection is closed; -1 is before the status line.
        flip_at: Position of the byte whose lowest bit is flipped.
        content_length: A declared length that replaces the correct one.
        trailers: Headers after the body, which is then sent in chunks.
    """

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes | Iterable[bytes] = b""
    delay: float = 0
    stall_at: int | None = None
    cut_at: int | None = None
    flip_at: int | None = None
    content_length: int | None = None
    trailers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def chunked(self) -> bool:
        return bool(self.trailers) or not isinstance(self.body, bytes)


def redirect(location: str, status: int = 302) -> Plan:
    return Plan(status=status, headers={"Location": location})


def rate_limited(retry_after: str | None = None) -> Plan:
    return Plan(status=429, headers={} if retry_after is None else {"Retry-After": retry_after})


def html(text: str = "<html><body>Please sign in</body></html>", status: int = 200) -> Plan:
    return Plan(status=status, headers={"Content-Type": "text/html"}, body=text.encode())


def endless(piece: bytes = bytes(PIECE)) -> Plan:
    return Plan(body=itertools.repeat(piece))


def in_turn(*plans: Plan) -> Callable[[Request], Plan]:
    """Returns a handler that answers with each plan once, then always with the last one."""
    lock, left = threading.Lock(), list(plans)

    def answer(_: Request) -> Plan:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer


def pieces(body: bytes | Iterable[bytes]) -> Iterable[bytes]:
    if not isinstance(body, bytes):
        return body
    return (body[start : start + PIECE] for start in range(0, len(body), PIECE))


def flipped(piece: bytes, flip_at: int | None, position: int) -> bytes:
    if flip_at is None or not position <= flip_at < position + len(piece):
        return piece
    turned = bytearray(piece)
    turned[flip_at - position] ^= 1
    return bytes(turned)
