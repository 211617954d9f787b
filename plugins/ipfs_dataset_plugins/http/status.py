"""Typed errors for the statuses of responses that are no success."""

from __future__ import annotations

import email.utils
import http
import time
from datetime import timezone
from typing import TYPE_CHECKING

from ipfs_dataset_core import RateLimitedError, TransportError

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.body import Body

# Who answers so refuses us or this content for good: unauthorized, unpaid, forbidden, for legal reasons.
_FINAL_STATUS = frozenset({401, 402, 403, 451})
_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_ADVICE = {
    401: "it wants credentials: give auth='bearer:TOKEN' or auth='basic:USER:PASSWORD'",
    402: "it wants to be paid: name another source, gateways=[URL, …]",
    403: "it refuses us: check auth= and headers=, or name another source, gateways=[URL, …]",
    404: "it does not have it: check the address, or name another source, gateways=[URL, …]",
    408: "it waited too long: try again later, or name more sources, gateways=[URL, …]",
    410: "it does not serve this any more: name another source, gateways=[URL, …]",
    429: "it wants fewer requests: set max_rate= or max_requests=, or name more sources, gateways=[URL, …]",
    451: "it may not serve this for legal reasons: name another source, gateways=[URL, …]",
    503: "it is overloaded or being restarted: try again later, or name more sources, gateways=[URL, …]",
    504: "it did not find it in time: try again later, or name more sources, gateways=[URL, …]",
}


def error_of(body: Body, what: str, detail: str) -> TransportError:
    """Returns the typed error for a status that is no success.

    Args:
        body: The response.
        what: What the message calls the request.
        detail: What the server said.
    """
    message = f"{what}: HTTP {body.status} {detail}".rstrip() + advice(body.status)
    if body.status in _FINAL_STATUS:
        return TransportError(message, final=True)
    if "challenge" in body.headers.get("cf-mitigated", ""):
        return TransportError(f"{message} (this service is for browsers: name another)", final=True)
    if body.status == http.HTTPStatus.TOO_MANY_REQUESTS:
        sunset = _timestamp(body.headers.get("Sunset"))
        if sunset is not None and sunset < time.time():
            return TransportError(f"{message} (this service has ended: name another)", final=True)
        return RateLimitedError(message, retry_after=retry_after(body.headers.get("Retry-After")))
    return TransportError(message, retryable=body.status in _RETRYABLE_STATUS)


def advice(status: int) -> str:
    """Returns what the user can do about a status, in parentheses; "" where there is nothing to say."""
    known = _ADVICE.get(status)
    if known is None and status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        known = "the server fails: try again later, or name more sources, gateways=[URL, …]"
    return f" ({known})" if known else ""


def retry_after(value: str | None) -> float | None:
    """Returns the seconds of a Retry-After header in either form of RFC 9110, None where unusable."""
    digits = (value or "").strip()
    if digits.isascii() and digits.isdigit():
        return float(digits)
    then = _timestamp(value)
    return None if then is None else max(0.0, then - time.time())


def _timestamp(value: str | None) -> float | None:
    """Returns the moment that a header names; one without a zone is in UTC, as RFC 9110 says of all."""
    try:
        then = email.utils.parsedate_to_datetime(value or "")
        return then.replace(tzinfo=then.tzinfo or timezone.utc).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
