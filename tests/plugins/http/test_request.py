from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import AddressError, Options
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import endpoint_of
from ipfs_dataset_plugins.http.request import request_head


def test_a_head_is_written_as_http_wants_it():
    fields = [("Host", "a.example"), ("X-Team", "caf\xe9\t7")]
    expected = b"GET /x?y HTTP/1.1\r\nHost: a.example\r\nX-Team: caf\xe9\t7\r\n\r\n"
    assert request_head("GET", "/x?y", fields) == expected


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
def test_nothing_can_be_slipped_into_a_head(target, name, value):
    try:
        head = request_head("GET", f"/{target}", [(name, value)])
    except AddressError:
        return
    assert head.count(b"\r") == head.count(b"\n") == 3
    first, second, *_ = head.split(b"\r\n")
    assert first.split(b" ") == [b"GET", f"/{target}".encode(), b"HTTP/1.1"]
    assert second.partition(b": ")[0] == name.encode()


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
