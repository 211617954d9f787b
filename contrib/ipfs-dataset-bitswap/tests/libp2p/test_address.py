"""Addresses of peers: which can be dialled, why others cannot, and names that resolve to addresses."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p.address import MAX_NAMES, PeerAddress, resolve
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

from ipfs_dataset_core import AddressError, TransportError

ID = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
OTHER = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (f"/ip4/1.2.3.4/tcp/4001/p2p/{ID}", "1.2.3.4", 4001),
        (f"/ip6/2604:1380:1000:6000::1/tcp/1/p2p/{ID}", "2604:1380:1000:6000::1", 1),
        (f"/ip6/2604:1380:1000:6000:0:0:0:1/tcp/1/p2p/{ID}", "2604:1380:1000:6000::1", 1),
        (f"/ip6zone/eth0/ip6/fe80::1/tcp/1/p2p/{ID}", "fe80::1%eth0", 1),
        (f"/dns/node.example.com/tcp/65535/p2p/{ID}", "node.example.com", 65535),
        (f"/dns4/node.example.com/tcp/443/p2p/{ID}/", "node.example.com", 443),
        (f"/dns6/node.example.com/tcp/443/ipfs/{ID}", "node.example.com", 443),
        (f"/dnsaddr/node.example.com/p2p/{ID}", "node.example.com", 0),
    ],
)
def test_tcp_addresses_are_read(text, host, port):
    address = PeerAddress.parse(text)
    assert (address.host, address.port) == (host, port)
    assert address.peer_id == PeerId.parse(ID)
    assert PeerAddress.parse(str(address)) == address
    assert pickle.loads(pickle.dumps(address)) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"/ip4/1.2.3.4/udp/4001/quic-v1/p2p/{ID}", "UDP|QUIC"),
        (f"/ip4/1.2.3.4/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{ID}", "relay"),
        (f"/dns4/example.com/tcp/443/wss/p2p/{ID}", "WebSockets"),
        (f"/dns4/example.com/tcp/443/tls/ws/p2p/{ID}", "WebSockets"),
        (f"/onion3/abc:1/p2p/{ID}", "Tor"),
        (f"/unix/tmp/x/p2p/{ID}", "Unix"),
        (f"/dns4/example.com/tcp/443/https/p2p/{ID}", "HTTP"),
        ("/ip4/1.2.3.4/tcp/4001", "no peer ID"),
        ("/ip4/1.2.3.4/tcp/4001/p2p", "no peer ID"),
        (f"/dnsaddr/example.com/tcp/1/p2p/{ID}", "form"),
        (f"/ip4/1.2.3/tcp/4001/p2p/{ID}", "no IP address"),
        (f"/ip4/::1/tcp/4001/p2p/{ID}", "version 6"),
        (f"/ip6/1.2.3.4/tcp/4001/p2p/{ID}", "version 4"),
        (f"/ip4/1.2.3.4/tcp/0/p2p/{ID}", "port '0'"),
        (f"/ip4/1.2.3.4/tcp/65536/p2p/{ID}", "port '65536'"),
        (f"/ip4/1.2.3.4/tcp/\u0661/p2p/{ID}", "port"),
        (f"/ip4/1.2.3.4/tcp/{'9' * 10000}/p2p/{ID}", "port"),
        ("/ip4/1.2.3.4/tcp/4001/p2p/12D3", "not a peer id"),
        (f"/dns4//tcp/4001/p2p/{ID}", "form"),
        (f"ip4/1.2.3.4/tcp/4001/p2p/{ID}", "form"),
        ("", "form"),
        ("https://example.com", "form"),
    ],
)
def test_an_address_that_cannot_be_dialled_is_an_error_with_the_reason(text, reason):
    with pytest.raises(AddressError, match=f"cannot be dialled: .*({reason})"):
        PeerAddress.parse(text)


@given(st.lists(st.sampled_from(["", "ip4", "ip6zone", "1.2.3.4", "tcp", "1", "p2p", ID, "é"])))
def test_any_text_is_an_address_or_an_error(parts):
    try:
        address = PeerAddress.parse("/".join(parts))
    except AddressError:
        return
    assert PeerAddress.parse(str(address)) == address


def lookup_in(names):
    asked = []

    def lookup(name, timeout):
        assert timeout > 0
        asked.append(name)
        return names.get(name, [])

    lookup.asked = asked
    return lookup


def test_a_name_resolves_to_the_addresses_of_its_peer():
    lookup = lookup_in(
        {
            "_dnsaddr.bootstrap.example": [
                f"dnsaddr=/dnsaddr/one.example/p2p/{ID}",
                f"dnsaddr=/dnsaddr/two.example/p2p/{OTHER}",
                "v=spf1 -all",
                "dnsaddr=nonsense",
            ],
            "_dnsaddr.one.example": [
                f"dnsaddr=/ip4/1.2.3.4/tcp/4001/p2p/{ID}",
                f"dnsaddr=/ip4/1.2.3.4/tcp/4001/p2p/{ID}",
                f"dnsaddr=/ip4/1.2.3.4/udp/4001/quic-v1/p2p/{ID}",
                f"dnsaddr=/ip6/2604::1/tcp/4001/p2p/{ID}",
                f"dnsaddr=/ip6/2604::1/tcp/4001/p2p/{OTHER}",
            ],
        }
    )
    found = resolve(
        PeerAddress.parse(f"/dnsaddr/bootstrap.example/p2p/{ID}"), timeout=20, lookup=lookup
    )
    assert [*map(str, found)] == [
        f"/ip4/1.2.3.4/tcp/4001/p2p/{ID}",
        f"/ip6/2604::1/tcp/4001/p2p/{ID}",
    ]
    assert lookup.asked == ["_dnsaddr.bootstrap.example", "_dnsaddr.one.example"]


def test_lookups_of_names_that_refer_to_each_other_are_bounded():
    records = [f"dnsaddr=/dnsaddr/{number}/p2p/{ID}" for number in range(100)]
    lookup = lookup_in({f"_dnsaddr.{number}": records for number in range(100)})
    with pytest.raises(TransportError, match="resolves to no address"):
        resolve(PeerAddress.parse(f"/dnsaddr/0/p2p/{ID}"), timeout=20, lookup=lookup)
    assert len(lookup.asked) == len({*lookup.asked}) == MAX_NAMES


def test_a_name_without_a_usable_address_is_an_error_with_the_reason():
    lookup = lookup_in({"_dnsaddr.a": [f"dnsaddr=/ip4/1.2.3.4/udp/1/quic-v1/p2p/{ID}"]})
    with pytest.raises(
        TransportError, match=r"/dnsaddr/a/.*no address that can be dialled: .*only TCP"
    ):
        resolve(PeerAddress.parse(f"/dnsaddr/a/p2p/{ID}"), timeout=20, lookup=lookup)


def test_an_ip_address_resolves_to_itself():
    address = PeerAddress.parse(f"/ip4/1.2.3.4/tcp/4001/p2p/{ID}")
    assert resolve(address, timeout=20) == [address]


@pytest.mark.parametrize("text", ["/dnsaddr/a", "/dnsaddr/a/tcp/1", f"/dnsaddr//p2p/{ID}"])
def test_a_malformed_dnsaddr_name_is_an_error(text):
    with pytest.raises(AddressError, match="/dnsaddr/NAME/p2p/PEER_ID"):
        PeerAddress.parse(text)
