"""Responses: `http.client` parses them, with stricter checks; `Body` is what the transports read.

A Kubo node reports failures after a status of 200, in the trailer ``X-Stream-Error`` of a chunked body. Every
Python client reads this trailer and discards it: see Kubo issue 8818.
"""

from __future__ import annotations

import http
import http.client
import io
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from urllib3 import HTTPHeaderDict

from ipfs_dataset_core import TransportError
from ipfs_dataset_plugins.http.errors import translated
from ipfs_dataset_plugins.http.transfer import SocketReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from urllib3.connection import HTTPConnection

log = logging.getLogger(__name__)

MAX_FIELDS = 200  # http.client allows 100 of those that it sees
_MAX_LINE_BYTES = 65536  # as in http.client
# Responses with a status below 200 in front of the final one; 100, 102 and 103 are usual.
_MAX_INTERIM_RESPONSES = 20

# The header fields that http.client needs to read a body, and those that the transports use.
_KEPT_FIELDS = frozenset(
    name.encode()
    for name in (
        *("connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding"),
        *("content-range", "content-type", "location", "retry-after"),
        *("cf-mitigated", "content-encoding", "sunset", "x-content-length"),
    )
)
# A complete header without folded lines and without lines that are not fields.
_SIMPLE_FIELDS = re.compile(rb"(?:[!-9;-~]+:.*\n)+\r?\n")
_KEPT_LINES = re.compile(
    rb"^(?:(?:" + b"|".join(sorted(_KEPT_FIELDS)) + rb"):.*|\r?)\n", re.MULTILINE | re.IGNORECASE
)
# The header and the first bytes of the body arrive together; a small block arrives as a whole.
_BUFFER_BYTES = 16384

_MAX_ERROR_BYTES = 2048
_MAX_SHOWN_CHARACTERS = 500


class StreamError(http.client.HTTPException):
    """The server reports in a trailer that it failed while it sent the body."""


class HeaderFilter(io.BufferedReader):
    """A buffered response without the header fields that are not used here; the body is unchanged.

    A Kubo gateway sends two dozen fields with each block. To parse them all takes `http.client` more CPU time
    than it takes to receive and hash a block of 256 KiB.
    """

    _fields_left = MAX_FIELDS
    _has_status = False
    _in_header = True
    _is_dropping = False
    _kept: list[bytes] | None = None

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw, _BUFFER_BYTES)

    def makefile(self, _mode: str) -> HeaderFilter:
        """Returns this object, which stands for a socket in `http.client.HTTPResponse`."""
        return self

    def start_header(self) -> None:
        """Starts another header, after that of an interim response."""
        self._fields_left, self._kept = MAX_FIELDS, None
        self._has_status, self._in_header, self._is_dropping = False, True, False

    def readline(self, size: int | None = -1, /) -> bytes:
        """Returns the next line; in the header, the next line that is kept.

        Raises:
            http.client.HTTPException: The header has too many fields.
        """
        if self._kept:
            return self._kept.pop()
        line = super().readline(size)
        if not self._in_header:
            return line
        if not self._has_status:
            self._has_status = True
            self._filter_buffered()
            return line
        while self._in_header and self._is_dropped(line):
            line = super().readline(size)
        return line

    def _filter_buffered(self) -> None:
        """Filters all fields at once if the buffer holds the whole header and it is a simple one."""
        header = _SIMPLE_FIELDS.match(self.peek())
        if header is None:
            return
        fields = self.read(header.end())
        if fields.count(b"\n") - 1 > MAX_FIELDS:
            raise http.client.HTTPException(f"got more than {MAX_FIELDS} headers")
        self._kept = _KEPT_LINES.findall(fields)[::-1]
        self._in_header = False

    def _is_dropped(self, line: bytes) -> bool:
        if line in (b"\r\n", b"\n", b""):
            self._in_header = False
            return False
        self._fields_left -= 1
        if self._fields_left < 0:
            raise http.client.HTTPException(f"got more than {MAX_FIELDS} headers")
        # An indented line continues the field before it. http.client refuses lines that are too long.
        if not line.startswith((b" ", b"\t")):
            name, colon, _ = line.partition(b":")
            self._is_dropping = bool(colon) and name.strip().lower() not in _KEPT_FIELDS
        return self._is_dropping and line.endswith(b"\n")


