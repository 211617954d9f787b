"""Scripts of peers of the DHT for `ScriptedPeer`, with answers defined by a test."""

from __future__ import annotations

from ipfs_dataset_bitswap.kademlia.messages import LAN_PROTOCOL, PROTOCOL
from ipfs_dataset_bitswap.libp2p import multiaddr, yamux
from ipfs_dataset_bitswap.libp2p.messages import MessageAssembler, delimited

from ipfs_dataset_core.ipld import encode_varint, protobuf_bytes

# Fields of an answer: peers that are closer to the key, and peers that have the block.
CLOSER, PROVIDERS = 8, 9


def serving(answer, protocols=(LAN_PROTOCOL, PROTOCOL), requests=None):
    """Returns the script of a peer: `answer` is called with the side, the stream and each request."""

    def script(side):
        side.secure()
        while True:
            stream = side.accept_stream(*protocols)
            assembler = MessageAssembler(1000)
            messages: list[bytes] = []
            while not messages:
                kind, _, number, _, payload = side.read_frame()
                if kind == yamux.DATA and number == stream:
                    messages = assembler.feed(payload)
            if requests is not None:
                requests.append(messages[0])
            answer(side, stream, messages[0])

    return script


def saying(*fields):
    """Returns an answer with the given fields."""

    def answer(side, stream, _):
        side.send_data(stream, delimited(b"".join(fields)), yamux.FIN)

    return answer


def described(address, field):
    """Returns the field of a message with a peer and its address."""
    ip = bytes(map(int, address.host.split(".")))
    binary = (
        encode_varint(multiaddr.IP4)
        + ip
        + encode_varint(multiaddr.TCP)
        + address.port.to_bytes(2, "big")
    )
    peer = protobuf_bytes(1, address.peer_id.multihash) + protobuf_bytes(2, binary)
    return protobuf_bytes(field, peer)
