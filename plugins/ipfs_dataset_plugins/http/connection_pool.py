"""Connections that are kept for the next request; any number of threads may use them.

A process does not use those of the one that it was forked from: transports are made anew in each.
"""

from __future__ import annotations

import functools
import select
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ipfs_dataset_plugins.http.url import Origin

# More threads than that at once only means that some connect anew.
KEPT_CONNECTIONS = 32

_Idle = list[tuple["Origin", "socket.socket"]]


class KeptConnections:
    """Sockets to servers.

    All servers share one list: of a subdomain gateway, each CID has its own.

    Args:
        connect: Returns a new socket, given the server and the seconds that it may take.
    """

    def __init__(self, connect: Callable[[Origin, float], socket.socket]) -> None:
        self._connect = connect
        self._idle: _Idle = []
        self._lock = threading.Lock()

    def take(
        self, peer: Origin, seconds: float
    ) -> tuple[socket.socket, Callable[[socket.socket], None]]:
        """Returns a socket to a server, and what takes it back when it is idle again.

        Args:
            peer: The server.
            seconds: The time-out of connecting and of the socket.
        """
        idle = self._idle
        while (sock := self._newest(peer)) is not None:
            # What an idle connection has to say is that it is over.
            if not _is_readable(sock):
                sock.settimeout(seconds)
                break
            sock.close()
        else:
            sock = self._connect(peer, seconds)
        return sock, functools.partial(self._keep, idle, peer)

    def close(self) -> None:
        """Closes the idle sockets; those that are in use are closed after that."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, sock in idle:
            sock.close()

    def __del__(self) -> None:
        for _, sock in self._idle:
            sock.close()

    def _newest(self, peer: Origin) -> socket.socket | None:
        with self._lock:
            for at in range(len(self._idle) - 1, -1, -1):
                if self._idle[at][0] == peer:
                    return self._idle.pop(at)[1]
        return None

    def _keep(self, idle: _Idle, peer: Origin, sock: socket.socket) -> None:
        surplus: socket.socket | None = None
        with self._lock:
            if idle is not self._idle:  # closed meanwhile
                surplus = sock
            else:
                idle.append((peer, sock))
                if len(idle) > KEPT_CONNECTIONS:
                    surplus = idle.pop(0)[1]
        if surplus is not None:
            surplus.close()


def _is_readable(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):  # Windows, whose select takes any socket
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
