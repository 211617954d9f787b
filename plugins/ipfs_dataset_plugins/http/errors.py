"""Typed errors for failed requests: for the statuses of responses, and for the exceptions of urllib3."""

from __future__ import annotations

import email.utils
import http
import http.client
import ssl
import time
from datetime import timezone
from typing import TYPE_CHECKING

from ipfs_dataset_core import RateLimitedError, TransportError, TransportTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping

# The server permanently denies access: unauthorized, payment required, forbidden, legal reasons.
_FINAL_STATUS = frozenset({401, 402, 403, 451})
_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_ADVICE = {
    401: "it requires credentials: set auth='bearer:TOKEN' or auth='basic:USER:PASSWORD'",
    402: "it requires payment: add another source, gateways=[URL, …]",
    403: "it denies access: check auth= and headers=, or add another source, gateways=[URL, …]",
    404: "it does not have it: check the address, or add another source, gateways=[URL, …]",
    408: "it timed out waiting for the request: try again later, or add more sources, gateways=[URL, …]",
    410: "it no longer serves this: add another source, gateways=[URL, …]",
    429: "it limits requests: set max_rate= or max_requests=, or add more sources, gateways=[URL, …]",
    451: "it may not serve this for legal reasons: add another source, gateways=[URL, …]",
    503: "it is overloaded or being restarted: try again later, or add more sources, gateways=[URL, …]",
    504: "it did not find it in time: try again later, or add more sources, gateways=[URL, …]",
}
_MAX_CAUSES = 8


def error_for_status(
    status: int, headers: Mapping[str, str], request: str, detail: str
) -> TransportError:
    """Returns the typed error for a response that is not a success.

    Args:
        status: Of the response.
        headers: Its header fields.
        request: Name of the request in the message.
        detail: The error text of the server, as `Response.shown` returns it.
    """
    message = f"{request}: HTTP {status} {detail}".rstrip() + advice(status)
    if status in _FINAL_STATUS:
        return TransportError(message, final=True)
    if "challenge" in headers.get("cf-mitigated", ""):
        return TransportError(
            f"{message} (this service is for browsers only: use another)", final=True
        )
    if status == http.HTTPStatus.TOO_MANY_REQUESTS:
        sunset = _timestamp(headers.get("sunset"))
        if sunset is not None and sunset < time.time():
            return TransportError(f"{message} (this service has ended: use another)", final=True)
        return RateLimitedError(message, retry_after=retry_after(headers.get("retry-after")))
    return TransportError(message, retryable=status in _RETRYABLE_STATUS)


def advice(status: int) -> str:
    """Returns what the user can do about a status, in parentheses; "" if nothing is known."""
    known = _ADVICE.get(status)
    if known is None and status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        known = "the server fails: try again later, or add more sources, gateways=[URL, …]"
    return f" ({known})" if known else ""


def retry_after(value: str | None) -> float | None:
    """Returns the seconds of a Retry-After header in either form of RFC 9110; None if it is unusable."""
    digits = (value or "").strip()
    if digits.isascii() and digits.isdigit():
        return float(digits)
    then = _timestamp(value)
    return None if then is None else max(0.0, then - time.time())


def _timestamp(value: str | None) -> float | None:
    """Returns the time of a date in a header; a date without a time zone is in UTC, as RFC 9110 demands."""
    try:
        then = email.utils.parsedate_to_datetime(value or "")
        return then.replace(tzinfo=then.tzinfo or timezone.utc).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def translated(error: Exception, request: str) -> TransportError:
    """Returns the typed error for an exception of urllib3, http.client, ssl or the operating system.

    Args:
        error: The exception.
        request: Name of the request in the message.
    """
    error = root_cause(error)
    if isinstance(error, TransportError):
        return type(error)(f"{request}: {error}", retryable=error.retryable)
    if isinstance(error, TimeoutError):
        return TransportTimeoutError(f"{request}: nothing came in time ({error})")
    if isinstance(error, http.client.IncompleteRead):
        return TransportError(f"{request}: cut before its end ({error})", retryable=True)
    if type(error) in (http.client.BadStatusLine, http.client.UnknownProtocol):
        # The answer is not shown, because a server that echoes requests echoes tokens.
        return TransportError(f"{request}: the answer is no HTTP", retryable=True)
    # A wrong certificate, or a server without TLS, will not be better the next time.
    is_final = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
    return TransportError(f"{request}: {error}", retryable=not is_final)


def is_refused(error: BaseException) -> bool:
    """Returns whether a request failed because no server listens at the address."""
    found: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if isinstance(found, (ConnectionRefusedError, FileNotFoundError)):
            return True
        if found is None:
            break
        cause = root_cause(found) if isinstance(found, Exception) else found
        found = found.__cause__ if cause is found else cause
    return False


def root_cause(error: Exception) -> Exception:
    """Returns the exception that an exception of urllib3 wraps; other exceptions unchanged."""
    import urllib3.exceptions  # noqa: PLC0415 - not imported before the first request, as by all modules here

    for _ in range(_MAX_CAUSES):
        if not isinstance(error, urllib3.exceptions.HTTPError):
            break
        inner = [error.__cause__, getattr(error, "original_error", None), *error.args[::-1]]
        found = next((one for one in inner if isinstance(one, Exception)), None)
        if found is None:
            break
        error = found
    return error
