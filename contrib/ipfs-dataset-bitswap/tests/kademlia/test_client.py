"""Lookups in a DHT in memory, some of whose peers send false responses; `test_private_dht` has real nodes."""

from __future__ import annotations

import random
import threading
import time

import pytest
from ipfs_dataset_bitswap.kademlia import client as module
from ipfs_dataset_bitswap.kademlia.bootstrap import PUBLIC_PEERS, bootstrap_peers
from ipfs_dataset_bitswap.kademlia.client import KademliaClient
from ipfs_dataset_bitswap.kademlia.messages import (
    CLOSEST,
    FIND_NODE,
    GET_PROVIDERS,
    GET_VALUE,
    FoundPeer,
    Response,
    kad_key,
)
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.identity import Identity

from ipfs_dataset_core import AddressError, TransportError
from ipfs_dataset_core.ipld import RAW, make_cid, parse_name
from tests.support.name_records import Key, record

CID = make_cid(b"a block", RAW)


def peers_at(host, count, start=0):
    made = []
    for number in range(start, start + count):
        peer_id = Identity.generate().peer_id
        made.append(FoundPeer(peer_id, (PeerAddress(host, 4001 + number, peer_id),)))
    return made


class Network(KademliaClient):
    """A client whose requests are answered by peers in memory, each of which has all the others in its table.

    Attributes:
        providers, records: What each peer has, by its id.
        answers: Functions that return the response of a peer instead, by its id.
    """

    def __init__(self, peers, timeout=20.0, bootstrap=None):
        super().__init__(bootstrap or peers[0].addresses, timeout)
        self.peers = list(peers)
        self.providers = {}
        self.records = {}
        self.answers = {}
        self.asked = []
        self._asking = threading.Lock()

    def request(self, peer, kind, key, end):
        with self._asking:
            self.asked.append((peer.peer_id, kind))
        private = module.is_private_host(peer.addresses[0].host)
        if peer.peer_id in self.answers:
            return self.answers[peer.peer_id](), private
        place = kad_key(key)
        closer = sorted(self.peers, key=lambda one: kad_key(one.peer_id.multihash) ^ place)[
            :CLOSEST
        ]
        return (
            Response(
                tuple(closer),
                tuple(self.providers.get(peer.peer_id, ())) if kind == GET_PROVIDERS else (),
                self.records.get(peer.peer_id) if kind == GET_VALUE else None,
            ),
            private,
        )


def refusing():
    raise TransportError("refused")


def closest(network, key):
    place = kad_key(key)
    return sorted(network.peers, key=lambda one: kad_key(one.peer_id.multihash) ^ place)


def test_providers_are_found_at_the_peers_that_are_closest_to_the_block():
    network = Network(peers_at("127.0.0.1", 60))
    [holder] = peers_at("127.0.0.1", 1, 100)
    network.providers[closest(network, CID.multihash)[3].peer_id] = [holder]
    assert network.find_providers(CID) == [holder]
    assert len(network.asked) < 60
    assert {kind for _, kind in network.asked} == {GET_PROVIDERS}


def test_a_provider_without_an_address_is_looked_up():
    network = Network(peers_at("127.0.0.1", 30))
    holder = network.peers[20]
    network.providers[closest(network, CID.multihash)[0].peer_id] = [FoundPeer(holder.peer_id)]
    assert network.find_providers(CID) == [holder]
    assert FIND_NODE in {kind for _, kind in network.asked}


def test_no_provider_is_an_empty_list_and_no_response_is_an_error():
    network = Network(peers_at("127.0.0.1", 30))
    assert network.find_providers(CID) == []
    silent = Network(peers_at("127.0.0.1", 30))
    silent.answers = {peer.peer_id: refusing for peer in silent.peers}
    with pytest.raises(TransportError, match="none of 1 peers responded: refused"):
        silent.find_providers(CID)


def test_private_addresses_from_public_peers_are_skipped():
    public = peers_at("1.2.3.4", 3)
    network = Network(public)
    private = peers_at("10.0.0.1", 1, 50)[0]
    also_public = PeerAddress("5.6.7.8", 1, private.peer_id)
    mixed = FoundPeer(private.peer_id, (*private.addresses, also_public))
    network.answers = {
        peer.peer_id: lambda: Response((*public, *peers_at("127.0.0.1", 20)), (private,))
        for peer in public
    }
    [found] = network.find_providers(CID)
    assert not found.addresses
    assert "private" in found.skipped
    assert {peer_id for peer_id, _ in network.asked} == {peer.peer_id for peer in public}
    network.answers[public[1].peer_id] = lambda: Response((), (mixed,))
    [found] = network.find_providers(CID)
    assert found.addresses == (also_public,)


def test_private_addresses_from_private_peers_are_used():
    network = Network(peers_at("10.0.0.1", 5))
    [holder] = peers_at("192.168.0.7", 1)
    network.providers[network.peers[3].peer_id] = [holder]
    assert network.find_providers(CID) == [holder]


