"""Which connections are used again, and that none is left behind."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest

from ipfs_dataset_core import Options
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.connection_pool import MAX_IDLE_CONNECTIONS
from ipfs_dataset_plugins.http.endpoint import parse_endpoint
from tests.support.fetching import PATIENT_SECONDS
from tests.support.http_server import FaultServer, Plan, redirect
from tests.support.raw_server import RawServer, head_from

DATA = bytes(100_000)


@pytest.fixture
def server():
    with FaultServer(lambda _: Plan(body=DATA)) as running:
        yield running


def client(server):
    return HTTPClient(parse_endpoint(server.url), Options(timeout=5))


def ask(made, method="GET"):
    return made.send(method, "/x", "x").read_all(len(DATA))


class Patient:
    """Answers the first request once a second connection is open, and counts connections then."""

    def __init__(self):
        self.server: Any = None
        self.connections = 0

    def __call__(self, _):
        end = time.monotonic() + PATIENT_SECONDS
        while self.server.connections < 2 and time.monotonic() < end:
            time.sleep(0.001)
        self.connections = self.connections or self.server.connections
        return Plan(body=DATA)


def spared(server, **more):
    return HTTPClient(parse_endpoint(server.url), Options(timeout=20), spare=True, **more)


def test_a_second_connection_is_opened_while_the_first_request_waits():
    answer = Patient()
    with FaultServer(answer) as answer.server, closing(spared(answer.server)) as made:
        assert ask(made) == DATA
        assert answer.connections == 2
        bodies = [made.send("GET", "/x", "x") for _ in range(2)]  # side by side
        assert [body.read_all(len(DATA)) for body in bodies] == [DATA] * 2
        assert answer.server.connections == 2
        bodies = [made.send("GET", "/x", "x") for _ in range(3)]
        assert [body.read_all(len(DATA)) for body in bodies] == [DATA] * 3
        assert answer.server.connections == 3


def test_requests_that_begin_together_may_all_wait_for_the_second_connection(server):
    for _ in range(20):
        with closing(spared(server)) as made, ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: ask(made), range(16))) == [DATA] * 16


def test_other_hosts_of_a_client_get_no_second_connection():
    answer = Patient()
    with FaultServer(answer) as answer.server, closing(spared(answer.server)) as made:
        ask(made)
        with FaultServer(lambda _: Plan(body=DATA)) as other:
            body = made.send("GET", f"{other.url}/x", "x", bare=True)
            assert body.read_all(len(DATA)) == DATA
            assert other.connections == 1


def test_a_second_connection_that_comes_after_the_end_is_closed():
    answer = Patient()
    with FaultServer(answer) as answer.server:
        made = spared(answer.server)
        ask(made)
        made.close()
        assert made.idle == 0
        end = time.monotonic() + PATIENT_SECONDS
        while answer.server._server._open and time.monotonic() < end:
            time.sleep(0.001)
        assert not answer.server._server._open


def test_a_second_connection_that_is_refused_fails_nothing():
    accepted: list[socket.socket] = []

    def serve():
        connection, _ = listener.accept()
        listener.close()  # nobody else can connect
        with connection:
            while head_from(connection):
                accepted.append(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = threading.Thread(target=serve)
        serving.start()
        with closing(HTTPClient(parse_endpoint(url), Options(timeout=20), spare=True)) as made:
            assert [ask(made) for _ in range(3)] == [b""] * 3
        serving.join(PATIENT_SECONDS)
    assert len(accepted) == 3


def test_session_tickets_of_tls_do_not_end_a_connection(certificate, names, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    served = []

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as secure:
            served.append(secure)
            while head_from(secure):
                end = time.monotonic() + PATIENT_SECONDS
                while len(served) < 2 and time.monotonic() < end:
                    time.sleep(0.001)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    with RawServer(serve) as server:
        url = f"https://a.example:{server.url.rpartition(':')[2]}"
        with closing(HTTPClient(parse_endpoint(url), Options(timeout=20), spare=True)) as made:
            assert ask(made) == b"x"
            bodies = [made.send("GET", "/x", "x") for _ in range(2)]
            assert [body.read_all(1) for body in bodies] == [b"x"] * 2
    assert len(served) == 2


@pytest.mark.parametrize(
    ("method", "plan", "has_body"),
    [
        ("HEAD", Plan(body=DATA), False),
        ("HEAD", Plan(body=[DATA]), False),
        ("GET", Plan(status=204), False),
        ("GET", Plan(status=304), False),
        ("GET", Plan(body=b""), False),
        ("POST", Plan(body=[]), True),
        ("GET", Plan(status=404, body=b"no"), True),
    ],
)
def test_answers_without_much_of_a_body_leave_their_connection(method, plan, has_body):
    with FaultServer(lambda _: plan) as server, closing(client(server)) as made:
        for _ in range(3):
            body = made.send(method, "/x", "x")
            if has_body:
                body.error_text()
            body.close()
        assert server.connections == 1


def test_a_connection_that_the_server_ended_meanwhile_is_not_used(server):
    with closing(client(server)) as made:
        for expected in (1, 2, 3):
            assert ask(made) == DATA
            assert server.connections == expected
            server._server.end_connections()


def test_a_server_that_says_close_is_connected_to_anew():
    plan = Plan(body=DATA, headers={"Connection": "close"})
    with FaultServer(lambda _: plan) as server, closing(client(server)) as made:
        assert ask(made) == ask(made) == DATA
        assert server.connections == 2


def test_a_connection_that_is_to_end_is_not_used_though_it_lives():
    connections = []

    def serve(connection):
        connections.append(connection)
        while head_from(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    with RawServer(serve) as server:
        with closing(HTTPClient(parse_endpoint(server.url), Options(timeout=5))) as made:
            for _ in range(3):
                ask(made)
    assert len(connections) == 3


def test_a_body_closed_early_ends_its_connection():
    with FaultServer(lambda _: redirect("/y")) as server, closing(client(server)) as made:
        made.send("GET", "/x", "x").close()
        ask(made)
    with FaultServer(lambda _: Plan(body=DATA)) as server, closing(client(server)) as made:
        body = made.send("GET", "/x", "x")
        assert len(body.read(10)) == 10
        body.close()
        assert ask(made) == DATA
        assert server.connections == 2


def test_a_body_is_read_though_the_client_is_closed_meanwhile(server):
    made = client(server)
    body = made.send("GET", "/x", "x")
    made.close()
    assert body.read_all(len(DATA)) == DATA
    assert made.idle == 0
    assert ask(made) == DATA
    made.close()


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_what_nobody_closes_is_closed_by_being_forgotten(server):
    made = client(server)
    body = made.send("GET", "/x", "x")
    ask(made)
    assert made.idle == 1
    del made, body
    gc.collect()


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_what_nobody_closes_is_closed_when_it_is_collected_with_a_cycle(server):
    made = client(server)
    unread, read = made.send("GET", "/x", "x"), made.send("GET", "/x", "x")
    assert read.read(len(DATA)) == DATA
    cycle = [made, unread, read]
    cycle.append(cycle)
    del made, unread, read, cycle
    gc.collect()


def test_threads_share_the_idle_connections_and_keep_no_more_than_allowed(server):
    many = MAX_IDLE_CONNECTIONS + 8
    barrier = threading.Barrier(many)

    def run(made):
        body = made.send("GET", "/x", "x")
        barrier.wait(20)
        return body.read_all(len(DATA)) == DATA

    with closing(client(server)) as made, ThreadPoolExecutor(many) as threads:
        assert all(threads.map(run, [made] * many))
        assert server.connections == many
        assert made.idle == MAX_IDLE_CONNECTIONS


def test_the_oldest_connection_gives_way_whoever_it_leads_to(server):
    with ExitStack() as stack:
        servers = [
            stack.enter_context(FaultServer(lambda _: Plan(body=DATA)))
            for _ in range(MAX_IDLE_CONNECTIONS + 1)
        ]
        made = stack.enter_context(closing(client(server)))
        for other in servers:
            assert made.send("GET", f"{other.url}/x", "x").read_all(len(DATA)) == DATA
        assert made.idle == MAX_IDLE_CONNECTIONS
        for other in (servers[1], servers[0]):
            assert made.send("GET", f"{other.url}/x", "x").read_all(len(DATA)) == DATA
        assert (servers[1].connections, servers[0].connections) == (1, 2)


@pytest.mark.usefixtures("resolver")
def test_a_subdomain_gateway_has_a_host_for_each_cid_and_few_pools_and_connections():
    with FaultServer(lambda _: Plan(body=b"ok")) as server:
        with closing(HTTPClient(parse_endpoint("http://gw.example"), Options(timeout=5))) as made:
            for number in range(150):
                body = made.send("GET", f"http://{number}.ipfs.gw.example:{server.port}/", "x")
                assert body.read_all(10) == b"ok"
            assert made.idle == MAX_IDLE_CONNECTIONS
        assert len({request.headers["host"] for request in server.requests}) == 150


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_connects_anew(server):
    with closing(client(server)) as made:
        assert ask(made) == DATA
        child = os.fork()
        if child == 0:
            os._exit(0 if ask(made) == DATA else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert server.connections == 2
        assert ask(made) == DATA
        assert server.connections == 2


def test_descriptors_may_have_high_numbers(server):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1300:
        pytest.skip("so many files are not allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    try:
        with ExitStack() as stack, closing(client(server)) as made:
            for _ in range(1100):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            assert ask(made) == ask(made) == DATA
            assert made._connections._idle[0].sock.fileno() > 1024
        assert server.connections == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
