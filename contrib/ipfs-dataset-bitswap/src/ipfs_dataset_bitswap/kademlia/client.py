"""Queries the DHT for providers of blocks, addresses of peers and records of names; stores nothing."""

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
    before_forks,
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

# Number of peers that are queried concurrently.
ALPHA = 10
# Seconds for one peer, including the connection.
PEER_SECONDS = 5.0
# Number of addresses of one peer that are tried.
_MAX_DIALLED = 4
# Number of providers of one block that are searched for, and seconds after the first reachable one.
ENOUGH_PROVIDERS = 20
GRACE_SECONDS = 1.0
# Number of valid records of a name that are sufficient; the newest of them is used.
_ENOUGH_RECORDS = 8
# Number of peers that responded recently, with which the next lookup begins besides the bootstrap peers.
_REMEMBERED = 200
# Number of providers without an address that are looked up.
_MAX_LOOKED_UP = 8
# Seconds between checks of the time.
_TICK = 0.1


class KademliaClient:
    """A client of the DHT, which does not take part in it: others never query it. Thread-safe.

    A peer that is reached at a private address may refer to other private addresses, because they are in one
    network. Other peers may not, because they must not direct connections into the network of the user.

    Args:
        bootstrap: Peers to begin with.
        timeout: Seconds for one lookup.
    """

    def __init__(self, bootstrap: Sequence[PeerAddress], timeout: float) -> None:
        by_peer: dict[PeerId, list[PeerAddress]] = {}
        for address in bootstrap:
            by_peer.setdefault(address.peer_id, []).append(address)
        self._named = frozenset(bootstrap)  # may be anywhere, even at private addresses
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

        It returns soon after the first reachable provider, because a provider of one block usually has all of
        them.

        Raises:
            TransportError: No peer of the DHT responded.
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
        """Returns a peer with its addresses; None if nobody knows it."""
        return self._find_peer(peer_id, self._end())

    def _find_peer(self, peer_id: PeerId, end: float) -> FoundPeer | None:
        wanted = _OnePeer(peer_id)
        try:
            self._look_up(FIND_NODE, peer_id.multihash, wanted, end)
        except TransportError as error:
            log.debug("Peer %s is not found: %s", peer_id, error)
        return wanted.found

    def find_record(self, name: CID) -> bytes | None:
        """Returns the newest valid record of an IPNS name; None if there is none.

        Raises:
            TransportError: No peer of the DHT responded.
        """
        wanted = _Records(name)
        self._look_up(GET_VALUE, b"/ipns/" + name.multihash, wanted, self._end())
        return wanted.best

    @property
    def is_closed(self) -> bool:
        """Whether lookups must end as soon as possible."""
        return self._closed.is_set()

    def close(self) -> None:
        """Ends lookups in progress, and their connections."""
        self._closed.set()
        with self._lock:
            connections = list(self._connections)
        self._dialling.close()
        for connection in connections:
            connection.close()

    def _end(self) -> float:
        """Returns the time by which a search must end, on the monotonic clock."""
        return time.monotonic() + min(self._timeout, time_left())

    def _look_up(self, kind: int, key: bytes, wanted: _Wanted, end: float) -> None:
        """Queries peers that are closer and closer to a key.

        Raises:
            TransportError: No peer responded.
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
                f"DHT: none of {search.lookup.asked} peers responded: {reasons}", retryable=True
            )

    def request(self, peer: FoundPeer, kind: int, key: bytes, end: float) -> tuple[Response, bool]:
        """Returns the response of a peer, and whether it was reached at a private address.

        Raises:
            TransportError: The peer cannot be reached, or its response is invalid.
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
                        f"peer {address}: its response is malformed: {error}"
                    ) from None
            finally:
                with self._lock:
                    self._connections.discard(connection)
                connection.close()
        raise reason or TransportError(f"DHT: there was no time to query peer {peer.peer_id}")


class _Wanted(Protocol):
    """The target of a lookup."""

    def add(self, response: Response, *, private: bool) -> bool:
        """Processes the response of a peer; returns whether a result was found, to end soon.

        Args:
            response: The response.
            private: Whether that peer may refer to private addresses.
        """

    def is_enough(self) -> bool:
        """Returns whether the lookup can end at once."""


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
    """Records of a name, the newest of which is used."""

    def __init__(self, name: CID) -> None:
        self._name = name
        self._age: tuple[int, float] = (-1, 0.0)
        self._count = 0
        self.best: bytes | None = None

    def add(self, response: Response, *, private: bool) -> bool:
        if response.record is not None:
            try:
                with before_forks("the check of a signature"):
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
        """Runs until the lookup has ended, without waiting for requests that are still in progress."""
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
    """Returns a peer with only those of its addresses that may be used.

    Args:
        peer: The peer, as described by another one.
        private: Whether that other peer is in a private network itself.
    """
    if private:
        return peer
    public = tuple(one for one in peer.addresses if not is_private_host(one.host))
    skipped = peer.skipped | {"private"} if len(public) < len(peer.addresses) else peer.skipped
    return FoundPeer(peer.peer_id, public, skipped)
