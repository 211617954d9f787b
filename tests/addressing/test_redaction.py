from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.addressing.object_url import redacted


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@host/x?token=1", "https://host/x"),
        ("https://host/x#part", "https://host/x"),
        ("gateway+https://me@host:80/p?t", "gateway+https://host:80/p"),
        ("routing+http://me:p@ss@host", "routing+http://host"),
        ("http://me:pa/ss@host:80/x", "http://host:80/x"),
        ("http://me:pa?ss@host", "http://host"),
        ("http://me:pw@[::1]:80/a", "http://[::1]:80/a"),
        (" HTTPS://me:pw@host", " HTTPS://host"),
    ],
)
def test_secrets_are_left_out(url, shown):
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "ipfs://bafkqaaa/a@2x.png?b",
        "IPNS://docs.example/a@2x.png",
        "bafkqaaa/what?@x",
        "/ipfs/bafkqaaa/a@b",
        "https://gw.example/ipfs/bafkqaaa/a@2x.png",
        "https://*.ipfs.gw.example",
        "http://[::1]:8080/a@b",
        "/ip4/127.0.0.1/tcp/5001",
        "/some/folder@home",
        "",
    ],
)
def test_text_without_secrets_is_unchanged(url):
    assert redacted(url) == url


# A user with a slash in it cannot be told from a host.
@given(st.from_regex(r"[^/?#]{0,8}", fullmatch=True), st.text(max_size=8), st.text(max_size=8))
def test_any_password_or_token_is_left_out(user, password, token):
    secret = f"s3cret{password}"
    shown = redacted(f"https://{user}:{secret}@host.example/ipfs/bafkqaaa?token=s3cret{token}")
    assert "s3cret" not in shown
