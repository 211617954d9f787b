from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import AddressError
from ipfs_dataset_plugins.http.endpoint import authorization, endpoint_of


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
    with pytest.raises(AddressError, match="auth is 'bearer:TOKEN'") as caught:
        authorization(auth)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8080", "http://127.0.0.1:8080"),
        ("https://host/prefix/", "https://host/prefix"),
        ("http://[::1]:5001", "http://[::1]:5001"),
        ("HTTP://User:pw@Host", "http://host"),
    ],
)
def test_urls_become_endpoints(url, base):
    assert endpoint_of(url).url == base
    assert "pw" not in repr(endpoint_of(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "ftp://x",
        "http://a b",
        "http://me:s3cret@h:99999",
        "http://me:s3/cret@h",
        "http://[::1",
    ],
)
def test_unusable_urls_are_refused_and_their_passwords_not_shown(url):
    with pytest.raises(AddressError) as caught:
        endpoint_of(url)
    assert "s3" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(max_size=40))
def test_any_url_is_an_endpoint_or_refused(text):
    for url in (text, f"http://{text}"):
        try:
            endpoint_of(url)
        except AddressError:
            continue
