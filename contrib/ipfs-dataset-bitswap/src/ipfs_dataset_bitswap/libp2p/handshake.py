"""The handshake, which turns a connected TCP socket into an encrypted channel to a verified peer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.libp2p import yamux
from ipfs_dataset_bitswap.libp2p.errors import (
    PeerClosedError,
    PeerIdentityError,
    PeerProtocolError,
    ProtocolNotSupportedError,
)
from ipfs_dataset_bitswap.libp2p.multistream import Proposal
from ipfs_dataset_bitswap.libp2p.noise import Payload, XXHandshake
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId
from ipfs_dataset_bitswap.libp2p.secure_channel import SecureChannel
from ipfs_dataset_core import FormatError, TransportTimeoutError, VerificationError

if TYPE_CHECKING:
    import socket

    from ipfs_dataset_bitswap.libp2p.identity import Identity
    from ipfs_dataset_core import TransportError

NOISE = "/noise"
_PIECE = 16 << 10
_PREFIX = 2
# Maximum size of a handshake message; real ones have about 600 bytes, with RSA keys about 1,200.
MAX_HANDSHAKE_MESSAGE = 16 << 10


class _Wire:
    """A socket during the handshake, with one deadline for everything."""

    def __init__(self, sock: socket.socket, peer: str, end: float) -> None:
        self._sock = sock
        self._peer = peer
        self._end = end
        self.received = bytearray()

    def _set_timeout(self, doing: str) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._failure(TimeoutError(), doing)
        self._sock.settimeout(left)

    def send(self, data: bytes, doing: str) -> None:
        self._set_timeout(doing)
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise self._failure(error, doing) from None

    def receive(self, doing: str) -> None:
        """Appends the next data that arrives to `received`."""
        self._set_timeout(doing)
        try:
            data = self._sock.recv(_PIECE)
        except OSError as error:
            raise self._failure(error, doing) from None
        if not data:
            raise PeerClosedError(f"peer {self._peer} closed the connection during {doing}")
        self.received += data

    def _failure(self, error: OSError, doing: str) -> TransportError:
        if isinstance(error, TimeoutError):
            return TransportTimeoutError(f"peer {self._peer} did not finish {doing} in time")
        return PeerClosedError(
            f"the connection to peer {self._peer} broke during {doing}: {error.strerror or error}"
        )

    def message(self) -> bytes:
        """Returns the next message of the Noise handshake."""
        while len(self.received) < _PREFIX:
            self.receive("the Noise handshake")
        size = int.from_bytes(self.received[:_PREFIX], "big")
        if size > MAX_HANDSHAKE_MESSAGE:
            raise FormatError(f"a message of its handshake has {size} bytes")
        while len(self.received) < _PREFIX + size:
            self.receive("the Noise handshake")
        message = bytes(self.received[_PREFIX : _PREFIX + size])
        del self.received[: _PREFIX + size]
        return message


def secure(
    sock: socket.socket, peer_id: PeerId, identity: Identity, *, peer: str, end: float
) -> tuple[SecureChannel, bool]:
    """Runs the handshake as the dialling side.

    The first Noise message is sent together with the proposal of Noise, which saves a round trip: a peer
    without Noise could not be used anyway.

    Args:
        sock: The connected socket.
        peer_id: The peer ID that the peer must prove.
        identity: The identity of this process.
        peer: The name of the peer in messages.
        end: The deadline on the monotonic clock.

    Returns:
        The channel, and whether yamux was already agreed on in the handshake.

    Raises:
        PeerIdentityError: It is another peer, or does not prove its identity.
        PeerProtocolError: The peer violated a protocol.
        TransportTimeoutError: It took too long.
    """
    wire = _Wire(sock, peer, end)
    try:
        return _secure(wire, sock, peer_id, identity, peer)
    except FormatError as error:
        raise PeerProtocolError(
            f"peer {peer} broke the protocol of the handshake: {error}"
        ) from None
    except VerificationError as error:
        raise PeerIdentityError(f"peer {peer} failed the handshake: {error}") from None


def _secure(
    wire: _Wire, sock: socket.socket, peer_id: PeerId, identity: Identity, peer: str
) -> tuple[SecureChannel, bool]:
    handshake = XXHandshake(initiator=True)
    proposal = Proposal([NOISE])
    wire.send(proposal.start() + _prefixed(handshake.write()), "the negotiation of Noise")
    while proposal.chosen is None:
        if proposal.refused:
            raise ProtocolNotSupportedError(f"peer {peer} does not support Noise")
        wire.receive("the negotiation of Noise")
        proposal.receive(wire.received)
    payload = Payload.from_bytes(handshake.read(wire.message()))
    payload.verify(handshake.remote_static)
    proven = PeerId.from_public_key(payload.key)
    if proven != peer_id:
        raise PeerIdentityError(f"{peer} was dialled, but the peer there is {proven}")
    muxers = (yamux.PROTOCOL,)
    mine = Payload.sign(identity, handshake.static_key, muxers).to_bytes()
    wire.send(_prefixed(handshake.write(mine)), "the Noise handshake")
    channel = SecureChannel(sock, peer, handshake.split(), bytes(wire.received))
    return channel, yamux.PROTOCOL in payload.muxers


def _prefixed(message: bytes) -> bytes:
    return len(message).to_bytes(_PREFIX, "big") + message


def agree_on_yamux(channel: SecureChannel, peer: str, end: float) -> bytes:
    """Negotiates the multiplexer with a peer that did not do so in the handshake.

    Returns:
        The data that the peer sent after its response.

    Raises:
        ProtocolNotSupportedError: The peer does not support yamux.
        PeerProtocolError: The peer violated the protocol.
        TransportTimeoutError: It took too long.
    """
    proposal = Proposal([yamux.PROTOCOL])
    channel.send(proposal.start(), end)
    received = bytearray()
    while proposal.chosen is None:
        left = end - time.monotonic()
        if left <= 0:
            raise TransportTimeoutError(f"peer {peer} did not agree on a multiplexer in time")
        for plain in channel.receive(left):
            received += plain
        try:
            proposal.receive(received)
        except FormatError as error:
            raise PeerProtocolError(f"peer {peer} broke multistream-select: {error}") from None
        if proposal.refused:
            raise ProtocolNotSupportedError(f"peer {peer} does not support yamux")
    return bytes(received)
