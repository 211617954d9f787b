"""Responses, as `http.client` reads them with stricter checks, and as the transports use them.

A Kubo node reports failures after a status of 200, in the trailer ``X-Stream-Error`` of a chunked body. Every
Python client reads this trailer and discards it: see Kubo issue 8818.
"""

from __future__ import annotations

import http
import http.client
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ipfs_dataset_core import TransportError
from ipfs_dataset_plugins.http.errors import translated
from ipfs_dataset_plugins.http.transfer import SocketReader

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Mapping

log = logging.getLogger(__name__)

MAX_FIELDS = 200
_MAX_LINE_BYTES = 65536  # as in http.client
# Responses with a status below 200 in front of the final one; 100, 102 and 103 are usual.
_MAX_INTERIM_RESPONSES = 20
_MAX_ERROR_BYTES = 2048
_MAX_SHOWN_CHARACTERS = 500

# The header fields that say how the body is read, and those that the transports use.
_KEPT_FIELDS = frozenset(
    name.encode()
    for name in (
        *("connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding"),
        *("content-range", "content-type", "location", "retry-after"),
        *("cf-mitigated", "content-encoding", "sunset", "x-content-length"),
    )
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]+)[ \t]+([0-9]{3})(?:[ \t\r]([^\n]*))?\n")
# All fields of a header without folded lines and without lines that are not fields.
_SIMPLE_FIELDS = re.compile(rb"(?:[!-9;-~]+:.*\n)+\r?\n")
_KEPT_LINES = re.compile(
    rb"^(?:" + b"|".join(sorted(_KEPT_FIELDS)) + rb"):.*\n", re.MULTILINE | re.IGNORECASE
)


class StreamError(http.client.HTTPException):
    """The server reports in a trailer that it failed while it sent the body."""


def read_header(file: io.BufferedReader[Any]) -> tuple[bytes, bytes, bytes, dict[str, str]]:
    """Reads the header of the final response; those of interim responses, such as 103, are skipped.

    Returns:
        Minor version, status, reason, and those fields that are used here, by their names in lower case.
        Fields of the same name are joined, so that none of them is preferred.

    Raises:
        http.client.HTTPException: It is not a header of HTTP/1, has too many fields, or does not end.
    """
    for _ in range(_MAX_INTERIM_RESPONSES):
        line = file.readline(_MAX_LINE_BYTES + 1)
        if not line:
            raise http.client.RemoteDisconnected("the server closed the connection")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise http.client.BadStatusLine("")
        version, status, reason = match.groups(b"")
        if status == b"101":
            raise http.client.HTTPException("switches to another protocol unasked")
        fields = _read_fields(file)
        if not status.startswith(b"1"):
            return version, status, reason, fields
    raise http.client.HTTPException(f"got more than {_MAX_INTERIM_RESPONSES} interim responses")


