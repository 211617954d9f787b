"""The transport that finds peers in the DHT: which peers it uses, and when it drops or tries them again."""

from __future__ import annotations

from contextlib import closing

import pytest
from ipfs_dataset_bitswap import dht
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.identity import Identity

from ipfs_dataset_core import Options, TransportError, open_transport
from ipfs_dataset_core.ipld import RAW, make_cid
from tests.support.bitswap_server import BitswapServer
from tests.support.kad_peers import PROVIDERS, described, saying, serving
from tests.support.libp2p_peer import ScriptedPeer

BLOCKS = {make_cid(data, RAW): data for data in (b"block %d" % number for number in range(20))}
CIDS = list(BLOCKS)
HELD = {cid.multihash: data for cid, data in BLOCKS.items()}


@pytest.fixture
def found():
    """The addresses that the only peer of the DHT names as providers."""
    return []


@pytest.fixture
def transport(found):
    def answer(side, stream, request):
        saying(*(described(one, PROVIDERS) for one in found))(side, stream, request)

    with ScriptedPeer(serving(answer)) as node:
        opened = open_transport(f"bitswap:?bootstrap={node.address}", Options(timeout=4, retries=0))
        with closing(opened):
            yield opened


def nobody():
    return PeerAddress("127.0.0.1", 9, Identity.generate().peer_id)


def test_peers_that_fail_are_removed(transport, found):
    for cid in CIDS[:-1]:
        found[:] = [nobody()]
        with pytest.raises(TransportError):
            transport.get_block(cid)
    own = transport.wrapped
    assert len(own._found) <= dht._MAX_FAILURES + 1
    assert len(own._known) == len(own._found)
    with BitswapServer(HELD) as peer:
        found[:] = [peer.address]
        assert transport.get_block(CIDS[-1]) == BLOCKS[CIDS[-1]]


def test_a_peer_that_moves_is_found_at_its_new_address(transport, found):
    with BitswapServer(HELD) as peer:
        found[:] = [PeerAddress("127.0.0.1", 9, peer.address.peer_id)]
        for cid in CIDS[: dht._MAX_FAILURES]:
            with pytest.raises(TransportError):
                transport.get_block(cid)
        found[:] = [peer.address]
        assert transport.get_block(CIDS[-1]) == BLOCKS[CIDS[-1]]


def test_configured_peers_are_tried_again_after_a_pause(found, monkeypatch):
    """The DHT may not return them again, so an outage must not remove them."""
    monkeypatch.setattr(dht, "_REST_SECONDS", 0.0)
    dead = True
    with (
        BitswapServer(HELD, lambda _: "drop" if dead else None) as peer,
        ScriptedPeer(serving(saying())) as node,
        closing(
            open_transport(
                f"bitswap:{peer.url}?bootstrap={node.address}", Options(timeout=4, retries=0)
            )
        ) as transport,
    ):
        for cid in CIDS[:5]:
            with pytest.raises(TransportError):
                transport.get_block(cid)
        dead = False
        assert transport.get_block(CIDS[-1]) == BLOCKS[CIDS[-1]]
