"""Endpoints from URLs and multiaddrs, and the origins and targets of URLs."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import AddressError
from ipfs_dataset_plugins.http.client import check_request
from ipfs_dataset_plugins.http.endpoint import (
    Origin,
    origin_of,
    parse_endpoint,
    parse_multiaddr,
    parse_url,
    target_of,
)


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
    assert parse_endpoint(url).url == base
    assert "pw" not in repr(parse_endpoint(url))


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
        parse_endpoint(url)
    assert "s3" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(max_size=40))
def test_any_url_is_an_endpoint_or_refused(text):
    for url in (text, f"http://{text}"):
        try:
            parse_endpoint(url)
        except AddressError:
            continue


hosts = st.sampled_from(["a.example", "A.Example", "[::1]", "10.0.0.1", "bücher.example", "a_b"])
ports = st.sampled_from(["", ":", ":80", ":443", ":8080"])


@pytest.mark.parametrize(
    ("url", "origin", "host_field", "target"),
    [
        ("http://A.example", ("http", "a.example", 80), "a.example", "/"),
        ("https://a.example:443/x?", ("https", "a.example", 443), "a.example", "/x"),
        ("http://a.example:443/?a#b", ("http", "a.example", 443), "a.example:443", "/?a"),
        ("http://[FE80::1]:81/a b", ("http", "fe80::1", 81), "[fe80::1]:81", "/a%20b"),
        ("http://[fe80::1%25lo]/", ("http", "fe80::1%lo", 80), "[fe80::1]", "/"),
        ("https://bücher.example/ü?ü", None, "xn--bcher-kva.example", "/%C3%BC?%C3%BC"),
        ("https://a.example/1%?2%&3", None, "a.example", "/1%25?2%25&3"),
        ("https://a.example/%41?t=%2F&u=a/b", None, "a.example", "/%41?t=%2F&u=a/b"),
    ],
)
def test_what_a_url_is_asked_for(url, origin, host_field, target):
    parts = parse_url(url)
    found = origin_of(parts)
    assert origin is None or found == Origin(*origin)
    assert (found.host_field, target_of(parts)) == (host_field, target)


@pytest.mark.parametrize(
    "url",
    [
        *("", "/x", "a.example", "ftp://a.example", "http://", "http://:80", "http://me@a.example"),
        *("http://a:b", "http://a:99999", "http://a:-1", "http://[::1", "http://[x]", "http://a b"),
        *("http://a\\b", "http://a%2fb", "http://a\0b", f"http://{'ü' * 99}.example"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url):
    with pytest.raises(ValueError, match=r"\S"):
        parse_url(url)


@given(
    st.text(max_size=40) | st.builds("http://{}{}/{}".format, hosts, ports, st.text(max_size=20))
)
def test_whatever_is_accepted_can_be_sent_and_is_its_own_form(url):
    try:
        parts = parse_url(url)
    except ValueError:
        return
    check_request(target_of(parts), [("Host", origin_of(parts).host_field)])
    again = parse_url(parts.geturl())
    assert origin_of(again) == origin_of(parts)
    assert again.geturl() == parts.geturl()
    assert urlsplit(parts.geturl()).hostname == parts.hostname


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("straße.example", "xn--strae-oqa.example"),  # in the rules of 2003, strasse.example
        ("STRASSE.example", "strasse.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("βόλος.example", "xn--nxasmm1c.example"),
        ("\uff25\uff38\uff21\uff2d\uff30\uff2c\uff25.example", "example.example"),
        ("\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127.0.0.1"),
    ],
)
def test_international_names_are_those_that_browsers_look_up(host, expected):
    assert origin_of(parse_url(f"http://{host}/")).host == expected


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001"),
        ("/ip4/127.0.0.1/tcp/5001/http", "http://127.0.0.1:5001"),
        (" /ip4/10.0.0.1/tcp/80/\n", "http://10.0.0.1:80"),
        ("/ip6/::1/tcp/5001", "http://[::1]:5001"),
        ("/ip6/0:0::1/tcp/5001/https", "https://[::1]:5001"),
        ("/dns/node.example/tcp/443/https", "https://node.example:443"),
        ("/dns4/node.example/tcp/443/tls/http", "https://node.example:443"),
        ("/dns6/node/tcp/443/tls", "https://node:443"),
        ("/dns4/localhost/tcp/5001", "http://127.0.0.1:5001"),
    ],
)
def test_addresses_of_apis_become_endpoints(text, url):
    endpoint = parse_multiaddr(text)
    assert endpoint.url == url
    assert endpoint.unix is None
    assert endpoint.name == url


@pytest.mark.parametrize(
    "text",
    [
        "/unix/run/ipfs.sock",
        "/unix//run/ipfs.sock",
        "/unix/%2Frun%2Fipfs.sock",
        "/unix/run%2fipfs.sock",
    ],
)
def test_unix_sockets_become_paths(text):
    endpoint = parse_multiaddr(text)
    assert endpoint.unix == "/run/ipfs.sock"
    assert endpoint.name == "unix:/run/ipfs.sock"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/unix",
        "/unix/",
        "ip4/127.0.0.1/tcp/5001",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/tcp",
        "/ip4/127.0.0.1/udp/5001",
        "/ip4/127.0.0.1/tcp/5001/ws",
        "/ip4/127.0.0.1/tcp/5001/http/https",
        "/ip4/127.0.0.1/tcp/5001/p2p/12D3KooW",
        "/ip4/300.0.0.1/tcp/5001",
        "/ip4/::1/tcp/5001",
        "/ip6/127.0.0.1/tcp/5001",
        "/ip6/fe80::1%eth0/tcp/5001",
        "/dns/a b/tcp/5001",
        "/dns/user@host/tcp/5001",
        "/dnsaddr/node.example/tcp/5001",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/-1",
        "/ip4/127.0.0.1/tcp/\u0665\u0660",  # digits, but not of ASCII
        "/ip4/127.0.0.1/tcp/" + "9" * 5000,
    ],
)
def test_what_is_no_address_of_an_api_is_refused_by_name(text):
    with pytest.raises(AddressError) as caught:
        parse_multiaddr(text)
    assert repr(text)[1:-1][:50] in str(caught.value)


@given(
    st.lists(
        st.sampled_from(
            ["ip4", "ip6", "dns", "tcp", "unix", "tls", "http", "https", "::1", "1", "a"]
        )
        | st.text(max_size=6),
        max_size=7,
    )
)
def test_any_text_is_an_endpoint_or_refused(parts):
    try:
        endpoint = parse_multiaddr("/" + "/".join(parts))
    except AddressError:
        return
    assert endpoint.unix or endpoint.url.startswith(("http://", "https://"))


@pytest.mark.parametrize("ending", ["http", "https", "tls/http"])
def test_the_identity_of_a_server_is_ignored(ending):
    text = f"/dns4/node.example/tcp/5001/{ending}"
    assert parse_multiaddr(f"{text}/p2p/12D3KooWPeer") == parse_multiaddr(text)


def test_a_percent_sign_in_the_path_of_a_socket_may_be_one():
    assert parse_multiaddr("/unix/run/50%.sock").unix == "/run/50%.sock"


@pytest.mark.parametrize("text", ["/dnsaddr/bootstrap.example", "/dnsaddr/node.example/tcp/5001"])
def test_addresses_that_stand_for_others_say_so(text):
    with pytest.raises(AddressError, match=rf"{text}.*not looked up.*/tcp/PORT"):
        parse_multiaddr(text)
