"""Peers of the DHT that break its rules, on real sockets: errors name them, and others are asked."""

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
from ipfs_dataset_bitswap.libp2p import multiaddr, yamux
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.messages import MessageAssembler, delimited

from ipfs_dataset_core import TransportError
from ipfs_dataset_core.ipld import RAW, encode_varint, make_cid, protobuf_bytes, protobuf_varint
from tests.support.libp2p_peer import ScriptedPeer

CID = make_cid(b"a block", RAW)


def serving(answer, protocols=(LAN_PROTOCOL, PROTOCOL), requests=None):
    """Returns the script of a peer: `answer` is called with the side, the stream and each request."""

    def script(side):
        side.secure()
        while True:
            stream = side.accept_stream(*protocols)
            assembler, messages = MessageAssembler(1000), []
            while not messages:
                kind, _, number, _, payload = side.read_frame()
                if kind == yamux.DATA and number == stream:
                    messages = assembler.feed(payload)
            if requests is not None:
                requests.append(messages[0])
            answer(side, stream, messages[0])

    return script


def saying(*fields):
    """Returns an answer of fields of a message."""

    def answer(side, stream, _):
        side.send_data(stream, delimited(b"".join(fields)), yamux.FIN)

    return answer


def described(address, field):
    """Returns the field of a message that has a peer with its address."""
    ip = bytes(map(int, address.host.split(".")))
    binary = (
        encode_varint(multiaddr.IP4)
        + ip
        + encode_varint(multiaddr.TCP)
        + address.port.to_bytes(2, "big")
    )
    peer = protobuf_bytes(1, address.peer_id.multihash) + protobuf_bytes(2, binary)
    return protobuf_bytes(field, peer)


CLOSER, PROVIDERS = 8, 9


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


def test_the_request_is_that_of_the_protocol_and_each_answer_leads_on(peer):
    asked, wanted = [], holder()
    knows = peer(serving(saying(described(wanted, PROVIDERS)), requests=asked))
    first = peer(serving(saying(described(knows.address, CLOSER)), requests=asked))
    [found] = KademliaClient([first.address], 20).find_providers(CID)
    assert found.addresses == (wanted,)
    assert asked == [encode_request(GET_PROVIDERS, CID.multihash)] * 2


def test_a_peer_that_serves_the_public_protocol_only_is_asked_by_that(peer):
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
    "malformed": (serving(saying(b"\xff\xff\xff")), "its answer is malformed"),
    "number for a peer": (serving(saying(protobuf_varint(CLOSER, 5))), "its answer is malformed"),
    "too long": (serving(too_long), "more than 1,048,576"),
    "endless length": (serving(endless_length), "without a length"),
    "half": (serving(half), "ended a stream"),
    "nothing": (serving(nothing), "ended a stream"),
    "reset": (serving(resets), "reset"),
    "hung up": (serving(hangs_up), ""),
    "no DHT": (serving(nothing, protocols=("/other/1",)), LAN_PROTOCOL),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_peer_that_breaks_the_rules_is_named_and_others_are_asked(peer, kind):
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


def test_a_peer_that_says_nothing_costs_its_time_and_no_more(peer, monkeypatch):
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


def test_another_peer_at_the_address_is_not_believed(peer):
    impostor = peer(serving(saying(described(holder(), PROVIDERS))))
    claimed = PeerAddress("127.0.0.1", impostor.address.port, Identity.generate().peer_id)
    with pytest.raises(TransportError, match=str(claimed.peer_id)):
        KademliaClient([claimed], 20).find_providers(CID)


def test_peers_that_are_not_there_are_not_waited_for(peer):
    nobody = [PeerAddress("127.0.0.1", 9, Identity.generate().peer_id) for _ in range(40)]
    wanted = holder()
    knows = peer(serving(saying(described(wanted, PROVIDERS))))
    names = saying(*(described(one, CLOSER) for one in nobody), described(knows.address, CLOSER))
    first = peer(serving(names))
    # The 40 that are not there are all that counts of this answer, so it leads nowhere.
    assert KademliaClient([first.address], 20).find_providers(CID) == []
    [found] = KademliaClient([first.address, knows.address], 20).find_providers(CID)
    assert found.addresses == (wanted,)
