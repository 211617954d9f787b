"""Splits the bytes of an HTTP/1.1 client into requests, with bodies of a given length or in chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_END = b"\r\n\r\n"


class RequestSplitter:
    """Splits the bytes of a client into heads of requests and pieces of bodies."""

    def __init__(self) -> None:
        self._pending = b""
        self._left = 0  # bytes of the body, or of the chunk, that are still to come
        self._chunked = False

    def feed(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """Yields the bytes that can be passed on now, each with whether they are a whole head."""
        self._pending += data
        while self._pending:
            piece, is_head = self._next()
            if not piece:
                return
            self._pending = self._pending[len(piece) :]
            yield is_head, piece

    def _next(self) -> tuple[bytes, bool]:
        if self._left:
            piece = self._pending[: self._left]
            self._left -= len(piece)
            return piece, False
        if self._chunked:
            return self._chunk_line(), False
        head, end, _ = self._pending.partition(_END)
        if not end:
            return b"", False
        self._begin(head)
        return head + end, True

    def _begin(self, head: bytes) -> None:
        for line in head.lower().split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding" and b"chunked" in value:
                self._chunked = True

    def _chunk_line(self) -> bytes:
        line, end, _ = self._pending.partition(b"\r\n")
        if not end:
            return b""
        size = int(line.partition(b";")[0], 16)
        if size:
            self._left = size + len(end)
            return line + end
        # The last chunk: trailers are rare, so the body ends with the blank line after it.
        if not self._pending[len(line) + len(end) :].startswith(b"\r\n"):
            return b""
        self._chunked = False
        return line + end + b"\r\n"
