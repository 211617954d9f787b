"""The server's faults are what a client sees, over real sockets."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import attrs
import pytest

from tests.support.http_server import (
    FaultServer,
    Plan,
    endless,
    html,
    in_turn,
    rate_limited,
    redirect,
)


def connect(server, timeout=60):
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)


def ask(server, path="/", method="GET", **more):
    connection = connect(server)
    try:
        connection.request(method, path, **more)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def exchange(server, request=b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
    """Returns every byte of an answer, as it is on the wire."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as peer:
        peer.sendall(request)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def test_requests_are_recorded_with_query_headers_and_body():
    with FaultServer(lambda _: Plan(body=b"ok")) as server:
        status, headers, body = ask(
            server, "/a%20b?x=1&y=%2F&z=", "POST", body=b"sent", headers={"X-Key": "k"}
        )
    assert (status, headers["Content-Length"], body) == (200, "2", b"ok")
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/a%20b", b"sent")
    assert request.query == {"x": "1", "y": "/", "z": ""}
    assert request.headers["x-key"] == "k"


def test_a_chunked_request_body_is_read_whole():
    with FaultServer(lambda request: Plan(body=request.body)) as server:
        _, _, body = ask(server, "/", "POST", body=iter([b"one", b"two"]), encode_chunked=True)
    assert body == b"onetwo"


def test_a_connection_serves_many_requests():
    with FaultServer(lambda request: Plan(body=request.path.encode())) as server:
        connection = connect(server)
        for path in ("/1", "/2", "/3"):
            connection.request("GET", path)
            assert connection.getresponse().read() == path.encode()
        connection.close()
    assert (len(server.requests), server.connections) == (3, 1)


def test_head_has_the_headers_and_no_body():
    with FaultServer(lambda _: Plan(body=b"12345")) as server:
        status, headers, body = ask(server, method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


@pytest.mark.parametrize("cut_at", [0, 1, 70_000])
def test_a_cut_ends_the_body_early(cut_at):
    data = bytes(100_000)
    with (
        FaultServer(lambda _: Plan(body=data, cut_at=cut_at)) as server,
        pytest.raises(http.client.IncompleteRead) as caught,
    ):
        ask(server)
    assert len(caught.value.partial) == cut_at


def test_a_cut_before_the_status_line_sends_nothing():
    with FaultServer(lambda _: Plan(cut_at=-1)) as server:
        assert exchange(server) == b""


def test_a_flip_turns_one_bit_of_one_byte():
    data = bytes(200_000)
    with FaultServer(lambda _: Plan(body=data, flip_at=150_000)) as server:
        _, _, body = ask(server)
    assert [at for at, byte in enumerate(body) if byte] == [150_000]
    assert body[150_000] == 1


def test_a_stall_keeps_the_connection_open_until_the_server_stops():
    with FaultServer(lambda _: Plan(body=bytes(1000), stall_at=10)) as server:
        connection = connect(server, timeout=1)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.read(10) == bytes(10)
        with pytest.raises(TimeoutError):
            response.read(1)
        response.close()
        connection.close()


def test_a_delay_comes_before_the_status_line():
    with FaultServer(lambda _: Plan(delay=0.2)) as server:
        started = time.monotonic()
        ask(server)
        assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(("declared", "error"), [(9, True), (2, False)])
def test_a_wrong_length_is_declared(declared, error):
    with FaultServer(lambda _: Plan(body=b"12345", content_length=declared)) as server:
        raw = exchange(server)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % declared in head
    assert body == b"12345"
    assert (len(body) < declared) == error


def test_a_trailer_follows_a_chunked_body():
    with FaultServer(lambda _: Plan(body=b"data", trailers={"X-Stream-Error": "lost"})) as server:
        raw = exchange(server)
    assert b"Trailer: X-Stream-Error" in raw
    assert raw.endswith(b"4\r\ndata\r\n0\r\nX-Stream-Error: lost\r\n\r\n")


def test_an_endless_body_ends_when_the_client_disconnects():
    with FaultServer(lambda _: endless()) as server:
        connection = connect(server)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert len(response.read(1_000_000)) == 1_000_000
        response.close()
        connection.close()


def test_plans_in_turn_end_with_the_last_for_ever():
    plans = in_turn(rate_limited("7"), redirect("/elsewhere"), html())
    with FaultServer(plans) as server:
        seen = [ask(server) for _ in range(4)]
    assert [status for status, _, _ in seen] == [429, 302, 200, 200]
    assert seen[0][1]["Retry-After"] == "7"
    assert seen[1][1]["Location"] == "/elsewhere"
    assert seen[2][1]["Content-Type"] == "text/html"


def test_requests_at_once_are_counted():
    barrier = threading.Barrier(3)

    def meet(_):
        barrier.wait(10)
        return Plan()

    with FaultServer(meet) as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (server.most_at_once, server.open_now) == (3, 0)


def test_a_handler_that_raises_fails_the_test():
    def broken(_):
        raise KeyError("no such case")

    server = FaultServer(broken)
    with pytest.raises(KeyError, match="no such case"), server:
        assert ask(server)[0] == 500


def test_stopping_leaves_no_thread_and_no_open_connection():
    before = set(threading.enumerate())
    server = FaultServer(lambda _: Plan(body=b"x"))
    with server:
        connection = connect(server)
        connection.request("GET", "/")
        connection.getresponse().read()
    assert set(threading.enumerate()) == before
    assert connection.sock.recv(1) == b""
    connection.close()


def test_a_unix_socket_serves_too(tmp_path):
    path = tmp_path / "api"
    with (
        FaultServer(lambda _: Plan(body=b"local"), unix_socket=path),
        socket.socket(socket.AF_UNIX) as peer,
    ):
        peer.connect(str(path))
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"".join(iter(lambda: peer.recv(4096), b"")).endswith(b"local")


def test_a_fault_can_be_added_to_a_plan():
    plan = attrs.evolve(html("<p>"), flip_at=0)
    assert (plan.flip_at, plan.body) == (0, b"<p>")
