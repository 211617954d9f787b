"""The addresses of peers, and ``bitswap:`` addresses with several of them."""

from __future__ import annotations

import pytest
from ipfs_dataset_bitswap.addresses import BitswapAddress
from ipfs_dataset_bitswap.transport import BitswapTransport

from ipfs_dataset_core import AddressError, Options

ONE = "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2"
TWO = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


def test_the_address_of_a_peer_is_parsed():
    found = BitswapAddress.parse(f"/ip4/1.2.3.4/tcp/4001/p2p/{ONE}")
    [[address]] = found.peers.values()
    assert (address.host, address.port, str(address.peer_id)) == ("1.2.3.4", 4001, ONE)
    assert (found.connections, found.public_only) == (4, False)


def test_several_peers_and_several_addresses_of_one_are_parsed():
    found = BitswapAddress.parse(
        f"bitswap:/dns4/a.example/tcp/1/p2p/{ONE},/ip6/::1/tcp/2/p2p/{TWO},/ip4/1.2.3.4/tcp/3/p2p/{ONE}"
        "?connections=2&public=1"
    )
    assert {name: [one.port for one in of] for name, of in found.peers.items()} == {
        ONE: [1, 3],
        TWO: [2],
    }
    assert (found.connections, found.public_only) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        "bitswap:",
        "bitswap:?connections=2",
        "bitswap:,",
        "bitswap:/ip4/1.2.3.4/tcp/1",
        f"bitswap:/ip4/1.2.3.4/udp/1/quic-v1/p2p/{ONE}",
        f"bitswap:/ip4/1.2.3.4/tcp/0/p2p/{ONE}",
        f"/ip4/1.2.3.4/tcp/1/p2p/{ONE}?connections=0",
        f"/ip4/1.2.3.4/tcp/1/p2p/{ONE}?connections=17",
        f"/ip4/1.2.3.4/tcp/1/p2p/{ONE}?connections=",
        f"/ip4/1.2.3.4/tcp/1/p2p/{ONE}?public=yes",
        f"/ip4/1.2.3.4/tcp/1/p2p/{ONE}?speed=2",
    ],
)
def test_malformed_addresses_are_refused(text):
    with pytest.raises(AddressError):
        BitswapAddress.parse(text)


def test_the_name_of_a_transport_lists_its_peers():
    peers = ",".join(f"/ip4/1.2.3.{n}/tcp/4001/p2p/{p}" for n, p in enumerate((ONE, TWO)))
    transport = BitswapTransport(f"bitswap:{peers}", Options())
    assert transport.name == (
        f"peer /ip4/1.2.3.0/tcp/4001/p2p/{ONE}, peer /ip4/1.2.3.1/tcp/4001/p2p/{TWO}"
    )
    transport.close()
