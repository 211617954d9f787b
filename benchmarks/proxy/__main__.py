"""The process of the proxy: prints its ports, then its counts for each line on stdin, and resets them.

Each connection has two threads. The bytes of the client are split into requests; those of the server are
spliced in the kernel, so that the proxy is no bottleneck.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from benchmarks.proxy.requests import RequestSplitter

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIPE_BYTES = 1 << 20
_MINUTE = 60.0
_TRUSTLESS = re.compile(rb"format=(?:raw|car)|application/vnd\.ipld\.(?:raw|car)", re.IGNORECASE)


class Counts:
    """Counts of what was transferred since they were last read.

    Round trips are counted by order, not by time: a request belongs to the round trip after the last one
    whose answer had been sent to the client before. Requests that are sent together are therefore one round
    trip, and a request that waits for an answer is the next. A TCP connection and a TLS handshake are one
    each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        names = ("requests", "refused", "connections", "sent", "received", "round_trips")
        self._values = dict.fromkeys(names, 0)
        self._times_taken = 0

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._values[name] += amount

    def begin_round_trip(self) -> tuple[int, int]:
        """Returns the argument of `end_round_trip` for a request that arrives now."""
        with self._lock:
            return self._times_taken, self._values["round_trips"] + 1

    def end_round_trip(self, begun: tuple[int, int]) -> None:
        """Counts a round trip whose answer is sent now."""
        times_taken, number = begun
        with self._lock:
            if (
                times_taken == self._times_taken
            ):  # otherwise it began before the counts were last read
                self._values["round_trips"] = max(self._values["round_trips"], number)

    def take(self) -> dict[str, int]:
        with self._lock:
            taken, self._values = self._values, dict.fromkeys(self._values, 0)
            self._times_taken += 1
        return taken


class RateLimit:
    """Limits the requests per minute of all connections together."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._passed: deque[float] = deque()
        self._lock = threading.Lock()

    def wait_needed(self) -> float:
        """Returns 0 and counts a request if it is allowed, otherwise the seconds until one is allowed."""
        if self._per_minute is None:
            return 0
        with self._lock:
            now = time.monotonic()
            while self._passed and now - self._passed[0] >= _MINUTE:
                self._passed.popleft()
            if len(self._passed) < self._per_minute:
                self._passed.append(now)
                return 0
            return _MINUTE - (now - self._passed[0])


class Rules:
    """The rules for all connections.

    Args:
        delay: Seconds by which each request is delayed.
        per_minute: Maximum number of requests per minute; None for no limit.
        trustless: Whether only blocks and CARs are served, as by Kubo with DeserializedResponses disabled.
        tls: The context for serving TLS; None for no TLS.
    """

    def __init__(
        self,
        delay: float,
        per_minute: int | None,
        *,
        trustless: bool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.counts = Counts()
        self.delay = delay
        self.tls = tls
        self._rate_limit = RateLimit(per_minute)
        self._trustless = trustless

    def refusal(self, head: bytes) -> str | None:
        """Returns the status and headers with which a request is refused; None if it is allowed."""
        if self._trustless and not _TRUSTLESS.search(head):
            return "406 Not Acceptable"
        if wait := self._rate_limit.wait_needed():
            return f"429 Too Many Requests\r\nRetry-After: {int(wait) + 1}"
        return None


class Link:
    """The connection of a client, and the one to the server."""

    def __init__(self, client: socket.socket, target: tuple[str, int], rules: Rules) -> None:
        self._client, self._target, self._rules = client, target, rules
        self._counts = rules.counts
        self._waiting: tuple[int, int] | None = (
            None  # the round trip whose answer has not arrived yet
        )

    def serve(self) -> None:
        with suppress(OSError), socket.create_connection(self._target) as server:
            for one in (self._client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._round_trip()  # of the connection, which was already accepted
            if self._rules.tls is not None:
                self._client.recv(1, socket.MSG_PEEK)
                self._round_trip()
                self._client = self._rules.tls.wrap_socket(self._client, server_side=True)
            answering = threading.Thread(target=self._answer, args=(server,), daemon=True)
            answering.start()
            with suppress(OSError):
                self._forward(server)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            answering.join()
        self._client.close()

    def _round_trip(self) -> None:
        begun = self._counts.begin_round_trip()
        time.sleep(self._rules.delay)
        self._counts.end_round_trip(begun)

    def _forward(self, server: socket.socket) -> None:
        splitter, passing = RequestSplitter(), True
        while data := self._client.recv(1 << 18):
            for is_head, piece in splitter.feed(data):
                if is_head:
                    passing = self._admit(piece)
                if passing:
                    server.sendall(piece)
                    self._counts.add("sent", len(piece))

    def _admit(self, head: bytes) -> bool:
        """Returns whether a request is allowed; sends the refusal if it is not."""
        begun = self._counts.begin_round_trip()
        time.sleep(self._rules.delay)
        refusal = self._rules.refusal(head)
        self._counts.add("refused" if refusal else "requests")
        if not refusal:
            self._waiting = begun
        else:
            self._counts.end_round_trip(begun)
            self._client.sendall(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
        return not refusal

    def _answer(self, server: socket.socket) -> None:
        with suppress(OSError):
            for moved in _moved(server, self._client):
                self._counts.add("received", moved)
                if self._waiting is not None:
                    self._counts.end_round_trip(self._waiting)
                    self._waiting = None
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)


def _moved(source: socket.socket, sink: socket.socket) -> Iterator[int]:
    """Yields the number of bytes that have arrived, each time before they are passed on."""
    can_splice = hasattr(os, "splice") and not isinstance(sink, ssl.SSLSocket)
    return _spliced(source, sink) if can_splice else _copied(source, sink)


def _spliced(source: socket.socket, sink: socket.socket) -> Iterator[int]:
    out, into = os.pipe()
    try:
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        while got := os.splice(source.fileno(), into, _PIPE_BYTES):
            yield got
            left = got
            while left:
                left -= os.splice(out, sink.fileno(), left)
    finally:
        os.close(out)
        os.close(into)


def _copied(source: socket.socket, sink: socket.socket) -> Iterator[int]:
    while data := source.recv(_PIPE_BYTES):
        yield len(data)
        sink.sendall(data)


def _listen(target: tuple[str, int], rules: Rules) -> int:
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        while True:
            client, _ = listening.accept()
            rules.counts.add("connections")
            threading.Thread(target=Link(client, target, rules).serve, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listening.getsockname()[1]
    return port


def main() -> None:
    """Serves until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="+", metavar="HOST:PORT")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--per-minute", type=int)
    parser.add_argument("--trustless", action="store_true")
    parser.add_argument(
        "--certificate", help="a PEM file with a certificate and its key, to serve TLS"
    )
    arguments = parser.parse_args()
    tls = None
    if arguments.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.certificate)
    rules = Rules(
        arguments.delay_ms / 1000, arguments.per_minute, trustless=arguments.trustless, tls=tls
    )
    ports = []
    for target in arguments.targets:
        host, _, port = target.rpartition(":")
        ports.append(_listen((host, int(port)), rules))
    print(json.dumps(ports), flush=True)
    for _ in sys.stdin:
        print(json.dumps(rules.counts.take()), flush=True)


if __name__ == "__main__":
    main()
