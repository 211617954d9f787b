"""A TCP proxy on loopback that counts the bytes between a client and a real node."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class CountingProxy:
    """Forwards connections during its ``with`` block.

    Args:
        port: The port of the server on 127.0.0.1.

    Attributes:
        sent: Bytes from clients to the server so far, header fields included.
        received: Bytes in the other direction.
        on_sent: Called with `sent` after each piece, before it is forwarded; a test may act in it.
    """

    def __init__(self, port: int) -> None:
        self.sent = self.received = 0
        self.on_sent = lambda sent: None
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @property
    def multiaddr(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that accepts, which closing the socket alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()

    def take(self) -> int:
        """Returns the number of bytes sent since the last call."""
        with self._lock:
            sent, self.sent = self.sent, 0
        return sent

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:  # the node is down: the client notices
                client.close()
                continue
            with self._lock:
                self._sockets += (client, server)
            self._start(self._forward, client, server, "sent")
            self._start(self._forward, server, client, "received")

    def _forward(self, source, target, direction):
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                with self._lock:
                    setattr(self, direction, getattr(self, direction) + len(piece))
                if direction == "sent":
                    self.on_sent(self.sent)
                target.sendall(piece)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
