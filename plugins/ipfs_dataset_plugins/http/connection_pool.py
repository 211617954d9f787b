"""Connection pools of urllib3, one for each server, and the idle connections that they share."""

from __future__ import annotations

import http.client
import os
import threading
from typing import TYPE_CHECKING, Any

import urllib3
import urllib3.exceptions

from ipfs_dataset_plugins.http.address_filter import EVERYWHERE, is_loopback
from ipfs_dataset_plugins.http.connection import TARGET, Connection, SecureConnection
from ipfs_dataset_plugins.http.errors import translated
from ipfs_dataset_plugins.http.response import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from urllib3.connection import HTTPConnection

    from ipfs_dataset_plugins.http.address_filter import AddressFilter
    from ipfs_dataset_plugins.http.client import Request
    from ipfs_dataset_plugins.http.endpoint import Endpoint, Origin
    from ipfs_dataset_plugins.http.environment import Environment

# If more threads read at once, some of them open a connection for each request.
MAX_IDLE_CONNECTIONS = 32
# A subdomain gateway has a host, and therefore a pool, for each CID.
_MAX_POOLS = 64
_NO_RETRIES = urllib3.Retry(total=False, redirect=False)


class ConnectionPools:
    """The connection pools of one client; any number of threads may use them.

    A forked process opens connections of its own.

    Args:
        endpoint: The server that most requests go to.
        origin: Its origin.

    Raises:
        AddressError: The environment names a proxy or certificates that cannot be used.
        MissingDependencyError: It names a SOCKS proxy, and PySocks is not installed.
    """

    def __init__(self, endpoint: Endpoint, origin: Origin) -> None:
        self._unix = endpoint.unix
        self._reset()
        # A wrong environment is an error of the address, and not of the first request.
        self._pool(origin, EVERYWHERE)

    @property
    def idle(self) -> int:
        """The number of idle connections."""
        return len(self._idle)

    def send(
        self,
        origin: Origin,
        allowed: AddressFilter,
        request: Request,
        timeout: float,
        secrets: Callable[[], Iterable[str]],
    ) -> Body:
        """Sends a request and returns the response, whose body has not been read.

        Args:
            origin: The server.
            allowed: The IP addresses that it may have.
            request: The request.
            timeout: The longest single wait in seconds.
            secrets: As in `Body`.

        Raises:
            TransportError: There was no response.
        """
        pool = self._pool(origin, allowed)
        is_forwarded = pool.proxy is not None and origin.scheme == "http"
        base = f"http://{origin.host_field}" if is_forwarded else ""
        fields = {**request.fields, TARGET: base + request.target}
        body: Any = request.body or None
        try:
            response: Any = pool.urlopen(
                request.method,
                f"{base}/",
                body=body,
                headers=fields,
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
            raise translated(error, request.what) from error
        return Body(response, pool, request.what, secrets)

    def close(self) -> None:
        """Closes the idle connections now, and those in use when their responses are closed."""
        idle = self._idle
        self._reset()
        idle.close()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._idle = IdleConnections()
        self._environment: Environment | None = None
        self._pools: dict[tuple[Origin, AddressFilter], Pool | SecurePool] = {}
        self._lock = threading.Lock()

    def _pool(self, origin: Origin, allowed: AddressFilter) -> Pool | SecurePool:
        if self._process != os.getpid():
            self._reset()
        pool = self._pools.get((origin, allowed))
        if pool is not None:
            return pool
        with self._lock:
            if len(self._pools) >= _MAX_POOLS:
                self._pools.clear()
            pool = self._new_pool(origin, allowed)
            self._pools[origin, allowed] = pool
        return pool

    def _new_pool(self, origin: Origin, allowed: AddressFilter) -> Pool | SecurePool:
        if self._unix is not None:
            return Pool("localhost", 80, idle=self._idle, unix=self._unix)
        if origin.scheme == "http" and is_loopback(origin.host):
            # No proxy is used. To import requests takes longer than to read from a node on this machine.
            return Pool(origin.host, origin.port, idle=self._idle, allowed=allowed)
        if self._environment is None:
            from ipfs_dataset_plugins.http.environment import Environment  # noqa: PLC0415

            self._environment = Environment(self._idle)
        return self._environment.pool(origin, allowed)


class IdleConnections:
    """The idle connections of all pools of one client; any number of threads may use them.

    The pools of urllib3 limit the connections to one server. A subdomain gateway has a host for each CID, so
    only a limit for all of them together is one.
    """

    def __init__(self) -> None:
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
        return None

    def keep(self, server: Hashable, connection: HTTPConnection) -> None:
        """Keeps a connection for the next request; if there are too many, the oldest is closed."""
        if connection.is_closed:
            return
        surplus = connection
        with self._lock:
            if not self._closed:
                self._idle.append((server, connection))
                if len(self._idle) <= MAX_IDLE_CONNECTIONS:
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

    def __del__(self) -> None:
        for _, connection in self._idle:
            connection.close()

    def _newest(self, server: Hashable) -> HTTPConnection | None:
        with self._lock:
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at][0] == server:
                    return self._idle.pop(at)[1]
        return None


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
        super().__init__(*arguments, allowed=allowed, **options)
        self._idle = idle
        self._server = (self.scheme, self.host, self.port, self.proxy, allowed)

    def _get_conn(self, timeout: float | None = None) -> Any:
        return self._idle.take(self._server) or self._new_conn()

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            self.keep(conn)

    def keep(self, connection: HTTPConnection) -> None:
        """Keeps a connection for the next request to this server."""
        self._idle.keep(self._server, connection)


class Pool(_SharedPool):
    """Connections without TLS."""

    ConnectionCls: Any = Connection


class SecurePool(_SharedPool, urllib3.HTTPSConnectionPool):
    """Connections with TLS."""

    ConnectionCls: Any = SecureConnection
