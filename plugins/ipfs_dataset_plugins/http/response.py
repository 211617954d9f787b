"""Responses as http.client reads them, of which none is taken for whole that is not.

A Kubo node reports failures after a 200, in the trailer ``X-Stream-Error`` of a chunked body, which every
Python client reads and throws away: see Kubo issue 8818.
"""

from __future__ import annotations

import http
import http.client
import io
from typing import TYPE_CHECKING, Any

from ipfs_dataset_plugins.http.head import MAX_FIELDS, HeadReader
from ipfs_dataset_plugins.http.transfer_rate import TransferRate

if TYPE_CHECKING:
    import socket

_MAX_LINE = 65536  # http.client's own limit
# Interim responses before the one that answers; 100, 102 and 103 are the usual ones.
_MAX_INTERIM = 20


class StreamError(http.client.HTTPException):
    """The server reports in a trailer that it failed on the way."""


class Response(http.client.HTTPResponse):
    """One response.

    Args:
        sock: What the request was sent on; with a time-out.
        debuglevel: As in http.client.
        method: Of the request.
        url: As in http.client.
    """

    def __init__(
        self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(_Readable(sock), debuglevel, method, url)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Reads the head, and ends where no body follows."""
        super().begin()
        # urllib3 logs what could not be parsed; a server that echoes requests echoes tokens.
        self.msg.defects.clear()
        self.msg.set_payload("")
        if self.length == 0:
            self._close_conn()  # type: ignore[attr-defined]

    def read(self, amt: int | None = None) -> bytes:
        """Returns as many bytes, fewer only at the end.

        Raises:
            http.client.IncompleteRead: The body is cut.
        """
        data = super().read(amt)
        # http.client is content with less than it was promised.
        if self.length and (amt is None or len(data) < amt):
            raise http.client.IncompleteRead(data, self.length)
        return data

    def _read_status(self) -> tuple[str, int, str]:
        """Reads the status line, and all of the interim responses before it.

        http.client skips 100 alone, and would take 103 Early Hints for the answer: the real one would then
        answer the next request.
        """
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("switches to another protocol unasked")
            if status >= http.HTTPStatus.OK:
                return version, status, reason
            while self.fp.readline(_MAX_LINE + 1) not in (b"\r\n", b"\n", b""):
                pass
            self.fp.next_head()  # type: ignore[attr-defined]
        raise http.client.HTTPException(f"got more than {_MAX_INTERIM} interim responses")

    def _read_next_chunk_size(self) -> int:
        """Reads it as http.client does, but refuses -1, which would mean all that ever comes."""
        line = self.fp.readline(_MAX_LINE + 1)
        size = int(line.partition(b";")[0], 16) if len(line) <= _MAX_LINE else -1
        if size < 0:
            raise ValueError("no size of a chunk")
        return size

    def _read_and_discard_trailer(self) -> None:
        """Reads the trailer as http.client does, but heeds the one field that matters."""
        failure: str | None = None
        for _ in range(MAX_FIELDS):
            line = self.fp.readline(_MAX_LINE + 1)
            if len(line) > _MAX_LINE:
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


class _Readable:
    """What http.client takes for a socket: it asks for nothing but a reader."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> HeadReader:
        return HeadReader(SocketReader(self._sock))


class SocketReader(io.RawIOBase):
    """What a socket receives, head and body alike, at a minimum rate.

    It is below the buffer, so that a large read is one loop in C that stores each byte once.

    Args:
        sock: Its time-out is also that of `TransferRate`. It stays open until this is closed as well.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._file = sock.makefile("rb", buffering=0)
        self._receive = sock.recv_into
        self._set_timeout = sock.settimeout
        self._timeout = sock.gettimeout() or 0.0
        self._rate = TransferRate(self._timeout)

    def readinto(self, buffer: Any) -> int:
        """Receives what is there.

        Raises:
            TransportTimeoutError: Too little came for too long, or the whole read's deadline has passed.
        """
        wait = self._rate.start()
        if wait < self._timeout:
            self._set_timeout(wait)
        received = self._receive(buffer)
        self._rate.moved(received)
        return received

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Lets the socket be closed."""
        super().close()
        self._file.close()
