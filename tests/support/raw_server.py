"""A server on loopback that sends arbitrary bytes, such as invalid HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


class RawServer:
    """Serves during its ``with`` block, with one thread for each connection.

    Args:
        serve: Called with each connection; an `OSError` that it raises ends the connection.
        host: The address on which it listens.

    Attributes:
        port: The port on which it listens.
        url: Its URL.
    """

    def __init__(self, serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family)
        self.port = int(self._listening.getsockname()[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._serve = serve
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="raw-server")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listening.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._run, args=(connection,), name="raw-connection")
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(connection)


def head_from(connection: socket.socket) -> bytes:
    """Returns the head of a request; empty if the client has closed the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def saying(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Returns a function that answers the first request of a connection with these bytes and closes it."""

    def serve(connection: socket.socket) -> None:
        head_from(connection)
        for piece in pieces:
            connection.sendall(piece)

    return serve
