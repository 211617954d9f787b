"""The body of a response, read in exact pieces, and typed errors for all that can go wrong with it."""

from __future__ import annotations

import email.utils
import http
import http.client
import logging
import ssl
import time
from datetime import timezone
from typing import TYPE_CHECKING

from ipfs_dataset_core import (
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_plugins.http.response import Response

log = logging.getLogger(__name__)

ERROR_BYTES = 2048
# Who answers so refuses us or this content for good: unauthorized, unpaid, forbidden, for legal reasons.
_FINAL_STATUS = frozenset({401, 402, 403, 451})
_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Body:
    """The body of a response, read in exact pieces; every failure is a `TransportError`.

    Args:
        response: Its body not read yet.
        what: What errors call the request.
        secrets: Returns what was sent along and errors must not show, though the server may quote it.
    """

    def __init__(
        self, response: Response, what: str, secrets: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._response = response
        self.headers = response.headers
        self.status = response.status
        self._what = what
        self._secrets = secrets
        self._left: int | None = None

    def read(self, size: int) -> bytes:
        """Returns exactly `size` bytes, fewer only at the expected end.

        Raises:
            TransportError: The body ended early, or the server reports that it failed on the way.
        """
        wanted = size if self._left is None else min(size, self._left)
        data = self._read(wanted) if wanted else b""
        if self._left is not None:
            self._left -= len(data)
            if len(data) < wanted:
                raise TransportError(
                    f"{self._what}: cut {self._left} bytes before its end", retryable=True
                )
        return data

    def expect(self, length: int) -> None:
        """Says how many bytes the body has."""
        self._left = length

    def error_text(self) -> str:
        """Returns the start of an error's body on one line, nothing of an HTML page."""
        try:
            text = self.read_all(ERROR_BYTES)[:ERROR_BYTES].decode("utf-8", "replace")
        except TransportError:
            return ""
        if "html" in self.headers.get("Content-Type", ""):
            return "(an HTML page)"
        for secret in self._secrets():
            text = text.replace(secret, "…")
        return " ".join(text.split())[:500]

    def read_all(self, limit: int) -> bytes:
        """Returns the rest, at most `limit` bytes and one more that tells that there are more."""
        try:
            return self.read(limit + 1)
        finally:
            self._response.close()

    def close(self) -> None:
        """Reads the end, so that the connection can serve again; drops it where more is to come."""
        try:
            if self._left == 0:
                self._read(1)
        except TransportError:
            log.debug("%s: the end did not come", self._what, exc_info=True)
        self._response.close()

    def _read(self, size: int) -> bytes:
        """Returns `size` bytes, fewer at the end."""
        try:
            data = self._response.read(size)
        except (OSError, http.client.HTTPException) as error:
            self._response.close()
            raise translated(error, self._what) from error
        if (stream_error := self._response.stream_error) is not None:
            raise TransportError(f"{self._what}: failed on the way: {stream_error}", retryable=True)
        return data


def translated(error: Exception, what: str) -> TransportError:
    """Returns the typed error for what http.client, ssl or the operating system raised."""
    if isinstance(error, TransportError):
        return type(error)(f"{what}: {error}", retryable=error.retryable)
    if isinstance(error, TimeoutError):
        return TransportTimeoutError(f"{what}: nothing came in time ({error})")
    if isinstance(error, http.client.IncompleteRead):
        return TransportError(f"{what}: cut before its end ({error})", retryable=True)
    if type(error) in (http.client.BadStatusLine, http.client.UnknownProtocol):
        # What it answered is not shown: who echoes requests echoes tokens.
        return TransportError(f"{what}: the answer is no HTTP", retryable=True)
    # Whoever has no certificate for the name will have none the next time, or speaks no TLS at all.
    is_final = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
    return TransportError(f"{what}: {error}", retryable=not is_final)


def error_of(body: Body, what: str, detail: str) -> TransportError:
    """Returns the typed error for a status that is no success.

    Args:
        body: The response.
        what: What the message calls the request.
        detail: What the server said.
    """
    message = f"{what}: HTTP {body.status} {detail}".rstrip()
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
