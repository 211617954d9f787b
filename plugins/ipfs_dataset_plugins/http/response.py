"""Responses as http.client reads them, of which none is taken for whole that is not.

What surprises: a Kubo node reports failures after a 200, in the trailer ``X-Stream-Error`` of a chunked
body, which every Python client reads and throws away. `Response` keeps it.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

from ipfs_dataset_plugins.http.heads import MAX_FIELDS, HeadReader
from ipfs_dataset_plugins.http.patience import PatientReader
from ipfs_dataset_plugins.http.sending import send

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

_MAX_LINE = 65536  # http.client's own limit


class Response(http.client.HTTPResponse):
    """One response; it owns the socket until its end.

    Args:
        sock: What the request was sent on; with a time-out.
        method: Of the request.
        give_back: Takes the socket when another request can be sent on it.

    Attributes:
        reusable: Whether the request was sent as a whole, so that another can follow.
    """

    stream_error: str | None = None
    _sock: socket.socket | None = None

    def __init__(
        self, sock: socket.socket, method: str, give_back: Callable[[socket.socket], None]
    ) -> None:
        source: Any = Incoming(sock)
        super().__init__(source, method=method)
        self._sock = sock
        self._give_back = give_back
        self.reusable = True

    def begin(self) -> None:
        """Reads the head."""
        super().begin()
        if self.length == 0:
            self._ended()

    def read(self, amt: int | None = None) -> bytes:
        """Returns as many bytes, fewer only at the end.

        Raises:
            http.client.IncompleteRead: The body is cut.
        """
        data = super().read(amt)
        # http.client is content with less than it was promised.
        if self.length and (amt is None or len(data) < amt):
            raise http.client.IncompleteRead(data, self.length)
        if self.isclosed():
            self._ended()
        return data

    def close(self) -> None:
        """Ends the connection, unless the body has come to its end."""
        super().close()
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _ended(self) -> None:
        sock = self._sock
        if sock is not None and self.reusable and not self.will_close:
            self._sock = None
            self._give_back(sock)
        self.close()

    def _read_next_chunk_size(self) -> int:
        """Reads it as http.client does, but refuses -1, which would mean all that ever comes."""
        line = self.fp.readline(_MAX_LINE + 1)
        size = int(line.partition(b";")[0], 16) if len(line) <= _MAX_LINE else -1
        if size < 0:
            raise ValueError("no size of a chunk")
        return size

    def _read_and_discard_trailer(self) -> None:
        """Reads the trailer as http.client does, but keeps the one field that matters."""
        for _ in range(MAX_FIELDS):
            line = self.fp.readline(_MAX_LINE + 1)
            if len(line) > _MAX_LINE:
                raise http.client.LineTooLong("trailer line")
            if line in (b"\r\n", b"\n", b""):
                return
            name, _, value = line.decode("latin-1").partition(":")
            if name.strip().lower() == "x-stream-error":
                self.stream_error = value.strip()
        raise http.client.HTTPException(f"got a trailer of more than {MAX_FIELDS} fields")


class Incoming:
    """What http.client takes for a socket: it asks for nothing but a reader."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> HeadReader:
        return HeadReader(PatientReader(self._sock))


def exchange(
    sock: socket.socket,
    method: str,
    pieces: Iterable[bytes],
    give_back: Callable[[socket.socket], None],
) -> Response:
    """Sends a request and returns the response with its body unread; the socket ends with a failure.

    Args:
        sock: Idle, with a time-out.
        method: Of the request.
        pieces: All of the request.
        give_back: As in `Response`.
    """
    response = Response(sock, method, give_back)
    try:
        response.reusable = send(sock, pieces)
        response.begin()
    except BaseException:
        response.close()
        raise
    return response
