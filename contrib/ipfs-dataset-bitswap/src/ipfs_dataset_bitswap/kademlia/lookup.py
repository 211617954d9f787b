"""The order in which peers are asked: those first that are closest to a key. Nothing here reads a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.kademlia.messages import CLOSEST, kad_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_bitswap.kademlia.messages import FoundPeer
    from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

# Peers that are asked in one lookup, and peers that are remembered for it, at the most.
MAX_ASKED, _MAX_KNOWN = 200, 2000


class Lookup:
    """One iterative lookup. Not thread-safe.

    Peers that answer name others, of which the closest are asked next. It has ended when the closest peers
    that answer have all been asked, or too many were.

    Args:
        key: What is looked up.
        seeds: Peers to begin with.
    """

    def __init__(self, key: bytes, seeds: Iterable[FoundPeer]) -> None:
        self._place = kad_key(key)
        # Peers by their distance, which is different for each.
        self._known: dict[int, FoundPeer] = {}
        self._waiting: set[int] = set()
        self._underway: set[int] = set()
        self._answered: set[int] = set()
        self._asked = 0
        self.add(seeds)

    @property
    def asked(self) -> int:
        """Number of peers that were asked."""
        return self._asked

    @property
    def answered(self) -> int:
        """Number of peers that answered."""
        return len(self._answered)

    def add(self, peers: Iterable[FoundPeer]) -> None:
        """Adds peers that are known now; those that cannot be reached do not count."""
        for peer in peers:
            distance = self._distance(peer.peer_id)
            if peer.addresses and distance not in self._known and len(self._known) < _MAX_KNOWN:
                self._known[distance] = peer
                self._waiting.add(distance)

    def next(self) -> FoundPeer | None:
        """Returns the peer to ask now; None where there is none, until another one answers or fails."""
        distance = self._peek()
        if distance is None:
            return None
        self._waiting.discard(distance)
        self._underway.add(distance)
        self._asked += 1
        return self._known[distance]

    def heard(self, peer: FoundPeer, closer: Iterable[FoundPeer]) -> None:
        """Notes the answer of a peer."""
        distance = self._distance(peer.peer_id)
        self._underway.discard(distance)
        self._answered.add(distance)
        self.add(closer)

    def failed(self, peer: FoundPeer) -> None:
        """Notes that a peer did not answer."""
        self._underway.discard(self._distance(peer.peer_id))

    def is_done(self) -> bool:
        """Returns whether nobody is to be asked, and no answer is waited for."""
        return not self._underway and self._peek() is None

    def closest(self) -> list[FoundPeer]:
        """Returns the closest peers that answered, the closest first."""
        return [self._known[distance] for distance in sorted(self._answered)[:CLOSEST]]

    def _peek(self) -> int | None:
        """Returns the distance of the peer to ask next; those that failed give way to farther ones."""
        if self._asked >= MAX_ASKED or not self._waiting:
            return None
        distance = min(self._waiting)
        closer = sum(known < distance for known in self._answered | self._underway)
        return None if closer >= CLOSEST else distance

    def _distance(self, peer_id: PeerId) -> int:
        return kad_key(peer_id.multihash) ^ self._place
