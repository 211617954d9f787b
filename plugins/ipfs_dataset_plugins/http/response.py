"""Responses as `http.client` reads them, with stricter checks.

A Kubo node reports failures after a status of 200, in the trailer ``X-Stream-Error`` of a chunked body. Every
Python client reads this trailer and discards it: see Kubo issue 8818.
"""

from __future__ import annotations

import http
import http.client
import re
from typing import TYPE_CHECKING, Any

from ipfs_dataset_plugins.http.transfer import SocketReader

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping

MAX_FIELDS = 200
_MAX_LINE_BYTES = 65536  # as in http.client
# Responses with a status below 200 in front of the final one; 100, 102 and 103 are usual.
_MAX_INTERIM_RESPONSES = 20

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


class Response(http.client.HTTPResponse):
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


def _length(fields: Mapping[str, str]) -> int | None:
    """Returns the length of a body in bytes; None if it ends with the connection.

    Several lengths that differ are refused: what is behind a wrong one would be taken for the next response.
    """
    lengths = {length.strip() for length in fields.get("content-length", "").split(",")}
    if len(lengths) > 1:
        raise http.client.HTTPException("has several lengths")
    length = lengths.pop()
    return int(length) if length.isdecimal() else None
