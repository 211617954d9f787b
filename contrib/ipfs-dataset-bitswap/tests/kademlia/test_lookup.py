"""Which peers a lookup queries, in networks in memory of any shape."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_bitswap.kademlia.lookup import MAX_ASKED, Lookup
from ipfs_dataset_bitswap.kademlia.messages import CLOSEST, FoundPeer, kad_key
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId


def peer(number):
    peer_id = PeerId(b"\x12\x20" + hashlib.sha256(b"%d" % number).digest())
    return FoundPeer(peer_id, (PeerAddress("127.0.0.1", 1 + number % 65535, peer_id),))


def distance(one, key):
    return kad_key(one.peer_id.multihash) ^ kad_key(key)


def run(key, seeds, answers, silent=frozenset()):
    """Queries one peer after the other; returns the lookup and the peers that were queried."""
    lookup, asked = Lookup(key, seeds), []
    while not lookup.is_done():
        found = lookup.next()
        assert found is not None
        asked.append(found)
        if found.peer_id in silent:
            lookup.failed(found)
        else:
            lookup.heard(found, answers(found))
    assert lookup.next() is None
    return lookup, asked


def network(count, rng, known=CLOSEST):
    """Returns peers, each with a table of its neighbours and random others, and their answers by key."""
    peers = [peer(n) for n in range(count)]
    places = {one: kad_key(one.peer_id.multihash) for one in peers}
    tables = {}
    for one in peers:
        near = sorted(peers, key=lambda other: places[other] ^ places[one])
        tables[one.peer_id] = [*near[1 : known + 1], *rng.sample(peers, min(count, 2 * known))]

    def answers_to(key):
        place = kad_key(key)

        def answers(one):
            return sorted(tables[one.peer_id], key=lambda other: places[other] ^ place)[:CLOSEST]

        return answers

    return peers, answers_to


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 300), st.integers(0, 2**32), st.binary(min_size=1, max_size=40))
def test_the_closest_peers_are_found_from_any_peer(count, seed, key):
    rng = random.Random(seed)
    peers, answers_to = network(count, rng)
    lookup, asked = run(key, [rng.choice(peers)], answers_to(key))
    closest = sorted(peers, key=lambda one: distance(one, key))
    # The table of each peer has its neighbours, so the lookup reaches the closest of all.
    assert lookup.closest()[:1] == closest[:1] or count == 1 or len(asked) < count
    assert len({one.peer_id for one in asked}) == len(asked)
    assert lookup.closest() == sorted(asked, key=lambda one: distance(one, key))[:CLOSEST]


def test_a_lookup_queries_a_small_part_of_the_peers():
    rng = random.Random(1)
    peers, answers_to = network(600, rng)
    for number in range(5):
        key = b"key %d" % number
        lookup, asked = run(key, [rng.choice(peers)], answers_to(key))
        assert lookup.closest() == sorted(peers, key=lambda one: distance(one, key))[:CLOSEST]
        assert len(asked) < 80


def test_peers_that_do_not_respond_are_replaced_by_others():
    rng = random.Random(2)
    peers, answers_to = network(200, rng)
    key = b"key"
    silent = {one.peer_id for one in sorted(peers, key=lambda one: distance(one, key))[::2]}
    start = next(one for one in peers if one.peer_id not in silent)
    lookup, _ = run(key, [start], answers_to(key), silent)
    answering = [one for one in peers if one.peer_id not in silent]
    closest = sorted(answering, key=lambda one: distance(one, key))[:CLOSEST]
    # Half of the peers in each response do not respond, so a few of the farther ones are not found.
    assert lookup.closest()[:5] == closest[:5]
    assert sum(one in closest for one in lookup.closest()) >= CLOSEST * 3 // 4


def test_the_requests_of_a_lookup_are_bounded():
    key = b"key"
    numbers = iter(range(10**9))

    def endless(_):
        return [peer(next(numbers)) for _ in range(40)]

    lookup, asked = run(key, [peer(10**9)], endless)
    assert len(asked) <= MAX_ASKED
    assert lookup.asked == len(asked)


def test_a_peer_without_an_address_is_not_queried():
    lookup = Lookup(b"key", [FoundPeer(peer(1).peer_id)])
    assert lookup.next() is None
    assert lookup.is_done()


def test_a_lookup_is_not_done_while_a_request_is_pending():
    lookup = Lookup(b"key", [peer(1)])
    one = lookup.next()
    assert one == peer(1)
    assert lookup.next() is None
    assert not lookup.is_done()
    lookup.heard(one, [peer(1), peer(2)])
    assert lookup.next() == peer(2)
    lookup.failed(peer(2))
    assert lookup.is_done()
    assert lookup.closest() == [peer(1)]


@pytest.mark.parametrize("failing", [True, False])
def test_a_lookup_without_responses_ends(failing):
    lookup = Lookup(b"key", [peer(1)] if failing else [])
    if failing:
        lookup.failed(lookup.next())
    assert lookup.is_done()
    assert lookup.answered == 0
