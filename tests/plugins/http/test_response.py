"""Responses: servers that break the protocol, exact reads, typed errors, connections used again, secrets."""

from __future__ import annotations

import base64
import http.client
import io
import itertools
import socket
from contextlib import closing, suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import Options, TransportError
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_endpoint
from ipfs_dataset_plugins.http.response import (
    _KEPT_FIELDS,
    StreamError,
    WireResponse,
    read_header,
)
from tests.support.builders import noise
from tests.support.http_server import FaultServer, Plan, endless
from tests.support.raw_server import RawServer, head_from, saying

DATA = noise(200_000)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def ask(server, *, method="GET", target="/x", size=1000, **options):
    client = HTTPClient(parse_endpoint(server.url), Options(timeout=5))
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
        b"HTTP/1.1 200" + b" " * 70_000,
        b"HTTP/1.1 200 OK\r\nLocation: " + b" " * 60_000,
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
            response = WireResponse(client, method="GET")
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
        client = HTTPClient(parse_endpoint(server.url), Options(timeout=5))
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


@pytest.mark.parametrize("length", [b"3\r\nContent-Length: 3", b"3, 3"])
def test_a_length_that_is_repeated_counts_once(length):
    said = b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nabcde"
    with RawServer(saying(said)) as server:
        assert ask(server) == (200, b"abc")
    with RawServer(saying(said[:-4])) as server, pytest.raises(TransportError, match="cut"):
        ask(server)


@pytest.mark.parametrize("level", ["DEBUG", "WARNING"])
def test_a_head_that_cannot_be_parsed_is_not_logged(caplog, level):
    def serve(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head_from(connection))

    with RawServer(serve) as server, caplog.at_level(level):
        with suppress(TransportError):
            ask(server, headers={"X-Key": "s3cret"}, target="/x?token=s3cret")
    assert "s3cret" not in caplog.text


BODY = b"A: 1\r\n\r\nnot: a field\r\n" * 100
KEPT = sorted(name.decode() for name in _KEPT_FIELDS - {b"content-length", b"transfer-encoding"})
OTHERS = ["ETag", "x-ipfs-path", "X-Ipfs-Roots", "date", "Access-Control-Allow-Headers"]
names = st.sampled_from([*KEPT, *OTHERS]).map(lambda n: n) | st.sampled_from(KEPT).map(str.upper)
values = st.text("abc:,; =/", max_size=9)
fields = st.lists(st.tuples(names, values, st.booleans()), max_size=40)


def received(kind, head, body=BODY):
    """Returns what one of http.client's responses makes of bytes on a socket, and the body."""
    server, client = socket.socketpair()
    with server, client:
        client.settimeout(5)
        server.sendall(head + body)
        server.shutdown(socket.SHUT_WR)
        response = kind(client, method="GET")
        response.begin()
        return response, response.read()


def kept(response):
    """Returns the fields that matter, those of one name joined, without white space."""
    found: dict[str, list[str]] = {}
    for name, value in response.msg.items():
        if name.lower() in KEPT:
            found.setdefault(name.lower(), []).append(value)
    return {name: "".join(", ".join(values).split()) for name, values in found.items()}


@given(fields, st.sampled_from(["OK", "No: such thing", ""]), st.sampled_from(["\r\n", "\n"]))
@example([("ETag", "", True), ("location", "a", True)], "OK", "\r\n")
def test_the_fields_that_matter_and_the_body_are_as_they_came(found, reason, end):
    lines = [f"HTTP/1.1 200 {reason}", f"Content-Length: {len(BODY)}"]
    for name, value, folded in found:
        lines += [f"{name}: {value}", *(["\tand more"] if folded else [])]
    head = end.join([*lines, "", ""]).encode()
    expected, body = received(http.client.HTTPResponse, head)
    response, same_body = received(WireResponse, head)
    assert kept(response) == kept(expected)
    assert (response.status, response.reason) == (expected.status, expected.reason)
    assert same_body == body == BODY


def test_chunks_and_their_trailer_are_not_taken_for_a_head():
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: x\r\n\r\n"
    body = b"3;etag: y\r\nabc\r\n0\r\nX-Other: 1\r\nX-Stream-Error: it broke\r\n\r\n"
    with pytest.raises(StreamError, match="it broke"):
        received(WireResponse, head, body)
    response, data = received(WireResponse, head, body.replace(b"Stream-Error", b"Other"))
    assert data == b"abc"
    assert "etag" not in response.headers


@pytest.mark.parametrize(
    "repeated", [b"Chunked\r\nTransfer-Encoding: chunked", b"chunked, chunked"]
)
def test_a_transfer_coding_that_is_repeated_counts_once(repeated):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + repeated + b"\r\n\r\n"
    assert received(WireResponse, head, b"3\r\nabc\r\n0\r\n\r\n")[1] == b"abc"


