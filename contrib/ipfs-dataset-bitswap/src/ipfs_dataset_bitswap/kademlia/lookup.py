"""The order in which peers are queried: those closest to a key first. No I/O happens here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.kademlia.messages import CLOSEST, kad_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_bitswap.kademlia.messages import FoundPeer
    from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

# Maximum number of peers that are queried in one lookup, and that are remembered for it.
MAX_ASKED, _MAX_KNOWN = 200, 2000


class Lookup:
    """One iterative lookup. Not thread-safe.

    Peers respond with further peers, the closest of which are queried next. The lookup has ended when the
    closest responding peers have all been queried, or too many have been.

    Args:
        key: The key to look up.
        seeds: Peers to begin with.
    """

    def __init__(self, key: bytes, seeds: Iterable[FoundPeer]) -> None:
        self._place = kad_key(key)
        # Peers keyed by their distance, which is unique.
        self._known: dict[int, FoundPeer] = {}
        self._waiting: set[int] = set()
        self._underway: set[int] = set()
        self._answered: set[int] = set()
        self._asked = 0
        self.add(seeds)

    @property
    def asked(self) -> int:
        """Number of peers that were queried."""
        return self._asked

    @property
    def answered(self) -> int:
        """Number of peers that responded."""
        return len(self._answered)

    def add(self, peers: Iterable[FoundPeer]) -> None:
        """Adds peers; those that cannot be reached are ignored."""
        for peer in peers:
            distance = self._distance(peer.peer_id)
            if peer.addresses and distance not in self._known and len(self._known) < _MAX_KNOWN:
                self._known[distance] = peer
                self._waiting.add(distance)

    def next(self) -> FoundPeer | None:
        """Returns the next peer to query; None if there is none until another one responds or fails."""
        distance = self._peek()
        if distance is None:
            return None
        self._waiting.discard(distance)
        self._underway.add(distance)
        self._asked += 1
        return self._known[distance]

    def heard(self, peer: FoundPeer, closer: Iterable[FoundPeer]) -> None:
        """Records the response of a peer."""
        distance = self._distance(peer.peer_id)
        self._underway.discard(distance)
        self._answered.add(distance)
        self.add(closer)

    def failed(self, peer: FoundPeer) -> None:
        """Records that a peer did not respond."""
        self._underway.discard(self._distance(peer.peer_id))

    def is_done(self) -> bool:
        """Returns whether no peer is left to query, and no response is outstanding."""
        return not self._underway and self._peek() is None

    def closest(self) -> list[FoundPeer]:
        """Returns the peers that responded, closest first."""
        return [self._known[distance] for distance in sorted(self._answered)[:CLOSEST]]

    def _peek(self) -> int | None:
        """Returns the distance of the next peer to query; failed peers are replaced by farther ones."""
        if self._asked >= MAX_ASKED or not self._waiting:
            return None
        distance = min(self._waiting)
        closer = sum(known < distance for known in self._answered | self._underway)
        return None if closer >= CLOSEST else distance

    def _distance(self, peer_id: PeerId) -> int:
        return kad_key(peer_id.multihash) ^ self._place
