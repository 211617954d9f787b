"""Asks peers of the DHT who has a block, where a peer is, what a name points to. Nothing is stored there."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_bitswap.kademlia.lookup import Lookup
from ipfs_dataset_bitswap.kademlia.messages import (
    FIND_NODE,
    GET_PROVIDERS,
    GET_VALUE,
    LAN_PROTOCOL,
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    FoundPeer,
    decode_response,
    encode_request,
)
from ipfs_dataset_bitswap.libp2p.connection import Dialling, dial
from ipfs_dataset_bitswap.libp2p.errors import PeerProtocolError
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.inbound import start_thread
from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetError,
    TransportError,
    is_private_host,
    time_left,
)
from ipfs_dataset_core.ipld import verify_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_bitswap.kademlia.messages import Response
    from ipfs_dataset_bitswap.libp2p.address import PeerAddress
    from ipfs_dataset_bitswap.libp2p.connection import PeerConnection
    from ipfs_dataset_bitswap.libp2p.peer_id import PeerId
    from ipfs_dataset_core import CID

log = logging.getLogger(__name__)

# Peers that are asked at once.
ALPHA = 10
# Seconds for one peer: to connect, and to answer.
PEER_SECONDS = 5.0
# Addresses of one peer that are tried.
_MAX_DIALLED = 4
# Providers of one block that are looked for, and for how long after the first one that can be reached.
ENOUGH_PROVIDERS = 20
GRACE_SECONDS = 1.0
# Valid records of a name that are enough: the newest of them counts.
_ENOUGH_RECORDS = 8
# Peers that answered lately, with which the next lookup begins beside the bootstrap peers.
_REMEMBERED = 200
# Providers that are named without an address, and looked up.
_MAX_LOOKED_UP = 8
# Seconds from one look at the time to the next.
_TICK = 0.1


class KademliaClient:
    """A client of the DHT, which is no part of it: others never ask it anything. Thread-safe.

    A peer that is reached at a private address may name others at such addresses, since they are in one
    network. All others may not: they must not direct connections into the network of the reader.

    Args:
        bootstrap: Peers to begin with.
        timeout: Seconds for one lookup.
    """

    def __init__(self, bootstrap: Sequence[PeerAddress], timeout: float) -> None:
        by_peer: dict[PeerId, list[PeerAddress]] = {}
        for address in bootstrap:
            by_peer.setdefault(address.peer_id, []).append(address)
        self._named = frozenset(
            bootstrap
        )  # may be anywhere, also where their names lead to private addresses
        self._bootstrap = [FoundPeer(peer, tuple(found)) for peer, found in by_peer.items()]
        self._timeout = timeout
        self._identity = Identity.generate()
        self._known: dict[PeerId, FoundPeer] = {}
        self._connections: set[PeerConnection] = set()
        self._dialling = Dialling()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def find_providers(self, cid: CID) -> list[FoundPeer]:
        """Returns peers that are said to have a block; those without an address cannot be reached.

        Ends soon after the first provider that can be reached, since a provider of one block usually has all.

        Raises:
            TransportError: No peer of the DHT answered.
        """
        wanted = _Providers()
        end = self._end()
        self._look_up(GET_PROVIDERS, cid.multihash, wanted, end)
        found = wanted.found
        if not wanted.can_be_reached():
            for peer_id in list(found)[:_MAX_LOOKED_UP]:
                peer = self._find_peer(peer_id, end)
                if peer is not None:
                    found[peer_id] = peer
                    break
        return list(found.values())

    def find_peer(self, peer_id: PeerId) -> FoundPeer | None:
        """Returns where a peer is, None where nobody knows."""
        return self._find_peer(peer_id, self._end())

    def _find_peer(self, peer_id: PeerId, end: float) -> FoundPeer | None:
        wanted = _OnePeer(peer_id)
        try:
            self._look_up(FIND_NODE, peer_id.multihash, wanted, end)
        except TransportError as error:
            log.debug("Peer %s is not found: %s", peer_id, error)
        return wanted.found

    def find_record(self, name: CID) -> bytes | None:
        """Returns the newest valid record of an IPNS name, None where nobody has one.

        Raises:
            TransportError: No peer of the DHT answered.
        """
        wanted = _Records(name)
        self._look_up(GET_VALUE, b"/ipns/" + name.multihash, wanted, self._end())
        return wanted.best

    @property
    def is_closed(self) -> bool:
        """Whether lookups end as soon as possible."""
        return self._closed.is_set()

    def close(self) -> None:
        """Ends lookups that are under way, and their connections."""
        self._closed.set()
        with self._lock:
            connections = list(self._connections)
        self._dialling.close()
        for connection in connections:
            connection.close()

    def _end(self) -> float:
        """Returns until when to look for something, on the monotonic clock."""
        return time.monotonic() + min(self._timeout, time_left())

    def _look_up(self, kind: int, key: bytes, wanted: _Wanted, end: float) -> None:
        """Asks peers closer and closer to a key.

        Raises:
            TransportError: No peer answered.
        """
        with self._lock:
            seeds = [*self._bootstrap, *self._known.values()]
        search = _Search(self, kind, key, Lookup(key, seeds), wanted)
        search.run(end)
        with self._lock:
            for peer in search.lookup.closest():
                self._known.pop(peer.peer_id, None)
                self._known[peer.peer_id] = peer
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        if not search.lookup.answered:
            reasons = "; ".join(dict.fromkeys(search.reasons)) or "there was no time"
            raise TransportError(
                f"DHT: none of {search.lookup.asked} peers answered: {reasons}", retryable=True
            )

    def request(self, peer: FoundPeer, kind: int, key: bytes, end: float) -> tuple[Response, bool]:
        """Returns what a peer answers, and whether it was reached at a private address.

        Raises:
            TransportError: It cannot be reached, or does not answer properly.
        """
        reason: TransportError | None = None
        for address in peer.addresses[:_MAX_DIALLED]:
            seconds = min(PEER_SECONDS, end - time.monotonic())
            if seconds <= 0 or self._closed.is_set():
                break
            private = is_private_host(address.host)
            try:
                connection = dial(
                    address,
                    identity=self._identity,
                    timeout=seconds,
                    public_only=not private and address not in self._named,
                    dialling=self._dialling,
                )
            except TransportError as error:
                reason = error
                continue
            with self._lock:
                self._connections.add(connection)
            try:
                if self._closed.is_set():
                    break
                protocols = [LAN_PROTOCOL, PROTOCOL] if private else [PROTOCOL]
                with connection.open_stream(protocols, timeout=seconds) as stream:
                    stream.write_message(encode_request(kind, key))
                    message = stream.read_message(MAX_MESSAGE_BYTES)
                try:
                    return decode_response(message, key), private
                except FormatError as error:
                    raise PeerProtocolError(
                        f"peer {address}: its answer is malformed: {error}"
                    ) from None
            finally:
                with self._lock:
                    self._connections.discard(connection)
                connection.close()
        raise reason or TransportError(f"DHT: there was no time to ask peer {peer.peer_id}")


class _Wanted(Protocol):
    """What a lookup looks for."""

    def add(self, response: Response, *, private: bool) -> bool:
        """Takes what a peer answered; returns whether something was found, so that little more is waited for.

        Args:
            response: The answer.
            private: Whether that peer may name private addresses.
        """

    def is_enough(self) -> bool:
        """Returns whether to end at once."""


class _Providers:
    """Peers that have a block."""

    def __init__(self) -> None:
        self.found: dict[PeerId, FoundPeer] = {}

    def add(self, response: Response, *, private: bool) -> bool:
        for peer in response.providers:
            known = self.found.get(peer.peer_id)
            if known is None or not known.addresses:
                self.found[peer.peer_id] = _allowed(peer, private=private)
        return self.can_be_reached() > 0

    def can_be_reached(self) -> int:
        return sum(bool(peer.addresses) for peer in self.found.values())

    def is_enough(self) -> bool:
        return self.can_be_reached() >= ENOUGH_PROVIDERS


class _OnePeer:
    """Where one peer is."""

    def __init__(self, peer_id: PeerId) -> None:
        self._peer_id = peer_id
        self.found: FoundPeer | None = None

    def add(self, response: Response, *, private: bool) -> bool:
        for peer in response.closer:
            if peer.peer_id == self._peer_id:
                allowed = _allowed(peer, private=private)
                if allowed.addresses and self.found is None:
                    self.found = allowed
        return self.found is not None

    def is_enough(self) -> bool:
        return self.found is not None


class _Records:
    """Records of a name, of which the newest counts."""

    def __init__(self, name: CID) -> None:
        self._name = name
        self._age: tuple[int, float] = (-1, 0.0)
        self._count = 0
        self.best: bytes | None = None

    def add(self, response: Response, *, private: bool) -> bool:
        if response.record is not None:
            try:
                record = verify_record(response.record, self._name)
            except IPFSDatasetError as error:
                log.debug("A record of %s in the DHT is left out: %s", self._name, error)
            else:
                self._count += 1
                age = record.sequence, record.expires.timestamp()
                if age > self._age:
                    self._age, self.best = age, response.record
        return False

    def is_enough(self) -> bool:
        return self._count >= _ENOUGH_RECORDS


class _Search:
    """One lookup and its threads."""

    def __init__(
        self, client: KademliaClient, kind: int, key: bytes, lookup: Lookup, wanted: _Wanted
    ) -> None:
        self.lookup = lookup
        self.reasons: list[str] = []
        self._client = client
        self._kind, self._key = kind, key
        self._wanted = wanted
        self._changed = threading.Condition()
        self._threads = 0
        self._end = 0.0
        self._stopped = False

    def run(self, end: float) -> None:
        """Returns when the lookup has ended; requests that are under way then are not waited for."""
        self._end = end
        with self._changed:
            while not self._is_over():
                self._start_threads()
                self._changed.wait(min(_TICK, max(0.0, self._end - time.monotonic())))
            self._stopped = True

    def _is_over(self) -> bool:
        late = time.monotonic() >= self._end or self._client.is_closed
        return late or self._wanted.is_enough() or self.lookup.is_done()

    def _start_threads(self) -> None:
        while self._threads < ALPHA and (peer := self.lookup.next()) is not None:
            try:
                start_thread(f"dht {peer.peer_id}", self._ask, peer)
            except TransportError as error:
                self.lookup.failed(peer)
                self.reasons.append(str(error))
                return
            self._threads += 1

    def _ask(self, peer: FoundPeer) -> None:
        response: Response | None = None
        private = False
        reason = ""
        try:
            response, private = self._client.request(peer, self._kind, self._key, self._end)
        except TransportError as error:
            reason = str(error)
        except Exception:
            log.exception("DHT: asking %s failed", peer.peer_id)
        with self._changed:
            self._threads -= 1
            if response is None:
                self.lookup.failed(peer)
                if reason and len(self.reasons) < ALPHA:
                    self.reasons.append(reason)
            else:
                closer = [_allowed(one, private=private) for one in response.closer]
                self.lookup.heard(peer, closer)
                if not self._stopped and self._wanted.add(response, private=private):
                    self._end = min(self._end, time.monotonic() + GRACE_SECONDS)
            self._changed.notify_all()


def _allowed(peer: FoundPeer, *, private: bool) -> FoundPeer:
    """Returns a peer with those of its addresses that may be used.

    Args:
        peer: As another one described it.
        private: Whether that one is in a private network itself.
    """
    if private:
        return peer
    public = tuple(one for one in peer.addresses if not is_private_host(one.host))
    skipped = peer.skipped | {"private"} if len(public) < len(peer.addresses) else peer.skipped
    return FoundPeer(peer.peer_id, public, skipped)
