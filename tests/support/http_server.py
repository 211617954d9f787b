"""A real HTTP/1.1 server on loopback with scripted responses and faults.

A test passes a function from `Request` to `Plan`; the server records the requests. If the function
raises an error, the test fails when the server stops.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.http_plan import (
    Plan,
    Request,
    endless,
    flipped,
    html,
    in_turn,
    pieces,
    rate_limited,
    redirect,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

__all__ = [
    "FaultServer",
    "Plan",
    "Request",
    "endless",
    "html",
    "in_turn",
    "rate_limited",
    "redirect",
]


class FaultServer:
    """Serves during its ``with`` block, with one thread for each persistent connection.

    Args:
        handler: Returns the response to a request; called from several threads.
        unix_socket: Path of a socket on which to listen instead of a TCP port.

    Attributes:
        requests: The requests so far, in the order of arrival.
        connections: Number of connections that were accepted so far.
        open_now: Number of requests that are being answered.
        most_at_once: The largest value of `open_now` so far.
    """

    def __init__(
        self, handler: Callable[[Request], Plan], *, unix_socket: Path | None = None
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.open_now = 0
        self.most_at_once = 0
        self._handler = handler
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _listen(self, unix_socket)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="fault-server"
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def multiaddr(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends all connections and threads; raises the first error of a handler."""
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()
        if self._errors:
            raise self._errors[0]

    def answer(self, request: Request) -> Plan:
        """Records a request and returns its plan."""
        with self._lock:
            self.requests.append(request)
        try:
            return self._handler(request)
        except BaseException as error:
            self.failed(error)
            return Plan(status=500, body=repr(error).encode())

    def failed(self, error: BaseException) -> None:
        with self._lock:
            self._errors.append(error)

    def wait(self, seconds: float | None) -> None:
        """Sleeps, but not beyond the end of the server."""
        self._stopping.wait(seconds)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def accepted(self) -> None:
        with self._lock:
            self.connections += 1

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        with self._lock:
            self.open_now += 1
            self.most_at_once = max(self.most_at_once, self.open_now)
        try:
            yield
        finally:
            with self._lock:
                self.open_now -= 1


class _CloseConnectionError(Exception):
    """The connection ends here, according to the plan."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False
    server: Any

    def setup(self) -> None:
        if self.request.family == socket.AF_INET:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()
        self.faults: FaultServer = self.server.faults
        self.faults.accepted()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Logs nothing, because tests use `FaultServer.requests`."""

    def _serve(self) -> None:
        with self.faults.answering():
            plan = self.faults.answer(self._read_request())
            try:
                self._send(plan)
            except _CloseConnectionError:
                self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - the base's

    def _read_request(self) -> Request:
        url = urlsplit(self.path)
        return Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._read_body(),
        )

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, plan: Plan) -> None:
        self.faults.wait(plan.delay)
        if plan.cut_at == -1 or self.faults.stopping:
            raise _CloseConnectionError
        self._send_head(plan)
        if self.command == "HEAD" or plan.status in {204, 304}:
            return
        for piece in self._with_faults(plan):
            self._write_piece(piece, chunked=plan.chunked)
        if plan.chunked:
            trailers = "".join(f"{name}: {value}\r\n" for name, value in plan.trailers.items())
            self.wfile.write(f"0\r\n{trailers}\r\n".encode("latin-1"))
        elif plan.content_length not in {None, len(plan.body)}:  # type: ignore[arg-type]
            raise _CloseConnectionError

    def _send_head(self, plan: Plan) -> None:
        self.send_response(plan.status)
        for name, value in plan.headers.items():
            self.send_header(name, value)
        if plan.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            if plan.trailers:
                self.send_header("Trailer", ", ".join(plan.trailers))
        elif plan.status not in {204, 304}:
            assert isinstance(plan.body, bytes)
            declared = len(plan.body) if plan.content_length is None else plan.content_length
            self.send_header("Content-Length", str(declared))
        self.end_headers()

    def _write_piece(self, piece: bytes, *, chunked: bool) -> None:
        if self.faults.stopping:
            raise _CloseConnectionError
        if not chunked:
            self.wfile.write(piece)
        elif piece:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _with_faults(self, plan: Plan) -> Iterator[bytes]:
        position = 0
        stop = min((at for at in (plan.stall_at, plan.cut_at) if at is not None), default=None)
        for piece in pieces(plan.body):
            sent = flipped(piece, plan.flip_at, position)
            if stop is not None and position + len(piece) >= stop:
                yield sent[: stop - position]
                self._end_early(plan, stop)
            yield sent
            position += len(piece)

    def _end_early(self, plan: Plan, stop: int) -> None:
        if stop == plan.stall_at:
            self.faults.wait(None)
        raise _CloseConnectionError


class _Threads(socketserver.ThreadingMixIn):
    """Threads that are ended by `end_connections`, so that the server can join them."""

    daemon_threads = False
    allow_reuse_address = True
    request_queue_size = 128
    faults: FaultServer

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)  # type: ignore[misc]

    def end_connections(self) -> None:
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.faults.failed(error)


class _TcpServer(_Threads, socketserver.TCPServer):
    pass


class _UnixServer(_Threads, socketserver.UnixStreamServer):
    pass


def _listen(faults: FaultServer, unix_socket: Path | None) -> Any:
    server: Any
    if unix_socket is None:
        server = _TcpServer(("127.0.0.1", 0), _Connection)
    else:
        server = _UnixServer(str(unix_socket), _Connection)
    server.faults = faults
    return server
