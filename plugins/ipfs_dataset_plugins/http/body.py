"""The body of a response, read in exact pieces, and typed errors for all that can go wrong with it."""

from __future__ import annotations

import http.client
import logging
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import urllib3.exceptions

from ipfs_dataset_core import TransportError, TransportTimeoutError
from ipfs_dataset_plugins.http.response import StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

log = logging.getLogger(__name__)

ERROR_BYTES = 2048
_SHOWN = 500
_MAX_CAUSES = 8


class Body:
    """The body of a response, read in exact pieces; every failure is a `TransportError`.

    Args:
        response: Its body not read yet.
        what: What errors call the request.
        secrets: Returns what was sent along and errors must not show, though the server may quote it.

    Attributes:
        headers: Of the response.
        status: Of the response.
        peer: The IP address and port of the server; None where a proxy or a unix socket is between.
    """

    def __init__(
        self, response: Any, what: str, secrets: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._response = response
        self.headers: Mapping[str, str] = response.headers
        self.status: int = response.status
        self.peer: tuple[str, int] | None = response.connection.peer
        self._what = what
        self._secrets = secrets
        self._left: int | None = None
        if response.isclosed():  # there is no body
            response.release_conn()

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

    @property
    def encoding(self) -> str:
        """How the body is compressed, although no compression was accepted; "" where it is not."""
        value = self.headers.get("Content-Encoding", "").strip().lower()
        return "" if value == "identity" else self.shown(value)

    def check_encoding(self) -> None:
        """Refuses a compressed body, whose length and ranges are not those of the data.

        Raises:
            TransportError: It is compressed.
        """
        if self.encoding:
            self.close()
            raise TransportError(
                f"{self._what}: the answer has Content-Encoding: {self.encoding}, though only identity was "
                "accepted: switch the compression off at the server or the proxy before it"
            )

    def error_text(self) -> str:
        """Returns the start of an error's body on one line, nothing of an HTML page."""
        try:
            text = self.read_all(ERROR_BYTES)[:ERROR_BYTES].decode("utf-8", "replace")
        except TransportError:
            return ""
        if "html" in self.headers.get("Content-Type", ""):
            return "(an HTML page)"
        return self.shown(text)

    def shown(self, text: str) -> str:
        """Returns text of the server as messages may show it: on one line, short, without what was sent.

        A server may quote all of the request. Every message takes what a server said from here.
        """
        for secret in self._secrets():
            for form in (secret, secret.replace("/", "\\/"), quote(secret), quote(secret, safe="")):
                text = text.replace(form, "…")
        return " ".join(text.split())[:_SHOWN]

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
            data: bytes = self._response.read(size)
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
            self._response.close()
            failure = _cause(error)
            if isinstance(failure, StreamError):
                raise TransportError(
                    f"{self._what}: failed on the way: {self.shown(str(failure))}", retryable=True
                ) from None
            raise translated(failure, self._what) from error
        return data


def is_refused(error: BaseException) -> bool:
    """Tells whether nothing listens at the address, which is why there was no response."""
    found: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if isinstance(found, (ConnectionRefusedError, FileNotFoundError)):
            return True
        if found is None:
            break
        found = (
            _cause(found) if isinstance(found, urllib3.exceptions.HTTPError) else found.__cause__
        )
    return False


def translated(error: Exception, what: str) -> TransportError:
    """Returns the typed error for what urllib3, http.client, ssl or the operating system raised."""
    error = _cause(error)
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


def _cause(error: Exception) -> Exception:
    """Returns what urllib3's error is about."""
    for _ in range(_MAX_CAUSES):
        if not isinstance(error, urllib3.exceptions.HTTPError):
            break
        inner = [error.__cause__, getattr(error, "original_error", None), *error.args[::-1]]
        found = next((one for one in inner if isinstance(one, Exception)), None)
        if found is None:
            break
        error = found
    return error