class Response(http.client.HTTPResponse):
    """A response that is never taken for complete if it is not.

    It takes the place of `urllib3.HTTPResponse`, whose features are not used here and cost a fifth of the CPU
    time of a small request, and has the attributes that the pools of urllib3 set and log.

    Args:
        sock: The socket on which the request was sent; it has a time-out.
        debuglevel: As in `http.client`.
        method: The method of the request.
        url: As in `http.client`.
    """

    version_string = "HTTP/1.1"
    retries: Any = None
    _pool: Any = None
    _connection: Any = None

    def __init__(
        self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        # http.client takes a socket, of which it only calls `makefile`.
        file: Any = HeaderFilter(SocketReader(sock))
        super().__init__(file, debuglevel, method, url)

    @property
    def length_remaining(self) -> int | None:
        """The number of bytes of the body that have not been read; None if it is unknown."""
        return self.length

    def detach(self) -> Any:
        """Returns the connection, to which the response then does not refer any more."""
        connection, self._connection = self._connection, None
        return connection

    def begin(self) -> None:
        """Reads the header, and closes the response if no body follows.

        Raises:
            http.client.HTTPException: It is not a header of HTTP, or has several lengths.
        """
        super().begin()
        self._check_lengths()
        # urllib3 logs lines that could not be parsed, and a server that echoes requests echoes tokens.
        self.msg.defects.clear()
        self.msg.set_payload("")
        if self.length == 0:
            self._close_conn()  # type: ignore[attr-defined]

    def _check_lengths(self) -> None:
        """Refuses several lengths, of which http.client takes the first; sets one that is repeated.

        What is behind a wrong length would be taken for the next response.
        """
        fields = self.msg.get_all("content-length", ())
        lengths = {length.strip() for field in fields for length in field.split(",")}
        if len(lengths) > 1 and not self.chunked:
            raise http.client.HTTPException("has several lengths")
        if self.length is None and not self.chunked and "".join(lengths).isdecimal():
            self.length = int(lengths.pop())

    def read(self, amt: int | None = None) -> bytes:
        """Returns `amt` bytes, fewer only at the end.

        Raises:
            http.client.IncompleteRead: The body is cut off.
        """
        data = super().read(amt)
        # http.client accepts less than the Content-Length.
        if self.length and (amt is None or len(data) < amt):
            raise http.client.IncompleteRead(data, self.length)
        return data

    def _read_status(self) -> tuple[str, int, str]:
        """Reads the status line, and the interim responses in front of it.

        http.client skips only status 100. It would take 103 (Early Hints) for the final response, so that the
        real one would answer the next request.
        """
        for _ in range(_MAX_INTERIM_RESPONSES):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("switches to another protocol unasked")
            if status >= http.HTTPStatus.OK:
                return version, status, reason
            while self.fp.readline(_MAX_LINE_BYTES + 1) not in (b"\r\n", b"\n", b""):
                pass
            self.fp.start_header()  # type: ignore[attr-defined]
        raise http.client.HTTPException(f"got more than {_MAX_INTERIM_RESPONSES} interim responses")

    def _read_next_chunk_size(self) -> int:
        """Reads the size of a chunk; http.client accepts -1 and then reads without end."""
        line = self.fp.readline(_MAX_LINE_BYTES + 1)
        size = int(line.partition(b";")[0], 16) if len(line) <= _MAX_LINE_BYTES else -1
        if size < 0:
            raise ValueError("no size of a chunk")
        return size

    def _read_and_discard_trailer(self) -> None:
        """Reads the trailer, which http.client discards and does not limit.

        Raises:
            StreamError: The trailer reports a failure.
        """
        failure: str | None = None
        for _ in range(MAX_FIELDS):
            line = self.fp.readline(_MAX_LINE_BYTES + 1)
            if len(line) > _MAX_LINE_BYTES:
                raise http.client.LineTooLong("trailer line")
            if line in (b"\r\n", b"\n", b""):
                break
            name, _, value = line.decode("latin-1").partition(":")
            if name.strip().lower() == "x-stream-error":
                failure = value.strip()
        else:
            raise http.client.HTTPException(f"got a trailer of more than {MAX_FIELDS} fields")
        if failure is not None:
            raise StreamError(failure)


class Body:
    """A response with its body, which is read in exact pieces; every failure is a `TransportError`.

    Args:
        response: The response, whose body has not been read.
        keep: Keeps the connection for another request.
        request: What errors call the request.
        secrets: Returns the parts of the request that messages must not show, because the server may quote
            the request.

    Attributes:
        headers: The header fields of the response that are kept.
        status: The status of the response.
        peer: The IP address and port of the server; None behind a proxy or a unix socket.
    """

    def __init__(
        self,
        response: Response,
        keep: Callable[[HTTPConnection], None],
        request: str,
        secrets: Callable[[], Iterable[str]],
    ) -> None:
        self._response = response
        self._keep = keep
        self._connection: Any = response.detach()
        # Joins fields of the same name, so that none of them is preferred.
        self.headers: Mapping[str, str] = HTTPHeaderDict(response.headers.items())
        self.status: int = response.status
        self.peer: tuple[str, int] | None = self._connection and self._connection.peer
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
        """Returns the next line without white space around it, as soon as it is there; b"" at the end.

        Args:
            limit: The most bytes that a line may have.

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
                    f"{self._request}: a line of the answer has more than {limit} bytes"
                )
            line = piece.strip()
        return line

    def expect(self, length: int) -> None:
        """Sets the expected length of the body in bytes."""
        self._left = length

    @property
    def encoding(self) -> str:
        """The Content-Encoding, as messages may show it; "" if the body is not compressed."""
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
                f"{self._request}: the answer has Content-Encoding: {self.encoding}, though only identity "
                "was accepted: switch the compression off at the server or the proxy before it"
            )

    def error_text(self) -> str:
        """Returns the start of an error's body on one line, without the text of HTML pages."""
        try:
            text = self.read_all(_MAX_ERROR_BYTES)[:_MAX_ERROR_BYTES].decode("utf-8", "replace")
        except TransportError:
            return ""
        if "html" in self.headers.get("Content-Type", ""):
            return "(an HTML page)"
        return self.shown(text)

    def shown(self, text: str) -> str:
        """Returns text of the server as messages may show it: one short line without secrets.

        A server may quote the whole request, so everything from a server passes through here before it is
        part of a message.
        """
        for secret in self._secrets():
            for form in (secret, secret.replace("/", "\\/"), quote(secret), quote(secret, safe="")):
                text = text.replace(form, "…")
        return " ".join(text.split())[:_MAX_SHOWN_CHARACTERS]

    def read_all(self, limit: int) -> bytes:
        """Returns the rest of the body, but at most `limit` + 1 bytes, so that excess is noticed."""
        try:
            return self.read(limit + 1)
        finally:
            self._release()

    def close(self) -> None:
        """Releases the connection if the whole body has been read, and else closes it."""
        try:
            if self._left == 0:
                self._read(1)
        except TransportError:
            log.debug("%s: the end did not come", self._request, exc_info=True)
        self._release()

    def __del__(self) -> None:
        self._release()

    def _read(self, size: int) -> bytes:
        """Returns `size` bytes, fewer at the end."""
        return self._guarded(self._response.read, size)

    def _guarded(self, read: Callable[[int], bytes], size: int) -> bytes:
        """Returns what a method of the response returns; its failures become typed errors."""
        try:
            data = read(size)
        except StreamError as error:
            self._discard()
            raise TransportError(
                f"{self._request}: failed on the way: {self.shown(str(error))}", retryable=True
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
        """Returns the connection to the pool if the whole body has been read, and else closes it."""
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
