"""Connections of urllib3 with filtered addresses, unix sockets, limited uploads and strict responses.

Host names are resolved only here. The addresses of a name are filtered, and the connection is made to one of
exactly those, because a second lookup could have another result (DNS rebinding).

Requests are sent by these connections, not by the pools of urllib3, which log the targets of requests,
including tokens in their queries, and take a fifth of the CPU time of a small request.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3.connection
import urllib3.exceptions

from ipfs_dataset_core import TransportError, TransportTimeoutError, time_left
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE, AddressFilter
from ipfs_dataset_plugins.http.endpoint import Origin, netloc
from ipfs_dataset_plugins.http.errors import translated
from ipfs_dataset_plugins.http.response import WireResponse
from ipfs_dataset_plugins.http.transfer import send

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


Server = tuple[Origin, AddressFilter]
"""Where a request is sent, and the IP addresses that the server may have."""

# Raised by the classes below if there is no response.
FAILURES = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError)


class Address(NamedTuple):
    """One address of a host, as `socket.getaddrinfo` returns it."""

    family: int
    kind: int
    protocol: int
    sockaddr: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The IP address."""
        return str(self.sockaddr[0])


def lookup(host: str, port: int) -> list[Address]:
    """Resolves the name of a host.

    Args:
        host: An ASCII name or an IP address. It is passed to the resolver as bytes, because for text Python
            converts other characters to ASCII by IDNA 2003, which converts ß to ss.
        port: The TCP port.

    Raises:
        OSError: The name is unknown.
    """
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return [Address(family, kind, proto, addr) for family, kind, proto, _, addr in found]


