"""Bodies of responses: exact reads, typed errors, connections that are used again, no secrets in messages."""

from __future__ import annotations

import base64
from contextlib import closing

import pytest

from ipfs_dataset_core import Options, TransportError
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_endpoint
from tests.support.builders import noise
from tests.support.http_server import FaultServer, Plan, endless
from tests.support.raw_server import RawServer, head_from

DATA = noise(200_000)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def client(server, **options):
    return HTTPClient(parse_endpoint(server.url), Options(timeout=20, **options))


def test_a_body_of_known_length_gives_its_connection_back_when_closed():
    chunked = Plan(body=[DATA[:70_000], DATA[70_000:]])
    with FaultServer(lambda _: chunked) as server:
        made = client(server)
        for _ in range(3):
            body = made.send("GET", "/x", "x")
            body.expect(len(DATA))
            assert body.read(100) + body.read(len(DATA)) == DATA
            body.close()
        made.close()
        assert server.connections == 1


def test_no_more_than_asked_for_is_read_of_an_endless_body():
    with FaultServer(lambda _: endless()) as server:
        made = client(server)
        assert len(made.send("GET", "/x", "x").read_all(1000)) == 1001
        made.close()


def test_a_body_shorter_than_expected_is_an_error():
    with FaultServer(lambda _: Plan(body=DATA)) as server:
        made = client(server)
        body = made.send("GET", "/x", "x")
        body.expect(len(DATA) + 7)
        with pytest.raises(TransportError, match="cut 7 bytes before its end"):
            body.read(1 << 20)
        made.close()


def test_a_failure_in_the_trailer_is_an_error_though_the_body_ended_well():
    plan = Plan(body=[DATA], trailers={"X-Stream-Error": "lost a leaf"})
    with FaultServer(lambda _: plan) as server, closing(client(server)) as made:
        with pytest.raises(TransportError, match="lost a leaf"):
            made.send("GET", "/x", "x").read(10 << 20)


@pytest.mark.parametrize(
    ("auth", "quoted"),
    [
        ("bearer:t0ken", "Bearer t0ken"),
        ("bearer:t0ken", "you sent t0ken, t0ken!"),
        ("basic:me:p@ss", f"Basic {base64.b64encode(b'me:p@ss').decode()}"),
        ("basic:me:p@ss", "wrong password p@ss of me:p@ss"),
        (None, "X-Key: k3y-of-mine"),
    ],
)
def test_an_error_that_quotes_credentials_is_shown_without_them(auth, quoted):
    with FaultServer(lambda _: Plan(status=500, body=f"no: {quoted}".encode())) as server:
        made = client(server, auth=auth, headers={"X-Key": "k3y-of-mine"})
        text = made.send("GET", "/", "x").error_text()
        made.close()
    assert text.startswith("no: ")
    assert "…" in text
    assert not [
        secret for secret in ("t0ken", "p@ss", "bWU6cEBzcw", "k3y-of-mine") if secret in text
    ]


def test_a_trailer_that_quotes_the_request_is_shown_without_secrets():
    def serve(connection):
        head = head_from(connection).replace(b"\r\n", b" ")
        connection.sendall(
            CHUNKED + b"1\r\na\r\n0\r\nX-Stream-Error: you sent " + head + b"\r\n\r\n"
        )

    options = Options(timeout=20, auth="bearer:t0ken", headers={"X-Key": "k3y-of-mine"})
    with RawServer(serve) as server:
        client = HTTPClient(parse_endpoint(server.url), options)
        with pytest.raises(TransportError, match="failed during the transfer: you sent") as caught:
            client.send("GET", "/x", "the thing").read(10)
        client.close()
    assert not [secret for secret in ("t0ken", "k3y-of-mine") if secret in str(caught.value)]


def test_a_body_that_nobody_reads_to_its_end_takes_its_connection_along():
    with FaultServer(lambda _: Plan(body=DATA)) as server, closing(client(server)) as made:
        body = made.send("GET", "/x", "x")
        assert body.read(100) == DATA[:100]
        body.close()
        assert made.idle == 0
        assert made.send("GET", "/x", "x").read_all(len(DATA)) == DATA
        assert made.idle == 1
        assert server.connections == 2


def test_lines_come_one_by_one_without_what_separates_them():
    text = b"\n one\r\n\n \ntwo\nthree"
    with FaultServer(lambda _: Plan(body=[text])) as server, closing(client(server)) as made:
        body = made.send("GET", "/x", "x")
        assert [body.read_line(10) for _ in range(5)] == [b"one", b"two", b"three", b"", b""]


def test_a_line_that_is_too_long_is_an_error_and_not_read_to_its_end():
    with FaultServer(lambda _: endless()) as server, closing(client(server)) as made:
        body = made.send("GET", "/x", "the thing")
        with pytest.raises(
            TransportError, match="the thing: a line of the response has more than 50"
        ):
            body.read_line(50)
        assert made.idle == 0


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br, gzip"])
def test_a_compressed_body_is_refused_though_nobody_asked_for_one(coding):
    plan = Plan(body=DATA, headers={"Content-Encoding": coding})
    with FaultServer(lambda _: plan) as server, closing(client(server)) as made:
        body = made.send("GET", "/x", "the thing")
        with pytest.raises(TransportError, match=f"Content-Encoding: {coding.lower()}"):
            body.check_encoding()
        assert made.idle == 0


def test_the_text_of_an_error_is_one_short_line():
    with FaultServer(lambda _: Plan(status=500, body=b"a\n b\t" * 5000)) as server:
        with closing(client(server)) as made:
            text = made.send("GET", "/", "x").error_text()
    assert text.startswith("a b a b")
    assert len(text) == 500


def test_a_page_for_people_is_not_quoted():
    page = Plan(status=502, body=b"<html>oops", headers={"Content-Type": "text/html; charset=x"})
    with FaultServer(lambda _: page) as server, closing(client(server)) as made:
        assert made.send("GET", "/", "x").error_text() == "(an HTML page)"
