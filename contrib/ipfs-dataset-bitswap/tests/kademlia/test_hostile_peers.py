"""Peers of the DHT that violate its protocol, on real sockets: errors name them, and others are used."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from ipfs_dataset_bitswap.kademlia import client as module
from ipfs_dataset_bitswap.kademlia.client import KademliaClient
from ipfs_dataset_bitswap.kademlia.messages import (
    GET_PROVIDERS,
    LAN_PROTOCOL,
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    encode_request,
)
from ipfs_dataset_bitswap.libp2p import yamux
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.identity import Identity

from ipfs_dataset_core import TransportError
from ipfs_dataset_core.ipld import RAW, encode_varint, make_cid, protobuf_varint
from tests.support.kad_peers import CLOSER, PROVIDERS, described, saying, serving
from tests.support.libp2p_peer import ScriptedPeer

CID = make_cid(b"a block", RAW)


@pytest.fixture
def peer():
    started = []

    def start(script):
        started.append(ScriptedPeer(script))
        return started[-1]

    yield start
    for one in started:
        one.__exit__()


def holder():
    return PeerAddress("127.0.0.1", 4001, Identity.generate().peer_id)


def test_a_lookup_sends_the_request_of_the_protocol_and_follows_responses(peer):
    asked, wanted = [], holder()
    knows = peer(serving(saying(described(wanted, PROVIDERS)), requests=asked))
    first = peer(serving(saying(described(knows.address, CLOSER)), requests=asked))
    [found] = KademliaClient([first.address], 20).find_providers(CID)
    assert found.addresses == (wanted,)
    assert asked == [encode_request(GET_PROVIDERS, CID.multihash)] * 2


def test_a_peer_with_only_the_public_protocol_is_queried_with_it(peer):
    wanted = holder()
    only = peer(serving(saying(described(wanted, PROVIDERS)), protocols=(PROTOCOL,)))
    [found] = KademliaClient([only.address], 20).find_providers(CID)
    assert found.addresses == (wanted,)


def too_long(side, stream, _):
    side.send_data(stream, encode_varint(MAX_MESSAGE_BYTES + 1) + bytes(100))


def endless_length(side, stream, _):
    side.send_data(stream, b"\xff" * 20)


def half(side, stream, _):
    side.send_data(stream, encode_varint(100) + b"half", yamux.FIN)


def nothing(side, stream, _):
    side.send_frame(yamux.DATA, yamux.FIN, stream)


def resets(side, stream, _):
    side.send_frame(yamux.WINDOW_UPDATE, yamux.RST, stream)


def hangs_up(side, *_):
    side.sock.shutdown(socket.SHUT_RDWR)


HOSTILE = {
    "malformed": (serving(saying(b"\xff\xff\xff")), "its response is malformed"),
    "number for a peer": (serving(saying(protobuf_varint(CLOSER, 5))), "its response is malformed"),
    "too long": (serving(too_long), "more than 1,048,576"),
    "endless length": (serving(endless_length), "without a length"),
    "half": (serving(half), "ended a stream"),
    "nothing": (serving(nothing), "ended a stream"),
    "reset": (serving(resets), "reset"),
    "hung up": (serving(hangs_up), ""),
    "no DHT": (serving(nothing, protocols=("/other/1",)), LAN_PROTOCOL),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_peer_that_violates_the_protocol_is_named_and_others_are_used(peer, kind):
    script, words = HOSTILE[kind]
    hostile = peer(script)
    with pytest.raises(TransportError) as caught:
        KademliaClient([hostile.address], 20).find_providers(CID)
    assert str(hostile.address.peer_id) in str(caught.value)
    assert words in str(caught.value)
    wanted = holder()
    honest = peer(serving(saying(described(wanted, PROVIDERS))))
    [found] = KademliaClient([hostile.address, honest.address], 20).find_providers(CID)
    assert found.addresses == (wanted,)


def test_a_silent_peer_is_a_timeout_and_others_are_used(peer, monkeypatch):
    monkeypatch.setattr(module, "PEER_SECONDS", 0.3)
    released = threading.Event()
    silent = peer(serving(lambda *_: released.wait(30)))
    client = KademliaClient([silent.address], 20)
    started = time.monotonic()
    with pytest.raises(TransportError, match=str(silent.address.peer_id)):
        client.find_providers(CID)
    assert time.monotonic() - started < 15
    wanted = holder()
    honest = peer(serving(saying(described(wanted, PROVIDERS))))
    [found] = KademliaClient([silent.address, honest.address], 20).find_providers(CID)
    assert found.addresses == (wanted,)
    released.set()


def test_a_peer_with_another_id_at_the_address_is_refused(peer):
    impostor = peer(serving(saying(described(holder(), PROVIDERS))))
    claimed = PeerAddress("127.0.0.1", impostor.address.port, Identity.generate().peer_id)
    with pytest.raises(TransportError, match=str(claimed.peer_id)):
        KademliaClient([claimed], 20).find_providers(CID)


def test_unreachable_peers_do_not_prevent_a_lookup(peer):
    nobody = [PeerAddress("127.0.0.1", 9, Identity.generate().peer_id) for _ in range(40)]
    wanted = holder()
    knows = peer(serving(saying(described(wanted, PROVIDERS))))
    names = saying(*(described(one, CLOSER) for one in nobody), described(knows.address, CLOSER))
    first = peer(serving(names))
    # At most 40 peers of a response are used, and the first 40 of this one cannot be reached.
    assert KademliaClient([first.address], 20).find_providers(CID) == []
    [found] = KademliaClient([first.address, knows.address], 20).find_providers(CID)
    assert found.addresses == (wanted,)


def test_closing_ends_the_connections_of_a_lookup(peer, monkeypatch):
    monkeypatch.setattr(module, "PEER_SECONDS", 600.0)
    asked, ended = threading.Event(), threading.Event()

    def silent(side, *_):
        asked.set()
        side.wait_until_closed()
        ended.set()

    client = KademliaClient([peer(serving(silent)).address], 600)
    failures = []

    def look_up():
        try:
            client.find_providers(CID)
        except TransportError as error:
            failures.append(error)

    thread = threading.Thread(target=look_up)
    thread.start()
    assert asked.wait(20)
    client.close()
    assert ended.wait(20)
    thread.join(20)
    assert not thread.is_alive()
    assert failures


def test_a_failure_to_start_threads_is_a_typed_error(peer, monkeypatch):
    honest = peer(serving(saying(described(holder(), PROVIDERS))))
    client = KademliaClient([honest.address], 20)
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("dht "):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(TransportError, match="can't start new thread"):
            client.find_providers(CID)
    assert client.find_providers(CID)
