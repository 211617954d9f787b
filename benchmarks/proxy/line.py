"""A line with a delay, for any protocol over TCP: bytes arrive later, in both directions.

Unlike the HTTP proxy, which delays requests, it delays bytes, as distance does: a client that sends without
waiting for answers loses no time. It neither limits the bandwidth nor imitates the slow start of TCP. It runs
in a process of its own, which `Line` starts.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.proxy.child_process import ChildProcess

if TYPE_CHECKING:
    from typing_extensions import Self

_PIECE_BYTES = 1 << 18
# Maximum number of bytes in transit in one direction of a connection: more than any peer allows.
_MOST_BYTES = 256 << 20


class Line(ChildProcess):
    """A line that runs during its ``with`` block.

    Args:
        host: Host to which it connects.
        port: Port to which it connects.
        round_trip_ms: Delay of both directions together, in milliseconds.

    Attributes:
        port: Port at which it accepts connections, on 127.0.0.1.
    """

    port: int

    def __init__(self, host: str, port: int, round_trip_ms: float) -> None:
        super().__init__("benchmarks.proxy.line", host, str(port), str(round_trip_ms / 2000))

    def __enter__(self) -> Self:
        super().__enter__()
        self.port = int(self.read_line())
        return self


class _Direction:
    """Passes bytes from one socket to another, with a delay."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay: float) -> None:
        self._source, self._sink, self._delay = source, sink, delay
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def run(self) -> None:
        """Passes on all bytes."""
        receiving = threading.Thread(target=self._receive, daemon=True)
        receiving.start()
        with suppress(OSError):
            while piece := self._next():
                self._sink.sendall(piece)
        with suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            self._source.shutdown(socket.SHUT_RD)

    def _next(self) -> bytes:
        with self._changed:
            while not self._pieces:
                self._changed.wait()
            due, piece = self._pieces.popleft()
            self._bytes -= len(piece)
            self._changed.notify()
        time.sleep(max(0.0, due - time.monotonic()))
        return piece

    def _receive(self) -> None:
        piece = b"x"
        while piece:
            try:
                piece = self._source.recv(_PIECE_BYTES)
            except OSError:
                piece = b""
            with self._changed:
                while self._bytes > _MOST_BYTES:
                    self._changed.wait()
                self._pieces.append((time.monotonic() + self._delay, piece))
                self._bytes += len(piece)
                self._changed.notify()


def _serve(client: socket.socket, target: tuple[str, int], delay: float) -> None:
    with suppress(OSError), client, socket.create_connection(target) as server:
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        time.sleep(
            2 * delay
        )  # connecting takes a round trip, but the connection was already accepted
        back = _Direction(server, client, delay)
        returning = threading.Thread(target=back.run, daemon=True)
        returning.start()
        _Direction(client, server, delay).run()
        returning.join()


def main() -> None:
    """Accepts connections until stdin ends."""
    host, port, delay = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        while True:
            client, _ = listening.accept()
            threading.Thread(
                target=_serve, args=(client, (host, int(port)), float(delay)), daemon=True
            ).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listening.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
