"""The connections of one client: creates new ones, and reuses idle ones."""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING

from ipfs_dataset_core import time_left
from ipfs_dataset_plugins.http.connection import FAILURES, Connection
from ipfs_dataset_plugins.http.endpoint import is_loopback
from ipfs_dataset_plugins.http.response import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ipfs_dataset_plugins.http.connection import Server
    from ipfs_dataset_plugins.http.environment import Environment

# If more threads read concurrently, some of them open a connection for each request.
MAX_IDLE_CONNECTIONS = 32


class ConnectionPool:
    """The connections of one client to all its servers. Thread-safe.

    The pools of urllib3 limit the connections to one server. A subdomain gateway has a host for each CID, so
    a limit is only effective for all of them together.

    Args:
        unix: The path of a unix socket to which all requests are sent; None to connect to the servers.
        most: Maximum number of idle connections, if more than `MAX_IDLE_CONNECTIONS`.
        spare_seconds: Time limit for opening a second connection beside that of the first request; None opens
            none.
    """

    def __init__(
        self,
        unix: str | None = None,
        most: int = MAX_IDLE_CONNECTIONS,
        spare_seconds: float | None = None,
    ) -> None:
        self._unix = unix
        self._most = max(most, MAX_IDLE_CONNECTIONS)
        # None also once that has begun.
        self._spare_seconds = spare_seconds
        # The server, and the thread that opens that connection, until a request has waited for it.
        self._spare: tuple[Server, threading.Thread] | None = None
        self._environment: Environment | None = None
        self._idle: list[Connection] = []
        self._closed = False
        self._lock = threading.Lock()
        # All open connections, including those in use. They are closed when this set is collected as garbage:
        # if the connections were part of that garbage, their sockets could be finalized first, while still
        # open.
        self._opened: set[Connection] = set()
        weakref.finalize(self, _close_all, self._opened)

    def __len__(self) -> int:
        """Returns the number of idle connections."""
        return len(self._idle)

    def send(
        self,
        server: Server,
        method: str,
        target: str,
        fields: Mapping[str, str],
        pieces: Sequence[bytes],
        *,
        seconds: float,
        what: str,
        secrets: Callable[[], Iterable[str]],
    ) -> Response:
        """Sends a request and returns the response, whose body has not been read.

        Args:
            server: The server.
            method: GET, HEAD or POST.
            target: Path and query.
            fields: The header fields.
            pieces: The pieces of the body.
            seconds: The longest single wait.
            what: Name of the request in messages.
            secrets: As in `Response`.

        Raises:
            TransportError: There was no response.
            AddressError: A proxy or certificates cannot be used.
            MissingDependencyError: The proxy is a SOCKS proxy, and PySocks is not installed.
        """
        connection = self._take(server)
        if connection is None:
            connection = self.new(server)
            if self._spare_seconds is not None and connection.proxy is None:
                connection.on_connected = partial(self._start_spare, server)
        wire = connection.exchange(method, target, fields, pieces, seconds=seconds, what=what)
        return Response(
            wire,
            connection.peer,
            keep=partial(self.keep, connection),
            close=connection.close,
            request=what,
            secrets=secrets,
        )

    def new(self, server: Server) -> Connection:
        """Returns a new connection to a server, which the first request opens.

        Raises:
            AddressError: A proxy or certificates cannot be used.
            MissingDependencyError: The proxy is a SOCKS proxy, and PySocks is not installed.
        """
        origin, allowed = server
        if self._unix is not None:
            connection = Connection("localhost", unix=self._unix, opened=self._opened)
        elif origin.scheme == "http" and is_loopback(origin.host):
            # No proxy is used. Importing requests takes longer than reading from a node on this machine.
            connection = Connection(origin.host, origin.port, allowed=allowed, opened=self._opened)
        else:
            with self._lock:
                if self._environment is None:
                    from ipfs_dataset_plugins.http.environment import (  # noqa: PLC0415
                        Environment,
                    )

                    self._environment = Environment(self._opened)
                connection = self._environment.connection(origin, allowed)
        connection.server = server
        return connection

    def keep(self, connection: Connection) -> None:
        """Keeps a connection for the next request; if there are too many, the oldest is closed."""
        if connection.is_closed:
            return
        surplus = connection
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                if len(self._idle) <= self._most:
                    return
                surplus = self._idle.pop(0)
        surplus.close()

    def close(self) -> None:
        """Closes all idle connections, and those that are returned later."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self, server: Server) -> Connection | None:
        """Returns the most recently used idle connection to a server; None if there is none.

        Connections that the server has closed, or on which it has sent something, are closed.
        """
        while (connection := self._newest(server)) is not None:
            if connection.is_connected:
                return connection
            connection.close()
        spare = self._spare
        if spare is not None and spare[0] == server:
            self._spare = None
            # It was started earlier than any other could be.
            spare[1].join(min(time_left(), threading.TIMEOUT_MAX))
            return self._take(server)
        return None

    def _newest(self, server: Server) -> Connection | None:
        with self._lock:
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at].server == server:
                    return self._idle.pop(at)
        return None

    def _start_spare(self, server: Server) -> None:
        """Starts opening the connection of the second request, while the first waits for its response.

        Not before the first is connected: a server may serve one connection after the other.
        """
        seconds, self._spare_seconds = self._spare_seconds, None
        if seconds is not None:
            spare = self.new(server)
            spare.timeout = seconds
            thread = threading.Thread(target=self._open, args=(spare,), daemon=True)
            thread.start()  # first: another thread may wait for it at once
            self._spare = server, thread

    def _open(self, spare: Connection) -> None:
        try:
            spare.connect()
        except FAILURES:
            spare.close()  # where the server cannot be reached, the request that waits fails, too
        else:
            self.keep(spare)


def _close_all(connections: set[Connection]) -> None:
    for connection in list(connections):
        connection.close()
