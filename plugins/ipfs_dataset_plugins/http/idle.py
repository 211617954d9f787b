"""Idle connections, kept for the next request; any number of threads may use them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from urllib3.connection import HTTPConnection

# More threads than that at once only means that some connect anew.
KEPT_CONNECTIONS = 32


class IdleConnections:
    """The idle connections of all pools of one client.

    They share one list, since a subdomain gateway has a host, and so a pool, for each CID: a limit for each
    pool would be none.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[Hashable, HTTPConnection]] = []
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, server: Hashable) -> HTTPConnection | None:
        """Returns the connection to a server that was used last, None where none is left.

        What a server sends on an idle connection is that it ends, or nothing that answers the next request.
        """
        while (connection := self._newest(server)) is not None:
            if connection.is_connected:
                return connection
            connection.close()
        return None

    def keep(self, server: Hashable, connection: HTTPConnection) -> None:
        """Takes back a connection on which another request can be sent; the oldest of too many is closed."""
        if connection.is_closed:
            return
        surplus = connection
        with self._lock:
            if not self._closed:
                self._idle.append((server, connection))
                if len(self._idle) <= KEPT_CONNECTIONS:
                    return
                surplus = self._idle.pop(0)[1]
        surplus.close()

    def close(self) -> None:
        """Closes all, and those that come later."""
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