def test_requests_are_bounded_if_peers_send_false_responses():
    network = Network(peers_at("127.0.0.1", 40))
    [holder] = peers_at("127.0.0.1", 1, 100)
    liars = network.peers[1:10]
    network.answers = {
        liar.peer_id: lambda: Response(tuple(peers_at("127.0.0.1", 40, 1000)), ()) for liar in liars
    }
    for one in closest(network, CID.multihash)[:CLOSEST]:
        if one not in liars:
            network.providers[one.peer_id] = [holder]
    assert holder in network.find_providers(CID)
    assert len(network.asked) <= 210


def test_a_provider_found_first_is_returned_while_other_peers_hang():
    network = Network(peers_at("127.0.0.1", 40))
    [holder] = peers_at("127.0.0.1", 1, 100)
    released = threading.Event()

    def hangs():
        released.wait(60)
        raise TransportError("late")

    network.answers = {peer.peer_id: hangs for peer in network.peers[5:]}
    network.providers[network.peers[0].peer_id] = [holder]
    started = time.monotonic()
    assert network.find_providers(CID) == [holder]
    assert time.monotonic() - started < 15
    released.set()


def test_a_lookup_ends_at_its_timeout_and_when_the_client_is_closed():
    released = threading.Event()
    network = Network(peers_at("127.0.0.1", 3), timeout=0.2)

    def hangs():
        released.wait(60)
        raise TransportError("late")

    network.answers = {peer.peer_id: hangs for peer in network.peers}
    with pytest.raises(TransportError, match="there was no time"):
        network.find_providers(CID)
    network = Network(peers_at("127.0.0.1", 3), timeout=50)
    network.answers = {peer.peer_id: hangs for peer in network.peers}
    threading.Timer(0.1, network.close).start()
    with pytest.raises(TransportError):
        network.find_providers(CID)
    released.set()


def test_the_newest_valid_record_of_a_name_is_returned():
    key = Key()
    name = parse_name(key.name)
    network = Network(peers_at("127.0.0.1", 30))
    near = closest(network, b"/ipns/" + key.multihash)
    records = [record(key, "/ipfs/bafkqaaa", sequence=number) for number in (1, 3, 2)]
    other = record(Key(), "/ipfs/bafkqaaa", sequence=9)
    for peer, kept in zip(near, [*records, other, b"junk", b""], strict=False):
        network.records[peer.peer_id] = kept
    assert network.find_record(name) == records[1]
    assert Network(peers_at("127.0.0.1", 5)).find_record(name) is None


def test_peers_that_responded_are_used_in_the_next_lookup():
    network = Network(peers_at("127.0.0.1", 10))
    network.find_providers(CID)
    network.answers = {network.peers[0].peer_id: refusing}  # the bootstrap peer
    other = make_cid(b"another", RAW)
    [holder] = peers_at("127.0.0.1", 1, 100)
    network.providers[network.peers[5].peer_id] = [holder]
    assert network.find_providers(other) == [holder]


def test_the_public_bootstrap_peers_are_used_only_for_the_name_default():
    assert [str(one) for one in bootstrap_peers(["default"])] == list(PUBLIC_PEERS)
    own = f"/ip4/127.0.0.1/tcp/1/p2p/{Identity.generate().peer_id}"
    assert [str(one) for one in bootstrap_peers([own])] == [own]
    assert len(bootstrap_peers([own, "default"])) == len(PUBLIC_PEERS) + 1
    with pytest.raises(AddressError, match="'default'"):
        bootstrap_peers([""])
    with pytest.raises(AddressError, match="Default"):
        bootstrap_peers(["Default"])


def test_lookups_of_several_threads_are_independent():
    network = Network(peers_at("127.0.0.1", 40))
    cids = [make_cid(b"%d" % number, RAW) for number in range(8)]
    holders = peers_at("127.0.0.1", 8, 200)
    by_place = {}
    for cid, holder in zip(cids, holders, strict=True):
        by_place[cid.multihash] = holder
    answer = network.request

    def request(peer, kind, key, end):
        response, private = answer(peer, kind, key, end)
        return Response(response.closer, (by_place[key],)), private

    network.request = request
    found = {}

    def look(cid):
        found[cid] = network.find_providers(cid)

    threads = [threading.Thread(target=look, args=(cid,)) for cid in random.sample(cids, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {cid: [holder] for cid, holder in zip(cids, holders, strict=True)}


def test_providers_without_an_address_are_looked_up_within_the_time_of_one_lookup():
    network = Network(peers_at("127.0.0.1", 40), timeout=0.5)
    nowhere = [FoundPeer(Identity.generate().peer_id) for _ in range(8)]
    released = threading.Event()
    for one in network.peers:
        network.providers[one.peer_id] = nowhere

    def request(peer, kind, key, end):
        if kind == FIND_NODE:
            released.wait(20)
            return Response(), True
        return Network.request(network, peer, kind, key, end)

    network.request = request
    started = threading.active_count()
    assert {one.peer_id for one in network.find_providers(CID)} == {one.peer_id for one in nowhere}
    # One lookup queries ten peers at once; eight lookups, one after the other, would leave eighty threads.
    assert threading.active_count() - started <= module.ALPHA
    released.set()
