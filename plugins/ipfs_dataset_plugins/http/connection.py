"""urllib3's connections with filtered addresses, unix sockets, bounded uploads and our responses.

urllib3 gets no paths: it logs them, and queries have tokens in them. What is asked for comes among the
headers under the name `TARGET`, which no real header can have.
"""

from __future__ import annotations

import contextlib
import http
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import urllib3.connection

from ipfs_dataset_core import TransportError
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE
from ipfs_dataset_plugins.http.connect import connect, connect_unix
from ipfs_dataset_plugins.http.response import Response
from ipfs_dataset_plugins.http.transfer_rate import TransferRate
from ipfs_dataset_plugins.http.url import netloc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_plugins.http.address_filter import AddressFilter

TARGET = ":target"
# What is shorter goes into the system's buffer in one turn anyway.
_LARGE = 1 << 20
_SLICE = 1 << 16
_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")
_MOST_PIECES = os.sysconf("SC_IOV_MAX") if _HAS_SENDMSG else 0


class Connection(urllib3.connection.HTTPConnection):
    """A connection to a server, or to the proxy by which it is reached.

    Args:
        allowed: Which addresses may be connected to. A proxy is the user's own and may be anywhere.
        unix: The path of a unix socket, in place of a host and a port.

    Attributes:
        peer: The IP address and port that it was connected to last; None for a proxy or a unix socket.
    """

    response_class = Response

    def __init__(
        self,
        *arguments: Any,
        allowed: AddressFilter = EVERYWHERE,
        unix: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.allowed = allowed
        self.peer: tuple[str, int] | None = None
        self._unix = unix
        self._target = ""
        self._is_cut = False

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        if self._unix is not None:
            return connect_unix(self._unix, seconds)
        allowed = self.allowed if self.proxy is None else EVERYWHERE
        sock = connect(self._dns_host, self.port, seconds, allowed)
        self.peer = sock.getpeername()[:2] if self.proxy is None else None
        return sock

    def _tunnel(self) -> None:
        """Has a proxy connect to the server: in HTTP/1.1 and with a Host, which not every http.client does.

        Raises:
            TransportError: The proxy refuses.
        """
        server = netloc(str(self._tunnel_host).strip("[]"), self._tunnel_port)
        fields = {"Host": server, **self._tunnel_headers}  # type: ignore[attr-defined]
        lines = [f"CONNECT {server} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        with contextlib.closing(self.response_class(self.sock, method="CONNECT")) as answer:
            answer.begin()
        if answer.status != http.HTTPStatus.OK:
            reason = answer.reason
            for value in fields.values():  # credentials, should the proxy quote them
                reason = reason.replace(value.rpartition(" ")[2], "…")
            raise TransportError(
                f"the proxy refuses to connect to {server}: HTTP {answer.status} {reason}",
                retryable=answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR,
            )

    def request(
        self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any
    ) -> None:
        """Sends a request as urllib3 does, for the target that is among the headers."""
        fields = dict(headers)
        self._target, self._is_cut = fields.pop(TARGET), False
        super().request(method, url, body=body, headers=fields, **options)

    def putrequest(self, method: str, url: str, *arguments: Any, **options: Any) -> None:
        """Begins a request for the target."""
        super().putrequest(method, self._target, *arguments, **options)

    def send(self, data: Any) -> None:
        """Sends bytes, or pieces of bytes one behind the other.

        A server that refuses a body may have answered before it hangs up, so that is no error here.

        Raises:
            OSError: The connection failed, or timed out.
        """
        if self.sock is None:
            self.connect()
        try:
            send(self.sock, [data] if isinstance(data, bytes) else list(data))
        except (BrokenPipeError, ConnectionResetError):
            self._is_cut = True

    def getresponse(self) -> Any:
        """Returns the response; no request follows one that was not sent as a whole."""
        response = super().getresponse()
        if self._is_cut and (sock := self.sock) is not None:
            self.sock = None
            sock.close()
        return response


class SecureConnection(Connection, urllib3.connection.HTTPSConnection):
    """The same with TLS."""


def send(sock: socket.socket, pieces: Sequence[bytes]) -> None:
    """Sends pieces of bytes one behind the other, large ones in as few turns as there can be.

    Args:
        sock: Connected, with a time-out, which bounds how long no byte is taken, as in `TransferRate`.
        pieces: All that is to be sent.

    Raises:
        OSError: The connection failed, or timed out.
    """
    seconds = sock.gettimeout() or 0.0
    rate = TransferRate(seconds)
    # A subclass, such as for TLS, does more than to hand on the bytes.
    if _HAS_SENDMSG and type(sock) is socket.socket and sum(map(len, pieces)) >= _LARGE:
        try:
            _send_in_few_turns(sock, pieces, rate)
        finally:
            sock.settimeout(seconds)
        return
    for piece in pieces:
        for start in range(0, len(piece), _SLICE):
            wait = rate.start()
            if wait < seconds:
                sock.settimeout(wait)
            part = piece if len(piece) <= _SLICE else piece[start : start + _SLICE]
            sock.sendall(part)
            rate.moved(len(part))


def _send_in_few_turns(sock: socket.socket, pieces: Sequence[bytes], rate: TransferRate) -> None:
    """Leaves it to the system to wait until there is room for more.

    A socket with a time-out comes back for each part that there is room for, and every time this thread
    has to wait until another, which makes the next blocks, lets go of the interpreter.
    """
    left = [memoryview(piece) for piece in pieces if piece]
    at = 0
    sock.settimeout(None)
    try:
        while at < len(left):
            wait = rate.start()
            whole = int(wait)
            bound = struct.pack("ll", whole, int((wait - whole) * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
            size = sock.sendmsg(left[at : at + _MOST_PIECES])
            rate.moved(size)
            while at < len(left) and size >= len(left[at]):
                size -= len(left[at])
                at += 1
            if size:
                left[at] = left[at][size:]
    except BlockingIOError:
        raise TimeoutError("timed out") from None