def _read_fields(file: io.BufferedReader[Any]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in _kept_lines(file):
        name, _, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _kept_lines(file: io.BufferedReader[Any]) -> list[bytes]:
    """Reads header fields and the empty line that ends them; returns those that are used, each on one line.

    A Kubo gateway sends two dozen fields with each block. To parse them all takes more CPU time than to
    receive and hash a small block.
    """
    # Usually all of them are in the buffer.
    if (simple := _SIMPLE_FIELDS.match(file.peek())) is not None:
        fields = file.read(simple.end())
        if fields.count(b"\n") - 1 > MAX_FIELDS:
            raise http.client.HTTPException(f"got more than {MAX_FIELDS} headers")
        return _KEPT_LINES.findall(fields)
    lines: list[bytes] = []
    for _ in range(MAX_FIELDS + 1):
        line = file.readline(_MAX_LINE_BYTES + 1)
        if len(line) > _MAX_LINE_BYTES:
            raise http.client.LineTooLong("header line")
        if not line:
            raise http.client.IncompleteRead(b"".join(lines))
        if line in (b"\r\n", b"\n"):
            return list(filter(_is_kept, lines))
        if not line.startswith((b" ", b"\t")):
            lines.append(line)
        elif lines:  # it continues the field before it
            lines[-1] = b"%b %b" % (lines[-1].rstrip(), line.strip())
    raise http.client.HTTPException(f"got more than {MAX_FIELDS} headers")


def _is_kept(line: bytes) -> bool:
    name, colon, _ = line.partition(b":")
    return bool(colon) and name.strip().lower() in _KEPT_FIELDS


class WireResponse(http.client.HTTPResponse):
    """A response that is never taken for complete if it is not.

    Args:
        sock: The socket on which the request was sent; it has a time-out.
        debuglevel: As in `http.client`.
        method: The method of the request.
        url: As in `http.client`.
    """

    def __init__(
        self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        # http.client takes a socket, of which it only calls `makefile`.
        file: Any = SocketReader(sock)
        super().__init__(file, debuglevel, method, url)

    def begin(self) -> None:
        """Reads the header, and closes the response if no body follows.

        The method of http.client parses headers as those of e-mail, which takes a tenth of the CPU time of a
        small request. It takes 103 (Early Hints) for the final response, so that the real one would be taken
        for that of the next request.

        Raises:
            http.client.HTTPException: It is not a header of HTTP, or has several lengths.
        """
        version, status, reason, fields = read_header(self.fp)
        self.version = 10 if version == b"0" else 11
        self.code = self.status = int(status)
        self.reason = reason.decode("latin-1").strip()
        self.headers = self.msg = fields  # type: ignore[assignment]
        codings = fields.get("transfer-encoding", "").lower().split(",")
        self.chunked = all(
            coding.strip() == "chunked" for coding in codings
        )  # some servers repeat it
        self.chunk_left = None
        self.length = None if self.chunked else _length(fields)
        if self._method == "HEAD" or status in (b"204", b"304"):  # type: ignore[attr-defined]
            self.length = 0
        is_open_ended = self.length is None and not self.chunked
        self.will_close = is_open_ended or self._check_close()  # type: ignore[attr-defined]
        if self.length == 0:
            self._close_conn()  # type: ignore[attr-defined]

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


class Response:
    """A response with its body, which is read in exact pieces; every failure is a `TransportError`.

    Args:
        wire: What the socket receives, of which the header has been read.
        peer: The IP address and port of the server; None behind a proxy or a unix socket.
        keep: Called at the end if the connection can be used for another request.
        close: Called at the end otherwise.
        request: Name of the request in messages.
        secrets: Returns the parts of the request that messages must not contain, because the server may quote
            the request.

    Attributes:
        headers: The header fields of the response that are kept, by their names in lower case.
        status: The status of the response.
        peer: As given.
    """

    def __init__(
        self,
        wire: WireResponse,
        peer: tuple[str, int] | None,
        *,
        keep: Callable[[], None],
        close: Callable[[], None],
        request: str,
        secrets: Callable[[], Iterable[str]],
    ) -> None:
        self._wire = wire
        self._keep_connection = keep
        self._close_connection = close
        self._has_ended = False
        self.headers: Mapping[str, str] = wire.headers  # type: ignore[assignment]
        self.status: int = wire.status
        self.peer = peer
        self._request = request
        self._secrets = secrets
        self._left: int | None = None
        if wire.isclosed():  # there is no body
            self._end()

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
            piece = self._guarded(self._wire.readline, limit + 1)
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
            self._end()

    def close(self) -> None:
        """Releases the connection if the whole body has been read; otherwise closes it."""
        try:
            if self._left == 0:
                self._read(1)
        except TransportError:
            log.debug("%s: the end of the body did not arrive", self._request, exc_info=True)
        self._end()

    def __del__(self) -> None:
        self._end()

    def _read(self, size: int) -> bytes:
        """Returns `size` bytes, fewer at the end."""
        return self._guarded(self._wire.read, size)

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
        if self._wire.isclosed():
            self._end()
        return data

    def _end(self) -> None:
        """Lets the connection be used again if the whole body has been read; otherwise closes it."""
        if not self._wire.isclosed():
            self._discard()
        elif not self._has_ended:
            self._has_ended = True
            self._keep_connection()

    def _discard(self) -> None:
        """Closes the connection."""
        had_ended, self._has_ended = self._has_ended, True
        self._wire.close()
        if not had_ended:
            self._close_connection()


def _length(fields: Mapping[str, str]) -> int | None:
    """Returns the length of a body in bytes; None if it ends with the connection.

    Several lengths that differ are refused: what is behind a wrong one would be taken for the next response.
    """
    lengths = {length.strip() for length in fields.get("content-length", "").split(",")}
    if len(lengths) > 1:
        raise http.client.HTTPException("has several lengths")
    length = lengths.pop()
    return int(length) if length.isdecimal() else None
