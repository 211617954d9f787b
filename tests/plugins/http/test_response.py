"""What servers may say that no HTTP client expects: an error of ours, in time and in bounded memory."""

from __future__ import annotations

import contextlib
import itertools
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import Options, TransportError
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import endpoint_of
from ipfs_dataset_plugins.http.response import Response
from tests.support.raw_server import RawServer, head_from, saying

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def ask(server, *, method="GET", target="/x", size=1000, **options):
    client = HTTPClient(endpoint_of(server.url), Options(timeout=5))
    try:
        body = client.send(method, target, "the thing", **options)
        try:
            return body.status, body.read(size)
        finally:
            body.close()
    finally:
        client.close()


@pytest.mark.parametrize("size", [b"-1", b"-5", b"", b"x", b"9" * 70_000])
def test_no_chunk_has_an_impossible_size(size):
    with RawServer(saying(CHUNKED + size + b"\r\n" + bytes(50_000))) as server:
        with pytest.raises(TransportError, match="the thing") as caught:
            ask(server)
    assert caught.value.retryable


def test_a_trailer_without_end_is_refused():
    def serve(connection):
        head_from(connection)
        connection.sendall(CHUNKED + b"0\r\n")
        for number in itertools.count():
            connection.sendall(b"X-%d: 1\r\n" % number)

    with RawServer(serve) as server, pytest.raises(TransportError, match="trailer of more than"):
        ask(server)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"Location: x\r\n" * 500,
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
    ],
)
def test_what_is_no_response_is_an_error_worth_a_retry(said):
    with RawServer(saying(said)) as server, pytest.raises(TransportError) as caught:
        ask(server)
    assert caught.value.retryable


def test_an_echo_of_the_request_is_not_shown():
    def serve(connection):
        connection.sendall(head_from(connection))

    with RawServer(serve) as server, pytest.raises(TransportError, match="no HTTP") as caught:
        ask(server, headers={"X-Key": "s3cret"}, target="/x?token=s3cret")
    assert "s3cret" not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from([b"", CHUNKED, b"HTTP/1.1 200 OK\r\n"]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_response_or_an_error_of_http_client(said, start):
    import http.client

    server, client = socket.socketpair()
    with server, client:
        client.settimeout(5)
        server.sendall(start + said)
        server.shutdown(socket.SHUT_WR)
        try:
            response = Response(client, method="GET")
            response.begin()
            assert len(response.read(50)) <= 50
        except (http.client.HTTPException, OSError):
            pass
        response.close()


def test_a_body_without_length_ends_with_the_connection():
    with RawServer(saying(b"HTTP/1.0 200 OK\r\n\r\nab", b"cd")) as server:
        assert ask(server) == (200, b"abcd")


def test_a_refusal_is_heard_though_the_upload_breaks_off():
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    pieces = [bytes(1 << 20)] * 64
    headers = {"Content-Length": str(64 << 20)}
    with RawServer(saying(answer)) as server:
        assert ask(server, method="POST", headers=headers, body=iter(pieces)) == (403, b"no")


def test_a_post_without_body_says_so():
    heads = []

    def serve(connection):
        heads.append(head_from(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with RawServer(serve) as server:
        assert ask(server, method="POST") == (204, b"")
    assert b"\r\nContent-Length: 0\r\n" in heads[0]


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_servers_are_reached_by_ipv6():
    heads = []

    def serve(connection):
        heads.append(head_from(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    try:
        server = RawServer(serve, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert ask(server) == (200, b"ok")
    assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in heads[0]


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"


@pytest.mark.parametrize(
    "interim",
    [EARLY, b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY * 5,
     b"HTTP/1.1 199 Odd\r\nContent-Length: 7\r\nETag: x\r\n\r\n"],
)  # fmt: skip
def test_interim_responses_are_not_the_answer(interim):
    """Else the next request would get the answer to this one."""

    def serve(connection):
        while head := head_from(connection):
            name = head.split()[1]
            answer = b"HTTP/1.1 200 OK\r\nETag: y\r\nContent-Length: %d\r\n\r\n" % len(name)
            connection.sendall(interim + answer + name)
            connections.add(id(connection))

    connections: set[int] = set()
    with RawServer(serve) as server:
        client = HTTPClient(endpoint_of(server.url), Options(timeout=5))
        for target in ("/one", "/two", "/three"):
            body = client.send("GET", target, "x")
            assert (body.status, body.read_all(100)) == (200, target.encode())
        client.close()
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (EARLY * 1000, "interim responses"),
        (b"HTTP/1.1 103 Early Hints\r\n" + b"Link: x\r\n" * 1000, "got more than"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "another protocol"),
        (EARLY, "the thing"),
    ],
)
def test_interim_responses_without_end_or_use_are_an_error(said, message):
    with RawServer(saying(said)) as server, pytest.raises(TransportError, match=message) as caught:
        ask(server)
    assert caught.value.retryable


@pytest.mark.parametrize("lengths", [b"3\r\nContent-Length: 5", b"3, 5"])
def test_a_response_of_two_lengths_is_refused(lengths):
    said = b"HTTP/1.1 200 OK\r\nContent-Length: " + lengths + b"\r\n\r\nabcde"
    with RawServer(saying(said)) as server, pytest.raises(TransportError, match="the thing"):
        ask(server)


def test_a_trailer_that_quotes_the_request_is_shown_without_secrets():
    def serve(connection):
        head = head_from(connection).replace(b"\r\n", b" ")
        connection.sendall(
            CHUNKED + b"1\r\na\r\n0\r\nX-Stream-Error: you sent " + head + b"\r\n\r\n"
        )

    options = Options(timeout=5, auth="bearer:t0ken", headers={"X-Key": "k3y-of-mine"})
    with RawServer(serve) as server:
        client = HTTPClient(endpoint_of(server.url), options)
        with pytest.raises(TransportError, match="failed on the way: you sent") as caught:
            client.send("GET", "/x", "the thing").read(10)
        client.close()
    assert not [secret for secret in ("t0ken", "k3y-of-mine") if secret in str(caught.value)]


@pytest.mark.parametrize("level", ["DEBUG", "WARNING"])
def test_a_head_that_cannot_be_parsed_is_not_logged(caplog, level):
    def serve(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head_from(connection))

    with RawServer(serve) as server, caplog.at_level(level):
        with contextlib.suppress(TransportError):
            ask(server, headers={"X-Key": "s3cret"}, target="/x?token=s3cret")
    assert "s3cret" not in caplog.text
