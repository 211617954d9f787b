"""Connections of urllib3 with filtered addresses, unix sockets, limited uploads and strict responses; pools.

This is the only place where host names are resolved. The addresses of a name are filtered, and the
connection is made to one of exactly those: a second lookup could have another result (DNS rebinding).

urllib3 is not given the target of a request, because it logs targets, and their queries contain tokens. The
target is passed among the header fields under the name `TARGET`, which no real field can have.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import socket
import ssl
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
import urllib3.connection
import urllib3.exceptions

from ipfs_dataset_core import TransportError, TransportTimeoutError, time_left
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE
from ipfs_dataset_plugins.http.endpoint import netloc
from ipfs_dataset_plugins.http.errors import translated
from ipfs_dataset_plugins.http.response import Body, Response
from ipfs_dataset_plugins.http.transfer import send

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from urllib3.connection import HTTPConnection

    from ipfs_dataset_plugins.http.address_filter import AddressFilter

TARGET = ":target"
# If more threads read at once, some of them open a connection for each request.
MAX_IDLE_CONNECTIONS = 32
_NO_RETRIES = urllib3.Retry(total=False, redirect=False)


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
    """Returns a socket that is connected to an address.

    Raises:
        OSError: There is no connection after so many seconds.
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
        raise TransportError(f"{name!r} is no name of a host: {error}") from error
    except OSError as error:
        raise _no_connection(f"{name!r} is not known: {error}") from error
    if not allowed.public_only:
        return found
    kept = [address for address in found if allowed.allows(address.host, port)]
    if found and not kept:
        addresses = ", ".join(sorted({address.host for address in found}))
        raise TransportError(
            f"not connected to {name!r}: it resolves to {addresses}, on this machine or in a private "
            "network, where no other server may send us"
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
    """A connection to a server, or to the proxy through which it is reached.

    Args:
        allowed: The addresses that may be connected to. The user has chosen the proxy, so it may be anywhere.
        unix: The path of a unix socket, instead of a host and a port.
        opened: The connections that are open, to which this belongs while it is.

    Attributes:
        peer: The IP address and port of the server; None behind a proxy or a unix socket.
        on_connected: Called once there is a connection, before a TLS handshake; None for nothing.
    """

    response_class = Response

    def __init__(
        self,
        *arguments: Any,
        allowed: AddressFilter = EVERYWHERE,
        unix: str | None = None,
        opened: set[HTTPConnection] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.allowed = allowed
        self._opened: set[HTTPConnection] = set() if opened is None else opened
        self.peer: tuple[str, int] | None = None
        self.on_connected: Callable[[], None] | None = None
        self._unix = unix
        self._target = ""
        self._was_cut = False

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
        # Not kept: it refers to the pool, in a cycle with the connections that the pool keeps.
        on_connected, self.on_connected = self.on_connected, None
        if on_connected is not None:
            on_connected()
        return sock

    def _tunnel(self) -> None:
        """Opens a tunnel through a proxy.

        In HTTP/1.1 and with a Host header, as http.client does only since Python 3.12.

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

    def request(
        self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any
    ) -> None:
        """Sends a request as urllib3 does, for the target that is among the header fields."""
        fields = dict(headers)
        self._target, self._was_cut = fields.pop(TARGET), False
        super().request(method, url, body=body, headers=fields, **options)

    def putrequest(self, method: str, url: str, *arguments: Any, **options: Any) -> None:
        """Starts a request for the target."""
        super().putrequest(method, self._target, *arguments, **options)

    def send(self, data: Any) -> None:
        """Sends bytes, or pieces of bytes one after the other.

        If the server closes the connection meanwhile, that is no error here: a server that refuses a body may
        have sent its response before.

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
            self.sock = None
            sock.close()
        return response


class SecureConnection(Connection, urllib3.connection.HTTPSConnection):
    """The same with TLS."""

    @property
    def is_connected(self) -> bool:
        """Whether the server has neither closed the connection nor sent anything that was not asked for.

        Servers send session tickets after the handshake of TLS 1.3. They are no data, and are read here.
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


class IdleConnections:
    """The idle connections of all pools of one client; any number of threads may use them.

    The pools of urllib3 limit the connections to one server. A subdomain gateway has a host for each CID, so
    only a limit for all of them together is one.

    Args:
        most: How many are kept at the most, if more than `MAX_IDLE_CONNECTIONS`.
        spare_seconds: For how long to try to open a second connection beside that of the first request;
            None opens none.

    Attributes:
        opened: All connections that are open, those in use too. They are closed when this is collected as
            garbage: were they part of that garbage, their sockets could be finalized first, still open.
        spare_seconds: None once that has begun, too.
        spare: The server, and the thread that opens that connection, until a request has waited for it.
    """

    def __init__(
        self, spare_seconds: float | None = None, most: int = MAX_IDLE_CONNECTIONS
    ) -> None:
        self._most = max(most, MAX_IDLE_CONNECTIONS)
        self.opened: set[HTTPConnection] = set()
        weakref.finalize(self, _close_all, self.opened)
        self.spare_seconds = spare_seconds
        self.spare: tuple[Hashable, threading.Thread] | None = None
        self._idle: list[tuple[Hashable, HTTPConnection]] = []
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, server: Hashable) -> HTTPConnection | None:
        """Returns the connection to a server that was used last; None if there is none.

        Connections that the server has closed, or on which it has sent something, are closed.
        """
        while (connection := self._newest(server)) is not None:
            if connection.is_connected:
                return connection
            connection.close()
        spare = self.spare
        if spare is not None and spare[0] == server:
            self.spare = None
            # It was begun earlier than any other could be.
            spare[1].join(min(time_left(), threading.TIMEOUT_MAX))
            return self.take(server)
        return None

    def keep(self, server: Hashable, connection: HTTPConnection) -> None:
        """Keeps a connection for the next request; if there are too many, the oldest is closed."""
        if connection.is_closed:
            return
        surplus = connection
        with self._lock:
            if not self._closed:
                self._idle.append((server, connection))
                if len(self._idle) <= self._most:
                    return
                surplus = self._idle.pop(0)[1]
        surplus.close()

    def close(self) -> None:
        """Closes all connections, and those that are kept later."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _newest(self, server: Hashable) -> HTTPConnection | None:
        with self._lock:
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at][0] == server:
                    return self._idle.pop(at)[1]
        return None


def _close_all(connections: set[HTTPConnection]) -> None:
    for connection in list(connections):
        connection.close()


class _SharedPool(urllib3.HTTPConnectionPool):
    """A pool whose idle connections are shared with all pools of a client.

    Args:
        idle: The idle connections.
        allowed: The addresses that may be connected to.
    """

    def __init__(
        self,
        *arguments: Any,
        idle: IdleConnections,
        allowed: AddressFilter = EVERYWHERE,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, allowed=allowed, opened=idle.opened, **options)
        self._idle = idle
        self._server = (self.scheme, self.host, self.port, self.proxy, allowed)

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = self._idle.take(self._server)
        if connection is None:
            connection = self._new_conn()
            if self._idle.spare_seconds is not None and self.proxy is None:
                connection.on_connected = self._start_spare
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            self.keep(conn)

    def keep(self, connection: HTTPConnection) -> None:
        """Keeps a connection for the next request to this server."""
        self._idle.keep(self._server, connection)

    def send(
        self,
        method: str,
        target: str,
        fields: Mapping[str, str],
        pieces: Sequence[bytes],
        *,
        url: str,
        timeout: float,
        what: str,
        secrets: Callable[[], Iterable[str]],
    ) -> Body:
        """Sends a request and returns the response, whose body has not been read.

        Args:
            method: GET, HEAD or POST.
            target: What the request line has.
            fields: The header fields.
            pieces: The pieces of the body.
            url: What urllib3 is given in place of the target: the server's root, for a proxy with its name.
            timeout: The longest single wait in seconds.
            what: What errors call the request.
            secrets: As in `Body`.

        Raises:
            TransportError: There was no response.
        """
        body: Any = [pieces] if pieces else None
        try:
            response: Any = self.urlopen(
                method,
                url,
                body=body,
                headers={**fields, TARGET: target},
                retries=_NO_RETRIES,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(connect=timeout, read=timeout),
                preload_content=False,
                decode_content=False,
            )
        except (
            OSError,
            http.client.HTTPException,
            urllib3.exceptions.HTTPError,
            ValueError,
        ) as error:
            raise translated(error, what) from error
        return Body(response, self.keep, what, secrets)

    def _start_spare(self) -> None:
        """Starts opening the connection of the second request, while the first waits for its answer.

        Not before the first is connected: a server may serve one connection after the other.
        """
        seconds, self._idle.spare_seconds = self._idle.spare_seconds, None
        if seconds is not None:
            spare: Any = self._new_conn()
            spare.timeout = seconds
            thread = threading.Thread(target=self._open_spare, args=(spare,), daemon=True)
            thread.start()  # first: another thread may wait for it at once
            self._idle.spare = self._server, thread

    def _open_spare(self, spare: Any) -> None:
        try:
            spare.connect()
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError):
            spare.close()  # where the server cannot be reached, the request that waits fails, too
        else:
            self.keep(spare)


class Pool(_SharedPool):
    """Connections without TLS."""

    ConnectionCls: Any = Connection


class SecurePool(_SharedPool, urllib3.HTTPSConnectionPool):
    """Connections with TLS."""

    ConnectionCls: Any = SecureConnection


def _no_connection(reason: object) -> TransportError:
    return TransportError(f"cannot connect ({reason}): is it running?", retryable=True)
