"""Requests: their header fields, credentials, deadlines and errors."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import time
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import (
    AddressError,
    Options,
    TransportError,
    TransportTimeoutError,
)
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_plugins.http.client import HTTPClient, authorization, check_request
from ipfs_dataset_plugins.http.endpoint import Endpoint, parse_endpoint
from tests.support.builders import noise
from tests.support.http_server import FaultServer, Plan
from tests.support.raw_server import RawServer, head_from

DATA = noise(200_000)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client(server, **options):
    return HTTPClient(
        parse_endpoint(server.url), Options(timeout=options.pop("timeout", 5), **options)
    )


def get(server, target="/x", **options):
    made = client(server, **options)
    try:
        body = made.send("GET", target, "the thing")
        try:
            return body.read(10 << 20)
        finally:
            body.close()
    finally:
        made.close()


def test_bodies_arrive_whole_and_connections_are_used_again():
    with FaultServer(lambda _: Plan(body=DATA)) as server:
        made = client(server)
        for _ in range(5):
            body = made.send("GET", "/x", "x")
            assert body.read_all(len(DATA)) == DATA
        made.close()
        assert server.connections == 1


@pytest.mark.parametrize("plan", [Plan(delay=30), Plan(body=DATA, stall_at=1000)])
def test_silence_ends_with_a_timeout(plan):
    with FaultServer(lambda _: plan) as server:
        started = time.monotonic()
        with pytest.raises(TransportTimeoutError, match="the thing"):
            get(server, timeout=0.3)
        assert time.monotonic() - started < 25  # the delay is 30 s


def test_a_trickle_ends_with_a_timeout_although_bytes_keep_coming():
    def trickle():
        for _ in range(200):
            time.sleep(0.05)
            yield b"x"

    with FaultServer(lambda _: Plan(body=trickle())) as server:
        with pytest.raises(TransportTimeoutError, match="slower than"):
            get(server, timeout=0.4)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(body=DATA, cut_at=-1),
        Plan(body=DATA, cut_at=1000),
        Plan(body=[DATA], cut_at=1000),
        Plan(body=DATA, content_length=len(DATA) + 1),
    ],
)
def test_a_cut_answer_is_an_error_worth_a_retry(plan):
    with FaultServer(lambda _: plan) as server, pytest.raises(TransportError) as caught:
        get(server)
    assert caught.value.retryable


def test_other_trailers_are_no_error():
    with FaultServer(lambda _: Plan(body=[DATA], trailers={"X-Other": "1"})) as server:
        assert get(server) == DATA


def test_nobody_listening_is_an_error_worth_a_retry():
    with FaultServer(lambda _: Plan()) as server:
        pass
    with pytest.raises(TransportError, match="refused") as caught:
        get(server)
    assert caught.value.retryable


def test_requests_carry_our_name_the_users_headers_and_no_compression():
    with FaultServer(lambda _: Plan()) as server:
        get(server, headers={"X-Team": "7", "accept-encoding": "identity;q=1"})
        sent = server.requests[0].headers
    assert sent["user-agent"] == "ipfs-dataset"
    assert sent["x-team"] == "7"
    assert sent["accept-encoding"] == "identity;q=1"


def test_credentials_come_from_options_or_the_address_and_may_be_made_for_each_request():
    tokens = iter(["bearer:one", "bearer:two"])
    with FaultServer(lambda _: Plan()) as server:
        made = client(server, auth=lambda: next(tokens))
        for _ in range(2):
            made.send("GET", "/", "x").read_all(10)
        made.close()
        own = HTTPClient(
            parse_endpoint(server.url.replace("//", "//me:p%40ss@")), Options(auth="bearer:other")
        )
        own.send("GET", "/", "x").read_all(10)
        own.close()
        sent = [request.headers["authorization"] for request in server.requests]
    basic = base64.b64encode(b"me:p@ss").decode()
    assert sent == ["Bearer one", "Bearer two", f"Basic {basic}"]


def test_requests_go_through_the_proxy_of_the_environment_with_its_credentials(monkeypatch):
    with FaultServer(lambda _: Plan(body=DATA)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:secret@"))
        made = HTTPClient(Endpoint("http://gateway.invalid"), Options(timeout=5))
        assert made.send("GET", "/ipfs/x", "x").read_all(len(DATA)) == DATA
        made.close()
        [request] = proxy.requests
    assert request.headers["host"] == "gateway.invalid"
    expected = base64.b64encode(b"me:secret").decode()
    assert request.headers["proxy-authorization"] == f"Basic {expected}"


def test_loopback_is_never_reached_through_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with FaultServer(lambda _: Plan(body=DATA)) as server:
        assert get(server) == DATA


def test_an_unusable_proxy_is_an_error_that_hides_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "gopher://me:secret@proxy.invalid:1")
    with pytest.raises(AddressError, match=r"proxy\.invalid") as caught:
        HTTPClient(Endpoint("http://gateway.invalid"), Options())
    assert "secret" not in str(caught.value)


def test_unix_sockets_serve_like_ports(tmp_path):
    path = tmp_path / "s"
    with FaultServer(lambda _: Plan(body=DATA), unix_socket=path) as server:
        made = HTTPClient(Endpoint("http://localhost", unix=str(path)), Options(timeout=5))
        for _ in range(2):
            assert made.send("POST", "/api/v0/id?x=1", "x").read_all(len(DATA)) == DATA
        made.close()
        assert server.connections == 1
        assert server.requests[0].path == "/api/v0/id"


def test_a_missing_unix_socket_is_an_error_with_its_path(tmp_path):
    made = HTTPClient(Endpoint("http://localhost", unix=str(tmp_path / "gone")), Options(timeout=5))
    with pytest.raises(TransportError, match="gone"):
        made.send("POST", "/", "x")
    made.close()


@pytest.mark.parametrize("plan", [Plan(body=b"ok"), Plan(cut_at=-1), Plan(body=DATA, cut_at=9)])
def test_no_secret_reaches_any_log(caplog, plan):
    with FaultServer(lambda _: plan) as server, caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("logs are seen here")
        with contextlib.suppress(TransportError):
            get(server, "/x?format=raw&token=s3cret", auth="bearer:s3cret", headers={"X": "s3cret"})
    assert server.requests[0].query["token"] == "s3cret"
    assert "logs are seen here" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "auth",
    [
        "",
        "bearer:",
        "s3cret",
        "basic:s3cret",
        "x:s3cret",
        "bearer:s3cret\nX: y",
        "bearer:s3créts3cret",
    ],
)
def test_unusable_credentials_are_refused_and_not_shown(auth):
    with pytest.raises(AddressError, match="auth must be 'bearer:TOKEN'") as caught:
        authorization(auth)
    assert "s3cret" not in str(caught.value)


def test_a_token_goes_to_the_host_that_was_named_and_to_none_that_is_spelt_alike(resolver):
    with FaultServer(lambda _: Plan(body=b"ok")) as named, FaultServer(lambda _: Plan()) as alike:
        resolver["strasse.example"] = ["127.0.0.1"]
        made = HTTPClient(
            parse_endpoint(f"http://straße.example:{named.port}"),
            Options(timeout=5, auth="bearer:s3cret"),
        )
        assert made.send("GET", "/", "x").read_all(9) == b"ok"
        made.close()
        assert named.requests[0].headers["host"] == f"xn--strae-oqa.example:{named.port}"
        assert alike.connections == 0


@pytest.mark.parametrize("pieces", [[bytes(50 << 20)], [bytes(1000)] * 20_000 + [bytes(9 << 20)]])
def test_an_upload_ends_with_the_deadline_though_the_server_takes_some(pieces):
    def trickle(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        for _ in range(200):
            connection.recv(1 << 14)
            time.sleep(0.01)

    length = {"Content-Length": str(sum(map(len, pieces)))}
    with RawServer(trickle) as server, closing(client(server, timeout=30)) as made:
        started = time.monotonic()
        with until(started + 0.5), pytest.raises(TransportTimeoutError, match="deadline"):
            made.send("POST", "/x", "the thing", headers=length, body=pieces)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("size", [1 << 19, 50 << 20])
def test_an_upload_that_trickles_ends_with_the_timeout(size):
    def trickle(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        for _ in range(40):
            connection.recv(1)
            time.sleep(0.05)

    with RawServer(trickle) as server, closing(client(server, timeout=0.4)) as made:
        with pytest.raises(TransportTimeoutError, match="the thing"):
            made.send(
                "POST", "/x", "the thing", headers={"Content-Length": str(size)}, body=[bytes(size)]
            )


def test_the_answer_to_an_upload_is_waited_for_until_the_deadline():
    with (
        FaultServer(lambda _: Plan(delay=30)) as server,
        closing(client(server, timeout=30)) as made,
    ):
        started = time.monotonic()
        with until(started + 0.3), pytest.raises(TransportTimeoutError):
            made.send("POST", "/x", "the thing", headers={"Content-Length": "1"}, body=[b"a"])
        assert time.monotonic() - started < 10


def test_a_body_is_not_waited_for_beyond_the_deadline():
    with FaultServer(lambda _: Plan(body=DATA, stall_at=1000)) as server:
        with closing(client(server, timeout=30)) as made:
            started = time.monotonic()
            body = made.send("GET", "/x", "the thing")
            with until(started + 0.3), pytest.raises(TransportTimeoutError):
                body.read(len(DATA))
            assert time.monotonic() - started < 10


@pytest.fixture(scope="module")
def sent():
    """Returns what arrives of a request at a server."""
    heads = []

    def serve(connection):
        while head := head_from(connection):
            heads.append(head)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with RawServer(serve) as server:
        with closing(HTTPClient(parse_endpoint(server.url), Options(timeout=5))) as client:

            def send(target, **headers):
                client.send("GET", target, "x", headers=headers).close()
                return heads.pop()

            yield send


def test_a_head_is_written_as_http_wants_it(sent):
    head = sent("/x?y", **{"Host": "a.example", "X-Team": "caf\xe9\t7"})
    first, *fields = head.split(b"\r\n")
    assert first == b"GET /x?y HTTP/1.1"
    assert {b"Host: a.example", b"X-Team: caf\xe9\t7"} <= set(fields)


letters = st.text(max_size=9) | st.text("ab:% \t\r\n\0", max_size=9)


@given(letters, letters, letters)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_can_be_slipped_into_a_head(sent, target, name, value):
    try:
        head = sent(f"/{target}", **{name: value, "Host": "a.example"})
    except AddressError:
        return
    first, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert head.count(b"\r") == head.count(b"\n") == len(fields) + 2
    assert first.split(b" ") == [b"GET", f"/{target}".encode(), b"HTTP/1.1"]
    names = {field.partition(b": ")[0].lower() for field in fields}
    usual = {b"host", b"user-agent", b"accept-encoding"}
    assert names == usual | {name.encode().lower()}


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: 1", "/ü", "/\0", "/a\x7f"])
def test_a_target_that_is_not_encoded_is_refused(target):
    with pytest.raises(AddressError, match="not percent-encoded"):
        check_request(target, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "s3cret"), ("X Y", "s3cret"), ("X:", "s3cret"), ("X\r\nY", "s3cret"), ("Ü", "s3cret"),
     ("X", ["s3cret"]), (7, "s3cret"), ("X", "s3cret\r\nY: 1"),
     ("X", "s3cret\n"), ("X", "s3cret\0"), ("X", "s3cret€")],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_named_without_its_value(name, value):
    with pytest.raises(AddressError, match="header") as caught:
        HTTPClient(parse_endpoint("http://127.0.0.1:1"), Options(headers={name: value}))
    assert "s3cret" not in str(caught.value)