def test_a_head_after_that_of_an_interim_answer_is_read():
    head = b"HTTP/1.1 100 Continue\r\nETag: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    response, data = received(WireResponse, head, b"abc")
    assert (response.status, data) == (200, b"abc")


def test_a_head_without_end_is_refused():
    for line in (b"X-Other: 1\r\n", b" and more\r\n", b"Location: a\r\n"):
        head = b"HTTP/1.1 200 OK\r\nETag: x\r\n" + 10_000 * line
        with pytest.raises(http.client.HTTPException, match="got more than"):
            received(WireResponse, head)


def test_a_line_that_is_too_long_is_refused_whatever_its_name():
    for name in (b"X-Other", b"Location"):
        head = b"HTTP/1.1 200 OK\r\n" + name + b": " + 70_000 * b"x" + b"\r\n\r\n"
        with pytest.raises(http.client.LineTooLong):
            received(WireResponse, head)


class Pieces(io.RawIOBase):
    """What comes in pieces, as from a socket."""

    def __init__(self, pieces):
        super().__init__()
        self._pieces = list(pieces)

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self._pieces.pop(0) if self._pieces else b""
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        if size < len(piece):
            self._pieces.insert(0, piece[size:])
        return size


line = st.builds("{}{}{}".format, names, st.sampled_from([": ", ":", " :", ""]), values)
odd = st.sampled_from(
    ["\tand more", " x: y", "no field", ": x", "A\rLocation: b", "\x0bLocation: b"]
)
usual = st.builds("{}: {}".format, names, values)
many = st.lists(usual, max_size=99) | st.lists(line | odd, max_size=9)


@settings(deadline=None)
@given(many, st.sampled_from(["\r\n", "\n"]), st.lists(st.integers(1, 9000), max_size=4))
@example(["ETag: " + "x" * 20_000, "Location: a"], "\r\n", [])
def test_a_head_is_the_same_in_whatever_pieces_it_comes(lines, end, cuts):
    head = end.join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()
    whole = head + BODY
    cuts = sorted({cut for cut in cuts if cut < len(whole)})
    ends = zip([0, *cuts], [*cuts, len(whole)], strict=True)
    came = Pieces([whole[a:b] for a, b in ends])
    slow = Pieces([whole[at : at + 1] for at in range(len(head))] + [BODY])
    fast, expected = (
        (read_header(file), file.read()) for file in map(io.BufferedReader, (came, slow))
    )
    assert fast == expected
    assert (fast[0][0], fast[0][1], fast[0][2].strip()) == (b"1", b"200", b"OK")


@given(many, st.integers(0, 60))
def test_a_head_that_is_cut_is_an_error(lines, left_out):
    head = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()
    cut = head[: max(0, len(head) - 2 - left_out)]
    with pytest.raises(http.client.HTTPException):
        received(WireResponse, cut, b"")


def client(server, **options):
    return HTTPClient(parse_endpoint(server.url), Options(timeout=20, **options))


def test_a_body_of_known_length_gives_its_connection_back_when_closed():
    chunked = Plan(body=[DATA[:70_000], DATA[70_000:]])
    with FaultServer(lambda _: chunked) as server:
        made = client(server)
        for _ in range(3):
            response = made.send("GET", "/x", "x")
            response.expect(len(DATA))
            assert response.read(100) + response.read(len(DATA)) == DATA
            response.close()
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
        response = made.send("GET", "/x", "x")
        response.expect(len(DATA) + 7)
        with pytest.raises(TransportError, match="cut 7 bytes before its end"):
            response.read(1 << 20)
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
        response = made.send("GET", "/x", "x")
        assert response.read(100) == DATA[:100]
        response.close()
        assert made.idle == 0
        assert made.send("GET", "/x", "x").read_all(len(DATA)) == DATA
        assert made.idle == 1
        assert server.connections == 2


def test_lines_come_one_by_one_without_what_separates_them():
    text = b"\n one\r\n\n \ntwo\nthree"
    with FaultServer(lambda _: Plan(body=[text])) as server, closing(client(server)) as made:
        response = made.send("GET", "/x", "x")
        assert [response.read_line(10) for _ in range(5)] == [b"one", b"two", b"three", b"", b""]


def test_a_line_that_is_too_long_is_an_error_and_not_read_to_its_end():
    with FaultServer(lambda _: endless()) as server, closing(client(server)) as made:
        response = made.send("GET", "/x", "the thing")
        with pytest.raises(
            TransportError, match="the thing: a line of the response has more than 50"
        ):
            response.read_line(50)
        assert made.idle == 0


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br, gzip"])
def test_a_compressed_body_is_refused_though_nobody_asked_for_one(coding):
    plan = Plan(body=DATA, headers={"Content-Encoding": coding})
    with FaultServer(lambda _: plan) as server, closing(client(server)) as made:
        response = made.send("GET", "/x", "the thing")
        with pytest.raises(TransportError, match=f"Content-Encoding: {coding.lower()}"):
            response.check_encoding()
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
