"""The transport: blocks from peers over Bitswap."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.addresses import BitswapAddress
from ipfs_dataset_bitswap.exchange import Exchange
from ipfs_dataset_bitswap.libp2p.connection import Dialling, dial
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.messages import MessageHandler
from ipfs_dataset_bitswap.messages import MAX_MESSAGE_BYTES, PROTOCOL
from ipfs_dataset_bitswap.peers import IDLE_SECONDS, Peer
from ipfs_dataset_core import Transport, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ipfs_dataset_bitswap.libp2p.address import PeerAddress
    from ipfs_dataset_bitswap.libp2p.connection import PeerConnection
    from ipfs_dataset_core import CID, Options

_SHOWN_PEERS = 3
_LEAST_MEMORY = 2 << 20


class BitswapTransport(Transport):
    """Blocks from one or several peers, verified by their hashes.

    Connections are made when blocks are requested, and closed when they are idle.

    Args:
        address: The peers; see `BitswapAddress.parse`.
        options: `timeout` and `memory` count here.
    """

    concurrency = 16
    batches = True
    verifies = True

    def __init__(self, address: str, options: Options) -> None:
        parsed = BitswapAddress.parse(address)
        peers = []
        self._dialling = Dialling()
        for addresses in parsed.peers.values():
            connect = _Dialler(
                addresses, options.timeout, self._dialling, public_only=parsed.public_only
            )
            name = f"peer {addresses[0]}"
            peers.append(Peer(name, connect, timeout=options.timeout, most=parsed.connections))
        shown = ", ".join(peer.name for peer in peers[:_SHOWN_PEERS])
        more = len(peers) - _SHOWN_PEERS
        self.name = f"{shown} and {more} more" if more > 0 else shown
        self._peers, self._options = parsed, options
        self._parts: list[BitswapTransport] = []
        # An eighth of the memory is for what is under way, as with other transports.
        self.exchange = Exchange(peers, options.timeout, max(_LEAST_MEMORY, options.memory // 8))

    def get_block(self, cid: CID) -> bytes:
        return self.exchange.get_block(cid)

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        return self.exchange.get_blocks(cids)

    def parts(self) -> Sequence[Transport]:
        if len(self._peers.peers) > 1 and not self._parts:
            self._parts = [
                BitswapTransport(str(one), self._options) for one in self._peers.each_peer()
            ]
        return self._parts

    def facts(self) -> Mapping[str, str]:
        """Returns the program and the protocols of the peer, and how long a round trip takes."""
        if len(self._peers.peers) > 1:
            return {}
        [addresses] = self._peers.peers.values()
        dialler = _Dialler(
            addresses, self._options.timeout, self._dialling, public_only=self._peers.public_only
        )
        with closing(dialler(_drop)) as connection:
            info = connection.info()
            return {
                "program": info.agent or "not told",
                "protocols": ", ".join(sorted(info.protocols)) or "not told",
                "round trip": f"{connection.round_trip() * 1000:.1f} ms",
            }

    def close(self) -> None:
        self.exchange.close()
        self._dialling.close()
        for part in self._parts:
            part.close()


class _Dialler:
    """Connects to one peer at the first of its addresses that works.

    Args:
        addresses: At least one.
        timeout: Seconds for each.
        dialling: Ends what is under way.
        public_only: Whether private addresses are refused.
    """

    def __init__(
        self,
        addresses: Sequence[PeerAddress],
        timeout: float,
        dialling: Dialling,
        *,
        public_only: bool,
    ) -> None:
        self._addresses = addresses
        self._timeout = timeout
        self._dialling = dialling
        self._public_only = public_only

    def __call__(self, receive: Callable[[bytes], None]) -> PeerConnection:
        for address in self._addresses[:-1]:
            try:
                return self._dial(address, receive)
            except TransportError:
                continue
        return self._dial(self._addresses[-1], receive)

    def _dial(self, address: PeerAddress, receive: Callable[[bytes], None]) -> PeerConnection:
        return dial(
            address,
            identity=Identity.generate(),
            timeout=self._timeout,
            inbound={PROTOCOL: MessageHandler(receive, MAX_MESSAGE_BYTES)},
            idle_timeout=IDLE_SECONDS,
            public_only=self._public_only,
            dialling=self._dialling,
        )


def _drop(message: bytes) -> None:
    """Takes a message that nobody waits for."""
