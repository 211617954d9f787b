"""The libp2p stack against a real Kubo, over TCP on loopback."""

from __future__ import annotations

import queue

import pytest
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.connection import dial
from ipfs_dataset_bitswap.libp2p.errors import (
    PeerClosedError,
    PeerIdentityError,
    ProtocolNotSupportedError,
)
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.messages import MessageHandler

from ipfs_dataset_core.ipld import RAW, make_cid, protobuf_bytes, protobuf_fields, protobuf_varint
from tests.conftest import skip_without
from tests.support.kubo import KuboPeer

pytestmark = [pytest.mark.kubo, pytest.mark.slow]

BITSWAP = "/ipfs/bitswap/1.2.0"
PING = "/ipfs/ping/1.0.0"


@pytest.fixture
def connect(kubo_peer):
    made = []

    def connect(**options):
        address = PeerAddress.parse(kubo_peer.peer_address)
        made.append(dial(address, identity=Identity.generate(), timeout=20, **options))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def want(data, *, have=False):
    entry = protobuf_bytes(1, make_cid(data, RAW).to_bytes()) + protobuf_varint(2, 1)
    entry += protobuf_varint(4, int(have)) + protobuf_varint(5, 1)
    return protobuf_bytes(1, protobuf_bytes(1, entry))


def blocks_of(message):
    """Returns the data of the blocks in a Bitswap message."""
    for number, _, value in protobuf_fields(memoryview(message)):
        if number == 3:
            parts = {field: bytes(data) for field, _, data in protobuf_fields(value)}
            yield parts[2]


def test_the_peer_is_identified_with_its_protocols(connect):
    connection = connect()
    assert connection.agent.startswith("kubo/")
    assert {BITSWAP, PING, "/ipfs/id/1.0.0"} <= connection.protocols


def test_streams_carry_data_both_ways(connect):
    with connect().open_stream([PING], timeout=20) as stream:
        for number in range(3):
            stream.write(bytes([number]) * 32)
            assert stream.read_exact(32) == bytes([number]) * 32


def test_the_first_supported_protocol_is_agreed_on(connect):
    connection = connect()
    assert connection.open_stream(["/x/1", "/x/2", PING], timeout=20).protocol == PING
    with pytest.raises(ProtocolNotSupportedError, match=str(connection.peer_id)):
        connection.open_stream(["/x/1", "/x/2"], timeout=20)
    assert connection.is_open


def read_messages(received):
    def handle(stream):
        for message in stream.read_messages(4 << 20):
            received.put(message)

    return handle


@pytest.mark.parametrize("whole", [True, False], ids=["messages", "streams"])
def test_the_peer_sends_blocks_on_streams_that_it_opens(connect, kubo_peer, tmp_path, whole):
    small, large = b"small", bytes(range(256)) * 4096
    for data in (small, large):
        kubo_peer.cli("block", "put", "--cid-codec=raw", "--allow-big-block", input=data)
    received = queue.Queue()
    handler = MessageHandler(received.put, 4 << 20) if whole else read_messages(received)
    stream = connect(inbound={BITSWAP: handler}).open_stream([BITSWAP], timeout=20)
    for data in (small, large):
        stream.write_message(want(data))
        assert [*blocks_of(received.get(timeout=20))] == [data]


def test_another_peer_id_is_refused(kubo_peer):
    address = PeerAddress.parse(kubo_peer.peer_address)
    wrong = PeerAddress(address.host, address.port, Identity.generate().peer_id)
    with pytest.raises(
        PeerIdentityError, match=f"{wrong.peer_id}.* was dialled.*{address.peer_id}"
    ):
        dial(wrong, identity=Identity.generate(), timeout=20)


def test_a_closed_connection_fails_at_once(connect):
    connection = connect()
    stream = connection.open_stream([PING], timeout=20)
    connection.close()
    assert not connection.is_open
    with pytest.raises(PeerClosedError, match="closed here"):
        stream.read_exact(1)
    with pytest.raises(PeerClosedError, match="closed here"):
        connection.open_stream([PING], timeout=20)


class WithKey(KuboPeer):
    """A Kubo node with an RSA key."""

    def init_arguments(self):
        return ["init", "--profile=test", "--algorithm=rsa", "--bits=2048"]


def test_a_peer_with_an_rsa_key_is_authenticated(tmp_path):
    skip_without("kubo")
    with WithKey(tmp_path / "repo") as node:
        address = PeerAddress.parse(node.peer_address)
        assert str(address.peer_id).startswith("Qm")
        connection = dial(address, identity=Identity.generate(), timeout=20)
        assert connection.agent.startswith("kubo/")
        assert 0 < connection.round_trip() < 20
        connection.close()
