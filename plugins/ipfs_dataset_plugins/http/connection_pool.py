"""Sends requests through urllib3's connection pools, one for each server."""

from __future__ import annotations

import http.client
import os
import threading
from typing import TYPE_CHECKING, Any

import urllib3
import urllib3.exceptions

from ipfs_dataset_plugins.http.address_filter import EVERYWHERE, is_loopback
from ipfs_dataset_plugins.http.body import Body, translated
from ipfs_dataset_plugins.http.connection import TARGET, Connection, SecureConnection
from ipfs_dataset_plugins.http.idle import IdleConnections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_plugins.http.address_filter import AddressFilter
    from ipfs_dataset_plugins.http.endpoint import Endpoint
    from ipfs_dataset_plugins.http.environment import Environment
    from ipfs_dataset_plugins.http.request import Request
    from ipfs_dataset_plugins.http.url import Origin

# A subdomain gateway has a host, and so a pool, for each CID.
_MAX_POOLS = 64
_NO_RETRIES = urllib3.Retry(total=False, redirect=False)


class ConnectionPools:
    """The connection pools of one client; any number of threads may use them.

    A process does not use those of the one that it was forked from.

    Args:
        endpoint: Where most requests go.
        origin: The same, parsed.

    Raises:
        AddressError: The environment names a proxy or certificates that cannot be used.
        MissingDependencyError: It names a SOCKS proxy, and PySocks is not installed.
    """

    def __init__(self, endpoint: Endpoint, origin: Origin) -> None:
        self._unix = endpoint.unix
        self._begin()
        # What is wrong with the environment is an error of the address, not of some request.
        self._pool(origin, EVERYWHERE)

    @property
    def idle(self) -> int:
        """How many connections are kept for the next request."""
        return len(self._idle)

    def send(
        self,
        origin: Origin,
        allowed: AddressFilter,
        request: Request,
        seconds: float,
        secrets: Callable[[], Iterable[str]],
    ) -> Body:
        """Sends a request and returns the response with its body unread.

        Args:
            origin: Which server to ask.
            allowed: Which addresses it may have.
            request: What to send.
            seconds: How long each wait may take.
            secrets: As in `Body`.

        Raises:
            TransportError: No response came.
        """
        pool = self._pool(origin, allowed)
        is_forwarded = pool.proxy is not None and origin.scheme == "http"
        base = f"http://{origin.host_field}" if is_forwarded else ""
        fields = {**request.fields, TARGET: base + request.target}
        body: Any = request.body or None
        try:
            response = pool.urlopen(
                request.method,
                f"{base}/",
                body=body,
                headers=fields,
                retries=_NO_RETRIES,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(connect=seconds, read=seconds),
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
        return Body(response, request.what, secrets)

    def close(self) -> None:
        """Closes the idle connections; those that are in use are closed after that."""
        idle = self._idle
        self._begin()
        idle.close()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._idle = IdleConnections()
        self._environment: Environment | None = None
        self._pools: dict[tuple[Origin, AddressFilter], urllib3.HTTPConnectionPool] = {}
        self._lock = threading.Lock()

    def _pool(self, origin: Origin, allowed: AddressFilter) -> urllib3.HTTPConnectionPool:
        if self._process != os.getpid():
            self._begin()
        pool = self._pools.get((origin, allowed))
        if pool is not None:
            return pool
        with self._lock:
            if len(self._pools) >= _MAX_POOLS:
                self._pools.clear()
            pool = self._new_pool(origin, allowed)
            self._pools[origin, allowed] = pool
        return pool

    def _new_pool(self, origin: Origin, allowed: AddressFilter) -> urllib3.HTTPConnectionPool:
        if self._unix is not None:
            return Pool("localhost", 80, idle=self._idle, unix=self._unix)
        if origin.scheme == "http" and is_loopback(origin.host):
            # No proxy is between. To import requests takes longer than to read from a node here.
            return Pool(origin.host, origin.port, idle=self._idle, allowed=allowed)
        if self._environment is None:
            from ipfs_dataset_plugins.http.environment import Environment  # noqa: PLC0415

            self._environment = Environment(self._idle)
        return self._environment.pool(origin, allowed)


class _Shared(urllib3.HTTPConnectionPool):
    """A pool whose idle connections are in a list that all pools of a client share.

    Args:
        idle: The list.
        allowed: Which addresses may be connected to.
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
            self._idle.keep(self._server, conn)


class Pool(_Shared):
    """Connections without TLS."""

    ConnectionCls: Any = Connection


class SecurePool(_Shared, urllib3.HTTPSConnectionPool):
    """Connections with TLS."""

    ConnectionCls: Any = SecureConnection
