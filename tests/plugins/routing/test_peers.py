"""Providers that serve Bitswap: which of them are used, and that they are read like any other source."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import (
    AddressError,
    ObjectNotFoundError,
    Options,
    TransportError,
    TransportPlugin,
    VerificationError,
)
from ipfs_dataset_core.addressing.sources import address_scheme
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.registry import lookup
from ipfs_dataset_core.registry.discovery import Discovery
from ipfs_dataset_core.registry.lookup import Registry, default_registry
from ipfs_dataset_plugins.routing.providers import (
    BITSWAP_PROTOCOL,
    GATEWAY_PROTOCOL,
    MAX_PEERS,
    read_providers,
)
from ipfs_dataset_plugins.routing.transport import RoutingTransport
from tests.support.builders import noise, one_file
from tests.support.fetching import Batches, flip, read_all
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan

FILE = noise(3 << 20)
ROOT, BLOCKS = one_file(FILE)
CIDS = [CID(1, 0x55, multihash) for multihash in BLOCKS]


def peer_id(number):
    return f"12D3KooW{number:044}"


ONE, TWO = peer_id(1), peer_id(2)


def record(*addresses, peer=ONE, protocols=(BITSWAP_PROTOCOL,), **more):
    return {
        "Schema": "peer",
        "ID": peer,
        "Addrs": list(addresses),
        "Protocols": None if protocols is None else list(protocols),
        **more,
    }


def found(*records, private=False):
    return read_providers(json.dumps({"Providers": records}).encode(), private=private)


class Router(FaultServer):
    """A delegated router that answers with `records`, and filters them as IPIP-484 has it."""

    def __init__(self, *records):
        super().__init__(self._answer)
        self.records = list(records)

    def _answer(self, request):
        records = self.records
        if wanted := request.query.get("filter-protocols"):
            kinds = set(wanted.split(","))
            records = [r for r in records if set(r["Protocols"] or ["unknown"]) & kinds]
        if wanted := request.query.get("filter-addrs"):
            kept = []
            for r in records:
                addresses = [a for a in r["Addrs"] if set(a.split("/")) & set(wanted.split(","))]
                if addresses:
                    kept.append({**r, "Addrs": addresses})
            records = kept
        return Plan(body=json.dumps({"Providers": records}).encode())


class Peers(Batches):
    """Stands for the transport of peers, which is one of another distribution."""

    made: ClassVar[list[Peers]] = []
    blocks_of: ClassVar[dict[str, dict[bytes, bytes]]] = {}
    wrong: ClassVar[set[str]] = set()

    def __init__(self, address, options):
        listed = address.removeprefix("bitswap:").partition("?")[0].split(",")
        if any("bad" in one for one in listed):
            raise AddressError(f"{address!r} is no address of peers")
        peers = {one.rpartition("/")[2] for one in listed}
        blocks: dict[bytes, bytes] = {}
        for peer in peers:
            blocks.update(self.blocks_of.get(peer, {}))
        change = flip("block") if peers & self.wrong else lambda _, data: data
        super().__init__(blocks, f"peers {address}", change=change)
        self.address, self.options = address, options
        self.made.append(self)


@pytest.fixture
def peers(monkeypatch):
    """The peers that can be read, and what each has."""
    built_in = [x for x in default_registry().discovery.loaded if x.origin.built_in]
    registry = Registry(Discovery(tuple(built_in), (), ()))
    registry.register(
        TransportPlugin(name="peers", summary="", schemes=("p2p", "bitswap"), factory=Peers)
    )
    monkeypatch.setattr(lookup, "_default", registry)
    Peers.made.clear()
    Peers.blocks_of.clear()
    Peers.wrong.clear()
    return Peers.blocks_of


def connect(router, **options):
    return RoutingTransport(f"routing+{router.url}", Options(timeout=20, **options))


def tcp(port=4001):
    return f"/ip4/127.0.0.1/tcp/{port}"


def multiaddr(url):
    host, _, port = url.removeprefix("http://").partition(":")
    return f"/ip4/{host}/tcp/{port}/http"


@pytest.mark.parametrize(
    "protocols", [(BITSWAP_PROTOCOL,), (), None, ("transport-x", BITSWAP_PROTOCOL)]
)
def test_peers_with_tcp_addresses_are_kept_with_their_identity(protocols):
    addresses = [
        "/ip4/1.1.1.1/tcp/4001",
        "/ip4/1.1.1.1/udp/4001/quic-v1",
        f"/ip6/2606:4700::1111/tcp/4001/p2p/{ONE}",
        f"/dns4/peer.example/tcp/4001/ipfs/{ONE}",
        "/ip4/1.1.1.1/tcp/4001",
        f"/dnsaddr/peer.example/p2p/{ONE}",
    ]
    answer = found(record(*addresses, protocols=protocols))
    assert answer.peers == {
        ONE: [
            f"/ip4/1.1.1.1/tcp/4001/p2p/{ONE}",
            f"/ip6/2606:4700::1111/tcp/4001/p2p/{ONE}",
            f"/dns4/peer.example/tcp/4001/p2p/{ONE}",
            f"/dnsaddr/peer.example/p2p/{ONE}",
        ]
    }
    assert not answer.skipped
    assert not answer.urls


def test_the_older_schema_is_parsed():
    old = {
        "Schema": "bitswap",
        "Protocol": BITSWAP_PROTOCOL,
        "ID": ONE,
        "Addrs": ["/ip4/1.1.1.1/tcp/1"],
    }
    assert found(old).peers == {ONE: [f"/ip4/1.1.1.1/tcp/1/p2p/{ONE}"]}


def test_one_provider_may_serve_both():
    both = record(
        "/ip4/1.1.1.1/tcp/4001",
        "/dns4/a.example/tcp/443/https",
        protocols=(BITSWAP_PROTOCOL, GATEWAY_PROTOCOL),
    )
    answer = found(both)
    assert answer.urls == ["https://a.example:443"]
    assert list(answer.peers) == [ONE]


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        (["/ip4/1.1.1.1/udp/4001/quic-v1"], "1 QUIC or WebRTC only"),
        (["/ip4/1.1.1.1/udp/4001/quic-v1/webtransport/certhash/uEi"], "1 QUIC or WebRTC only"),
        (["/ip4/1.1.1.1/udp/4001/webrtc-direct/certhash/uEi"], "1 QUIC or WebRTC only"),
        ([f"/ip4/1.1.1.1/tcp/4001/p2p/{TWO}/p2p-circuit"], "1 behind a relay"),
        ([f"/ip4/1.1.1.1/udp/4001/quic-v1/p2p/{TWO}/p2p-circuit"], "1 behind a relay"),
        (["/dns4/a.example/tcp/443/tls/ws"], "1 WebSocket only"),
        (["/dns4/a.example/tcp/443/wss"], "1 WebSocket only"),
        (["/dns4/a.example/tcp/443/tls/sni/b.example/ws"], "1 WebSocket only"),
        (["/ip4/10.0.0.1/tcp/4001", "/ip4/1.1.1.1/udp/4001/quic-v1"], "1 in a private network"),
        (["/ip4/127.0.0.1/tcp/4001"], "1 in a private network"),
        (["/ip6/::ffff:127.0.0.1/tcp/4001"], "1 in a private network"),
        (["/ip4/169.254.169.254/tcp/80"], "1 in a private network"),
        (["/dns4/localhost/tcp/4001"], "1 in a private network"),
        (["/dns/metadata.internal/tcp/80"], "1 in a private network"),
        (["/dns4/2130706433/tcp/80"], "1 in a private network"),
        (["/dnsaddr/localhost"], "1 in a private network"),
        ([f"/dnsaddr/a.example/p2p/{TWO}"], "1 of another protocol"),
        ([f"/ip4/1.1.1.1/tcp/4001/p2p/{TWO}"], "1 of another protocol"),
        (["/ip4/1.1.1.1/tcp/4001,/ip4/10.0.0.1/tcp/1"], "1 of another protocol"),
        (["/dns4/a.example?public=0/tcp/1"], "1 of another protocol"),
        (["", "nonsense", "/unix/x", "/ip4/1.1.1.1"], "1 of another protocol"),
        ([], "1 without an address"),
    ],
)
def test_unusable_addresses_are_counted_with_the_reason(addresses, reason):
    answer = found(
        record(*addresses),
        record(*addresses, peer=TWO, protocols=("transport-graphsync-filecoinv1",)),
    )
    assert not answer.peers
    assert (
        reason in answer.describe_skipped() or "2 of another protocol" in answer.describe_skipped()
    )
    assert answer.skipped.total() == 2


@pytest.mark.parametrize(
    "odd", ["", "x" * 200, "12D3 KooW", None, 5, f"{ONE},/ip4", f"{ONE}?public=0"]
)
def test_a_peer_without_a_usable_identity_is_not_used(odd):
    answer = found(record("/ip4/1.1.1.1/tcp/4001", peer=odd))
    assert not answer.peers
    assert answer.skipped.total() == 1


def test_peers_and_their_addresses_are_limited():
    many = [
        record(*(f"/ip4/1.1.1.{n}/tcp/{port}" for port in range(1, 30)), peer=peer_id(n))
        for n in range(1, 90)
    ]
    answer = found(*many)
    assert len(answer.peers) == MAX_PEERS
    assert max(map(len, answer.peers.values())) <= 4


parts = st.sampled_from(
    [
        "",
        "ip4",
        "ip6",
        "dns4",
        "1.1.1.1",
        "10.0.0.1",
        "::1",
        "tcp",
        "4001",
        "p2p",
        ONE,
        "a.example",
        "http",
        ",",
        "?",
    ]
)


@given(st.lists(st.lists(parts, max_size=9).map("/".join), max_size=4), st.booleans())
def test_each_kept_address_belongs_to_a_peer(addresses, private):
    answer = found(record(*addresses), private=private)
    for address in answer.peers.get(ONE, ()):
        assert address_scheme(address) == "p2p"
        assert address.endswith(f"/p2p/{ONE}")
        assert "," not in address
        assert "?" not in address
        assert private or "10.0.0.1" not in address.split("/")[2]
    assert len(answer.peers) + answer.skipped.total() == 1


def test_blocks_come_from_the_peers_that_the_router_names_in_batches(peers):
    peers[ONE] = BLOCKS
    with Router(record(tcp())) as router:
        assert read_all(ROOT, connect(router), piece=1 << 20) == FILE
        assert len(router.requests) == 1
        query = router.requests[0].query
    assert query["filter-protocols"] == f"unknown,{BITSWAP_PROTOCOL},{GATEWAY_PROTOCOL}"
    assert query["filter-addrs"] == "tcp,dnsaddr"
    [made] = Peers.made
    assert made.address == f"bitswap:{tcp()}/p2p/{ONE}"
    assert made.asked["batch"] >= 1


def test_blocks_missing_at_peers_are_fetched_from_gateways_and_vice_versa(peers):
    half = dict(list(BLOCKS.items())[::2])
    rest = dict(list(BLOCKS.items())[1::2])
    peers[ONE] = half
    with GatewayServer(rest) as gateway:
        gateway_record = record(multiaddr(gateway.url), peer=TWO, protocols=(GATEWAY_PROTOCOL,))
        with Router(record(tcp()), gateway_record) as router:
            assert read_all(ROOT, connect(router), piece=1 << 20) == FILE


def test_all_peers_of_one_answer_are_one_source_and_new_ones_another(peers):
    half = dict(list(BLOCKS.items())[:2])
    rest = dict(list(BLOCKS.items())[2:])
    peers[ONE], peers[TWO], peers[peer_id(3)] = half, {}, rest
    with Router(record(tcp(1)), record(tcp(2), peer=TWO)) as router:
        transport = connect(router)
        assert transport.get_block(CIDS[0]) == BLOCKS[CIDS[0].multihash]
        router.records.append(record(tcp(3), peer=peer_id(3)))
        for cid in CIDS:
            assert transport.get_block(cid) == BLOCKS[cid.multihash]
        assert dict(transport.get_blocks(CIDS)) == {c: BLOCKS[c.multihash] for c in CIDS}
        transport.close()
    assert [made.address.count(",") for made in Peers.made] == [1, 0]


def test_peers_of_a_public_router_are_only_dialled_at_public_addresses(peers, resolver):
    resolver["peer.example"] = ["93.184.215.14"]
    peers[ONE] = BLOCKS
    public = [record("/dns4/peer.example/tcp/4001"), record("/ip4/10.0.0.1/tcp/4001", peer=TWO)]
    with Router(*public) as router:
        transport = RoutingTransport(
            f"routing+http://router.example:{router.port}", Options(timeout=20)
        )
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        transport.close()
    assert [made.address for made in Peers.made] == [
        f"bitswap:/dns4/peer.example/tcp/4001/p2p/{ONE}?public=1"
    ]


def test_peers_get_no_headers_and_credentials(peers):
    peers[ONE] = BLOCKS
    with Router(record(tcp())) as router:
        transport = connect(router, headers={"X-Key": "secret"}, auth="bearer:secret")
        transport.get_block(ROOT)
        transport.close()
    assert not Peers.made[0].options.headers
    assert Peers.made[0].options.auth is None


def test_peers_that_send_wrong_bytes_get_no_further_requests(peers):
    peers[ONE] = BLOCKS
    Peers.wrong.add(ONE)
    with Router(record(tcp())) as router:
        transport = connect(router)
        with pytest.raises(TransportError, match="are not that block"):
            transport.get_block(ROOT)
        assert not transport.batches
        with pytest.raises(ObjectNotFoundError):
            transport.get_block(ROOT)
        transport.close()
    assert Peers.made[0].asked["block"] == 1


def test_a_peer_with_a_refused_address_does_not_affect_the_others(peers):
    peers[ONE] = BLOCKS
    with Router(record("/dns4/bad.internal/tcp/1", peer=TWO), record(tcp())) as router:
        transport = connect(router)
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        transport.close()
    with Router(record("/dns4/bad.internal/tcp/1", peer=TWO)) as router:
        transport = connect(router)
        with pytest.raises(ObjectNotFoundError):
            transport.get_block(ROOT)
        transport.close()


def test_the_error_counts_what_cannot_be_read_though_filters_leave_it_out(peers):
    skipped = [
        record("/ip4/1.1.1.1/udp/4001/quic-v1", peer=peer_id(1)),
        record("/ip4/1.1.1.1/udp/4001/quic-v1", peer=peer_id(2)),
        record(f"/ip4/1.1.1.1/tcp/4001/p2p/{TWO}/p2p-circuit", peer=peer_id(3)),
        record("/dns4/a.example/tcp/443/wss", peer=peer_id(4)),
    ]
    with Router(*skipped) as router:
        transport = connect(router)
        with pytest.raises(ObjectNotFoundError) as caught:
            transport.get_block(ROOT)
        transport.close()
        assert len(router.requests) == 2
    assert str(caught.value).endswith(
        f"knows no provider of {ROOT} that can be read from; "
        "4 skipped (2 QUIC or WebRTC only, 1 behind a relay, 1 WebSocket only)"
    )


def test_without_the_plugin_gateways_are_read_and_errors_tell_what_to_install(monkeypatch):
    monkeypatch.setattr(lookup, "_default", Registry(Discovery((), (), ())))
    listed = [record(tcp()), record(tcp(2), peer=TWO)]
    with GatewayServer(BLOCKS) as gateway:
        one = record(multiaddr(gateway.url), peer=peer_id(3), protocols=(GATEWAY_PROTOCOL,))
        with Router(*listed, one) as router:
            assert read_all(ROOT, connect(router), piece=1 << 20) == FILE
    with Router(*listed) as router:
        transport = connect(router)
        with pytest.raises(ObjectNotFoundError) as caught:
            transport.get_block(ROOT)
        transport.close()
    assert str(caught.value).endswith(
        "; 2 skipped that serve Bitswap, which needs: pip install ipfs-dataset-bitswap"
    )
    with GatewayServer({}) as empty:
        one = record(multiaddr(empty.url), peer=peer_id(3), protocols=(GATEWAY_PROTOCOL,))
        with Router(*listed, one) as router:
            transport = connect(router)
            with pytest.raises(
                ObjectNotFoundError, match=r"2 skipped .*pip install ipfs-dataset-bitswap"
            ):
                transport.get_block(ROOT)
            transport.close()


def test_wrong_bytes_in_a_batch_are_detected(peers):
    peers[ONE] = BLOCKS
    with Router(record(tcp())) as router:
        transport = connect(router)
        assert transport.get_block(CIDS[0]) == BLOCKS[CIDS[0].multihash]
        Peers.made[0].sends = lambda blocks: ((cid, flip("block")("block", b)) for cid, b in blocks)
        with pytest.raises((TransportError, VerificationError), match="are not that block"):
            list(transport.get_blocks(CIDS))
        assert not transport.batches
        transport.close()
