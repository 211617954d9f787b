from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import AddressError, Options
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import endpoint_of
from ipfs_dataset_plugins.http.request import Request
from tests.support.raw_server import RawServer, head_from


@pytest.fixture(scope="module")
def sent():
    """Returns what arrives of a request at a server."""
    heads = []

    def serve(connection):
        while head := head_from(connection):
            heads.append(head)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with RawServer(serve) as server:
        with closing(HTTPClient(endpoint_of(server.url), Options(timeout=5))) as client:

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
        Request("GET", target, {}, (), "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "s3cret"), ("X Y", "s3cret"), ("X:", "s3cret"), ("X\r\nY", "s3cret"), ("Ü", "s3cret"),
     ("X", ["s3cret"]), (7, "s3cret"), ("X", "s3cret\r\nY: 1"),
     ("X", "s3cret\n"), ("X", "s3cret\0"), ("X", "s3cret€")],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_named_without_its_value(name, value):
    with pytest.raises(AddressError, match="header") as caught:
        HTTPClient(endpoint_of("http://127.0.0.1:1"), Options(headers={name: value}))
    assert "s3cret" not in str(caught.value)
