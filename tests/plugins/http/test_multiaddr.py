from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import AddressError
from ipfs_dataset_plugins.http.multiaddr import parse_multiaddr


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


def test_a_percent_sign_in_the_path_of_a_socket_may_be_one():
    assert parse_multiaddr("/unix/run/50%.sock").unix == "/run/50%.sock"


@pytest.mark.parametrize("text", ["/dnsaddr/bootstrap.example", "/dnsaddr/node.example/tcp/5001"])
def test_addresses_that_stand_for_others_say_so(text):
    with pytest.raises(AddressError, match=rf"{text}.*not looked up.*/tcp/PORT"):
        parse_multiaddr(text)
