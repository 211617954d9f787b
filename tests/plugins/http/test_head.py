"""Heads of responses: what http.client makes of the fields that are left is what it makes of all of them."""

from __future__ import annotations

import http.client
import io
import socket

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipfs_dataset_plugins.http.head import _KEPT, HeadReader
from ipfs_dataset_plugins.http.response import Response, StreamError

BODY = b"A: 1\r\n\r\nnot: a field\r\n" * 100
KEPT = sorted(name.decode() for name in _KEPT - {b"content-length", b"transfer-encoding"})
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
    return [(name, value) for name, value in response.msg.items() if name.lower() in KEPT]


@given(fields, st.sampled_from(["OK", "No: such thing", ""]), st.sampled_from(["\r\n", "\n"]))
@example([("ETag", "", True), ("location", "a", True)], "OK", "\r\n")
def test_the_fields_that_matter_and_the_body_are_as_they_came(found, reason, end):
    lines = [f"HTTP/1.1 200 {reason}", f"Content-Length: {len(BODY)}"]
    for name, value, folded in found:
        lines += [f"{name}: {value}", *(["\tand more"] if folded else [])]
    head = end.join([*lines, "", ""]).encode()
    expected, body = received(http.client.HTTPResponse, head)
    response, same_body = received(Response, head)
    assert kept(response) == kept(expected)
    assert (response.status, response.reason) == (expected.status, expected.reason)
    assert same_body == body == BODY


def test_chunks_and_their_trailer_are_not_taken_for_a_head():
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: x\r\n\r\n"
    body = b"3;etag: y\r\nabc\r\n0\r\nX-Other: 1\r\nX-Stream-Error: it broke\r\n\r\n"
    with pytest.raises(StreamError, match="it broke"):
        received(Response, head, body)
    response, data = received(Response, head, body.replace(b"Stream-Error", b"Other"))
    assert data == b"abc"
    assert "etag" not in response.msg


def test_a_head_after_that_of_an_interim_answer_is_read():
    head = b"HTTP/1.1 100 Continue\r\nETag: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    response, data = received(Response, head, b"abc")
    assert (response.status, data) == (200, b"abc")


def test_a_head_without_end_is_refused():
    for line in (b"X-Other: 1\r\n", b" and more\r\n", b"Location: a\r\n"):
        head = b"HTTP/1.1 200 OK\r\nETag: x\r\n" + 10_000 * line
        with pytest.raises(http.client.HTTPException, match="got more than"):
            received(Response, head)


def test_a_line_that_is_too_long_is_refused_whatever_its_name():
    for name in (b"X-Other", b"Location"):
        head = b"HTTP/1.1 200 OK\r\n" + name + b": " + 70_000 * b"x" + b"\r\n\r\n"
        with pytest.raises(http.client.LineTooLong):
            received(Response, head)


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
    seen = []
    for raw in (came, slow):
        reader = HeadReader(raw)
        assert reader.readline() == f"HTTP/1.1 200 OK{end}".encode()
        # What follows the head is read by lines too: that none of them is dropped counts as well.
        seen.append([*(reader.readline() for _ in range(len(lines) + 3)), reader.read()])
    fast, expected = seen
    assert fast == expected
