"""The body of a response, as read by the transports.

Reads are exact, all failures are typed errors, and the connection is reused once the body has been read.
"""

from __future__ import annotations

import http.client
import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from ipfs_dataset_core import TransportError
from ipfs_dataset_plugins.http.errors import translated
from ipfs_dataset_plugins.http.response import StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipfs_dataset_plugins.http.connection import Connection
    from ipfs_dataset_plugins.http.response import Response

log = logging.getLogger(__name__)

_MAX_ERROR_BYTES = 2048
_MAX_SHOWN_CHARACTERS = 500


class Body:
    """A response with its body, which is read in exact pieces; every failure is a `TransportError`.

    Args:
        response: The response, whose body has not been read.
        connection: The connection that it comes from.
        keep: Keeps the connection for another request.
        request: Name of the request in messages.
        secrets: Returns the parts of the request that messages must not contain, because the server may quote
            the request.

    Attributes:
        headers: The header fields of the response that are kept, by their names in lower case.
        status: The status of the response.
        peer: The IP address and port of the server; None behind a proxy or a unix socket.
    """

    def __init__(
        self,
        response: Response,
        connection: Connection,
        keep: Callable[[Connection], None],
        request: str,
        secrets: Callable[[], Iterable[str]],
    ) -> None:
        self._response = response
        self._keep = keep
        self._connection: Connection | None = connection
        self.headers: Mapping[str, str] = response.headers  # type: ignore[assignment]
        self.status: int = response.status
        self.peer = connection.peer
        self._request = request
        self._secrets = secrets
        self._left: int | None = None
        if response.isclosed():  # there is no body
            self._release()

    def read(self, size: int) -> bytes:
        """Returns exactly `size` bytes, fewer only at the expected end.

        Raises:
            TransportError: The body ended early, or the server reports a failure.
        """
        wanted = size if self._left is None else min(size, self._left)
        data = self._read(wanted) if wanted else b""
        if self._left is not None:
            self._left -= len(data)
            if len(data) < wanted:
                raise TransportError(
                    f"{self._request}: cut {self._left} bytes before its end", retryable=True
                )
        return data

    def read_line(self, limit: int) -> bytes:
        """Returns the next line, stripped of white space, as soon as it has arrived; b"" at the end.

        Args:
            limit: Maximum number of bytes in a line.

        Raises:
            TransportError: The line is longer, the body was cut, or the server reports a failure.
        """
        line = b""
        while not line:
            piece = self._guarded(self._response.readline, limit + 1)
            if not piece:
                return b""
            if len(piece) > limit:
                self._discard()
                raise TransportError(
                    f"{self._request}: a line of the response has more than {limit} bytes"
                )
            line = piece.strip()
        return line

    def expect(self, length: int) -> None:
        """Sets the expected length of the body in bytes."""
        self._left = length

    @property
    def encoding(self) -> str:
        """The Content-Encoding, in a form for messages; "" if the body is not compressed."""
        value = self.headers.get("content-encoding", "").strip().lower()
        return "" if value == "identity" else self.shown(value)

    def check_encoding(self) -> None:
        """Rejects a compressed body, whose length and ranges are not those of the data.

        Raises:
            TransportError: The body is compressed.
        """
        if self.encoding:
            self.close()
            raise TransportError(
                f"{self._request}: the response has Content-Encoding: {self.encoding}, though only identity "
                "was accepted: switch the compression off at the server or the proxy before it"
            )

    def error_text(self) -> str:
        """Returns the start of an error's body on one line, without the text of HTML pages."""
        try:
            text = self.read_all(_MAX_ERROR_BYTES)[:_MAX_ERROR_BYTES].decode("utf-8", "replace")
        except TransportError:
            return ""
        if "html" in self.headers.get("content-type", ""):
            return "(an HTML page)"
        return self.shown(text)

    def shown(self, text: str) -> str:
        """Returns text of the server in a form for messages: one short line without secrets.

        A server may quote the whole request, so all text from a server must pass through this method before
        it becomes part of a message.
        """
        for secret in self._secrets():
            for form in (secret, secret.replace("/", "\\/"), quote(secret), quote(secret, safe="")):
                text = text.replace(form, "…")
        return " ".join(text.split())[:_MAX_SHOWN_CHARACTERS]

    def read_all(self, limit: int) -> bytes:
        """Returns the rest of the body, but at most `limit` + 1 bytes, so that excess can be detected."""
        try:
            return self.read(limit + 1)
        finally:
            self._release()

    def close(self) -> None:
        """Releases the connection if the whole body has been read; otherwise closes it."""
        try:
            if self._left == 0:
                self._read(1)
        except TransportError:
            log.debug("%s: the end of the body did not arrive", self._request, exc_info=True)
        self._release()

    def __del__(self) -> None:
        self._release()

    def _read(self, size: int) -> bytes:
        """Returns `size` bytes, fewer at the end."""
        return self._guarded(self._response.read, size)

    def _guarded(self, read: Callable[[int], bytes], size: int) -> bytes:
        """Returns the result of a method of the response, converting its failures to typed errors."""
        try:
            data = read(size)
        except StreamError as error:
            self._discard()
            raise TransportError(
                f"{self._request}: failed during the transfer: {self.shown(str(error))}",
                retryable=True,
            ) from None
        except (OSError, http.client.HTTPException) as error:
            self._discard()
            raise translated(error, self._request) from error
        except BaseException:
            self._discard()
            raise
        if self._response.isclosed():
            self._release()
        return data

    def _release(self) -> None:
        """Returns the connection to the pool if the whole body has been read; otherwise closes it."""
        if not self._response.isclosed():
            self._discard()
        elif self._connection is not None:
            connection, self._connection = self._connection, None
            self._keep(connection)

    def _discard(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        self._response.close()
        if connection is not None:
            connection.close()
