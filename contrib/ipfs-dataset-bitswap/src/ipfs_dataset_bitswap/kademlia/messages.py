"""Messages of ``/ipfs/kad/1.0.0``: requests and responses. No I/O happens here.

See https://github.com/libp2p/specs/tree/master/kad-dht. Responses are bounded: if there are more peers or
addresses than a peer has reason to send, only the first ones are used.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_bitswap.libp2p import multiaddr
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId
from ipfs_dataset_core import FormatError
from ipfs_dataset_core.ipld import protobuf_bytes, protobuf_fields, protobuf_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_bitswap.libp2p.address import PeerAddress

PROTOCOL = "/ipfs/kad/1.0.0"
# The protocol of nodes in a private network, which serve it besides the public one.
LAN_PROTOCOL = "/ipfs/lan/kad/1.0.0"
GET_VALUE, GET_PROVIDERS, FIND_NODE = 1, 3, 4
# Number of peers closest to a key, which store its value.
CLOSEST = 20
MAX_MESSAGE_BYTES = 1 << 20
_MAX_CLOSER, _MAX_PROVIDERS, _MAX_ADDRESSES = 2 * CLOSEST, 100, 32
_MAX_KEY_BYTES = 128
_TYPE, _KEY, _RECORD, _CLOSER, _PROVIDERS = 1, 2, 3, 8, 9
_ID, _ADDRESSES = 1, 2
_RECORD_KEY, _RECORD_VALUE = 1, 2


@attrs.frozen
class FoundPeer:
    """A peer as described by another one, without proof.

    Attributes:
        peer_id: The peer ID.
        addresses: Addresses at which it can be reached over TCP.
        skipped: Reasons why addresses cannot be used: ``"QUIC"``, ``"relay"``, ``"WebSocket"`` or
            ``"other"``.
    """

    peer_id: PeerId
    addresses: tuple[PeerAddress, ...] = ()
    skipped: frozenset[str] = frozenset()


@attrs.frozen
class Response:
    """The response of a peer.

    Attributes:
        closer: Peers that are closer to the key.
        providers: Peers that are said to have the block.
        record: The value stored under the key; None if the peer has none.
    """

    closer: tuple[FoundPeer, ...] = ()
    providers: tuple[FoundPeer, ...] = ()
    record: bytes | None = None


def kad_key(key: bytes) -> int:
    """Returns the position of a key, or of a peer's multihash; the XOR of two positions is their distance."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


def encode_request(kind: int, key: bytes) -> bytes:
    """Encodes a request.

    Args:
        kind: `GET_VALUE`, `GET_PROVIDERS` or `FIND_NODE`.
        key: The multihash of a block, the ID of a peer, or ``/ipns/`` and the multihash of a name's key.
    """
    return protobuf_varint(_TYPE, kind) + protobuf_bytes(_KEY, key)


def decode_response(message: bytes, key: bytes) -> Response:
    """Decodes the response to a request for a key.

    Raises:
        FormatError: The message is malformed. Malformed addresses and peer IDs in it are skipped instead.
    """
    closer: list[FoundPeer] = []
    providers: list[FoundPeer] = []
    record: bytes | None = None
    for number, value in _messages(message, (_RECORD, _CLOSER, _PROVIDERS)):
        if number == _RECORD:
            record = _record(value, key)
        else:
            found, most = (
                (closer, _MAX_CLOSER) if number == _CLOSER else (providers, _MAX_PROVIDERS)
            )
            if len(found) < most and (peer := _peer(value)) is not None:
                found.append(peer)
    return Response(tuple(closer), tuple(providers), record)


def _messages(
    message: bytes | memoryview, wanted: tuple[int, ...]
) -> Iterator[tuple[int, memoryview]]:
    """Yields the fields with certain numbers, which must be bytes, in order.

    They are not collected, because a message can have half a million fields of two bytes.
    """
    for number, _, value in protobuf_fields(memoryview(message)):
        if number in wanted:
            if isinstance(value, int):
                raise FormatError(f"field {number} is a number instead of bytes")
            yield number, value


def _record(message: memoryview, key: bytes) -> bytes | None:
    """Returns the value of a record; None if it has none or belongs to another key."""
    fields = dict(_messages(message, (_RECORD_KEY, _RECORD_VALUE)))
    value = fields.get(_RECORD_VALUE)
    return None if value is None or fields.get(_RECORD_KEY, key) != key else bytes(value)


def _peer(message: memoryview) -> FoundPeer | None:
    multihash = b""
    listed: list[memoryview] = []
    for number, value in _messages(message, (_ID, _ADDRESSES)):
        if number == _ID:
            multihash = bytes(value[: _MAX_KEY_BYTES + 1])
        elif len(listed) < _MAX_ADDRESSES:
            listed.append(value)
    if not 0 < len(multihash) <= _MAX_KEY_BYTES:
        return None
    try:
        peer_id = PeerId.from_bytes(multihash)
    except FormatError:
        return None
    addresses: dict[PeerAddress, None] = {}
    skipped: set[str] = set()
    for data in listed:
        try:
            parts = multiaddr.split(bytes(data[: multiaddr.MAX_BYTES + 1]))
        except FormatError:
            skipped.add("other")
            continue
        address = multiaddr.tcp_address(parts, peer_id)
        if address is None:
            skipped.add(_reason({code for code, _ in parts}))
        else:
            addresses[address] = None
    return FoundPeer(peer_id, tuple(addresses), frozenset(skipped))


def _reason(codes: set[int]) -> str:
    if multiaddr.RELAY in codes:
        return "relay"
    if codes & set(multiaddr.WEBSOCKETS):
        return "WebSocket"
    return "QUIC" if codes & set(multiaddr.UDP_ONLY) else "other"