def dial(address: Address, seconds: float) -> socket.socket:
    """Connects a socket to an address.

    Raises:
        OSError: There is no connection after `seconds`.
    """
    sock = socket.socket(address.family, address.kind, address.protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(address.sockaddr)
    except BaseException:
        sock.close()
        raise
    with contextlib.suppress(OSError):  # requests and their bodies are not sent in small pieces
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def allowed_addresses(host: str, port: int, allowed: AddressFilter) -> list[Address]:
    """Returns the addresses of a host to which a connection is allowed.

    Raises:
        TransportError: The name is unknown, or none of its addresses is allowed.
    """
    name = host.replace("%25", "%")
    try:
        found = lookup(name, port)
    except UnicodeError as error:
        raise TransportError(f"{name!r} is not a host name: {error}") from error
    except OSError as error:
        raise _no_connection(f"{name!r} is not known: {error}") from error
    if not allowed.public_only:
        return found
    kept = [address for address in found if allowed.allows(address.host, port)]
    if found and not kept:
        addresses = ", ".join(sorted({address.host for address in found}))
        raise TransportError(
            f"not connected to {name!r}: it resolves to {addresses}, on this machine or in a private "
            "network, to which other servers must not direct requests"
        )
    return kept


def connect(host: str, port: int, seconds: float, allowed: AddressFilter) -> socket.socket:
    """Returns a TCP connection to one of the allowed addresses of a host.

    Args:
        host: A name or an IP address.
        port: The TCP port.
        seconds: The time for all attempts together, and then the time-out of the socket.
        allowed: The addresses that may be connected to.

    Raises:
        TransportError: There is no connection.
        TimeoutError: There was none in time.
    """
    end = time.monotonic() + seconds
    failure: OSError | None = None
    for address in allowed_addresses(host, port, allowed):
        left = min(end - time.monotonic(), time_left())
        if left <= 0:
            raise TransportTimeoutError(f"no connection to {host} port {port}") from failure
        try:
            sock = dial(address, left)
        except OSError as error:
            failure = error
        else:
            sock.settimeout(seconds)
            return sock
    if isinstance(failure, TimeoutError):
        raise failure
    raise _no_connection(f"{host} port {port}: {failure or 'no address'}") from failure


def connect_unix(path: str, seconds: float) -> socket.socket:
    """Returns a connection to a unix socket.

    Raises:
        TransportError: There is no connection.
        TimeoutError: There was none in time.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(path)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise _no_connection(f"{path}: {error}") from error
        raise
    return sock


class Connection(urllib3.connection.HTTPConnection):
    """A connection to a server, or to the proxy through which it is reached; the first request opens it.

    Args:
        allowed: The addresses that may be connected to. The proxy, which the user has chosen, may be
            anywhere.
        unix: The path of a unix socket, instead of a host and a port.
        opened: The set of open connections, which contains this one while it is open.

    Attributes:
        server: The server; None for none in particular.
        peer: The IP address and port of the server; None behind a proxy or a unix socket.
        base: What precedes the path in a request to a proxy that gets whole URLs, because there is no tunnel.
        proxy_fields: The header fields for that proxy.
        on_connected: Called once there is a connection, before a TLS handshake; None for nothing.
    """

    response_class = WireResponse

    def __init__(
        self,
        *arguments: Any,
        allowed: AddressFilter = EVERYWHERE,
        unix: str | None = None,
        opened: set[Connection] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.allowed = allowed
        self.server: Server | None = None
        self._opened: set[Connection] = set() if opened is None else opened
        self.peer: tuple[str, int] | None = None
        self.base = ""
        self.proxy_fields: Mapping[str, str] = {}
        self.on_connected: Callable[[], None] | None = None
        self._unix = unix
        self._was_cut = False

    def exchange(
        self,
        method: str,
        target: str,
        fields: Mapping[str, str],
        pieces: Sequence[bytes] = (),
        *,
        seconds: float,
        what: str,
    ) -> WireResponse:
        """Sends a request and returns the response, whose body has not been read.

        Args:
            method: GET, HEAD or POST.
            target: Path and query.
            fields: The header fields, Host among them.
            pieces: The pieces of the body.
            seconds: The longest single wait.
            what: Name of the request in messages.

        Raises:
            TransportError: There was no response. The connection is closed.
        """
        self.timeout = seconds
        self._was_cut = False
        try:
            if self.sock is not None:
                self.sock.settimeout(seconds)
            # Not `request`, which looks for header fields that are always present here.
            self.putrequest(method, self.base + target, skip_host=True, skip_accept_encoding=True)
            for name, value in (*fields.items(), *self.proxy_fields.items()):
                self.putheader(name, value)
            self.endheaders()
            if pieces:
                self.send(pieces)
            response: WireResponse = self.getresponse()
        except FAILURES as error:
            self.close()
            raise translated(error, what) from error
        except BaseException:
            self.close()
            raise
        return response

    def close(self) -> None:
        """Closes the socket, if there is one."""
        super().close()
        self._opened.discard(self)

    def _new_conn(self) -> socket.socket:
        sock = self._connected()
        self._opened.add(self)
        return sock

    def _connected(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        if self._unix is not None:
            return connect_unix(self._unix, seconds)
        allowed = self.allowed if self.proxy is None else EVERYWHERE
        sock = connect(self._dns_host, self.port, seconds, allowed)
        try:
            self.peer = sock.getpeername()[:2] if self.proxy is None else None
        except OSError:  # the server has closed the connection already
            sock.close()
            raise
        # Not kept, because it refers to the pool, in a cycle with the connections that the pool keeps.
        on_connected, self.on_connected = self.on_connected, None
        if on_connected is not None:
            on_connected()
        return sock

    def _tunnel(self) -> None:
        """Opens a tunnel through a proxy.

        It uses HTTP/1.1 and a Host header, as http.client does only since Python 3.12.

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
            for value in fields.values():  # the proxy may quote the credentials
                reason = reason.replace(value.rpartition(" ")[2], "…")
            raise TransportError(
                f"the proxy refuses to connect to {server}: HTTP {answer.status} {reason}",
                retryable=answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR,
            )

    def send(self, data: Any) -> None:
        """Sends bytes, or several pieces of bytes.

        It is not an error if the server closes the connection meanwhile, because a server that rejects a body
        may have sent its response before.

        Raises:
            OSError: The connection failed, or timed out.
        """
        if self.sock is None:
            self.connect()
        try:
            send(self.sock, [data] if isinstance(data, bytes) else list(data))
        except (BrokenPipeError, ConnectionResetError):
            self._was_cut = True

    def getresponse(self) -> Any:
        """Returns the response; after an incomplete request, the connection is not used again."""
        if self.sock is not None:
            self.sock.settimeout(self.timeout)
        # Not the method of urllib3, which would wrap the response.
        response = http.client.HTTPConnection.getresponse(self)
        if self._was_cut and (sock := self.sock) is not None:
            # Not `close`, which would close the response too.
            self.sock = None
            sock.close()
            self._opened.discard(self)
        return response


class SecureConnection(Connection, urllib3.connection.HTTPSConnection):
    """The same with TLS."""

    @property
    def is_connected(self) -> bool:
        """Whether the server has neither closed the connection nor sent anything unexpected.

        Servers send session tickets after the handshake of TLS 1.3; these are not data, and are read here.
        """
        if super().is_connected or self.sock is None:
            return self.sock is not None
        seconds = self.sock.gettimeout()
        try:
            self.sock.settimeout(0.0)
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            self.sock.settimeout(seconds)
            return True
        except OSError:
            pass
        return False


def _no_connection(reason: object) -> TransportError:
    return TransportError(f"cannot connect ({reason}): is it running?", retryable=True)
