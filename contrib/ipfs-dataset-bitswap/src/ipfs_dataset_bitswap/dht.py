"""The transport that finds peers in the DHT, and reads from the peers that have the data."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, cast

import attrs

from ipfs_dataset_bitswap.addresses import SCHEME, BitswapAddress
from ipfs_dataset_bitswap.kademlia.bootstrap import bootstrap_peers
from ipfs_dataset_bitswap.kademlia.client import KademliaClient
from ipfs_dataset_bitswap.transport import BitswapTransport
from ipfs_dataset_core import (
    ObjectNotFoundError,
    Transport,
    TransportError,
    VerificationError,
    is_private_host,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from ipfs_dataset_bitswap.kademlia.messages import FoundPeer
    from ipfs_dataset_core import CID, Options

log = logging.getLogger(__name__)

# Maximum number of peers per lookup that are read from, and of addresses of each.
_MAX_PEERS, _MAX_ADDRESSES = 20, 4
# After this many consecutive failures, peers are not used for some seconds, or until they are found again.
_MAX_FAILURES, _REST_SECONDS = 3, 60.0
# Seconds after which the DHT is queried again for the same block.
REFRESH_SECONDS = 300.0


def open_peers(address: str, options: Options) -> Transport:
    """Returns the transport at an address: that of the given peers, or one that finds peers in the DHT.

    Raises:
        AddressError: It is malformed.
    """
    parsed = BitswapAddress.parse(address)
    return DhtTransport(parsed, options) if parsed.bootstrap else BitswapTransport(address, options)


@attrs.define(eq=False)
class _Peers:
    """Peers that were found, or given, together.

    Attributes:
        transport: Reads from them.
        given: Whether they were given by the user, and are therefore kept whatever happens.
        failures: Number of consecutive failures.
        failed: Time of the last failure on the monotonic clock.
    """

    transport: BitswapTransport
    given: bool = False
    failures: int = 0
    failed: float = 0.0

    @property
    def is_usable(self) -> bool:
        return self.failures < _MAX_FAILURES or time.monotonic() - self.failed > _REST_SECONDS

    def note(self, error: Exception) -> None:
        """Counts a failure, unless the peers merely lack a block."""
        if not isinstance(error, ObjectNotFoundError):
            self.failures += 1
            self.failed = time.monotonic()


class DhtTransport(Transport):
    """Blocks from peers that are found in the DHT, and records of IPNS names.

    A peer that has one block of a dataset usually has all of it, so peers are remembered. The DHT is queried
    again for a block that none of them has. Queries reveal only the blocks and names that are requested.

    Args:
        address: The address, with bootstrap peers and possibly other peers.
        options: `timeout` and `memory` are used.
    """

    concurrency = 16
    verifies = True
    serves_name_records = True

    def __init__(self, address: BitswapAddress, options: Options) -> None:
        self._options = options
        self._connections = address.connections
        bootstrap = bootstrap_peers(address.bootstrap)
        named = "default" in address.bootstrap
        self.name = f"DHT by {'its public bootstrap peers' if named else bootstrap[0]}"
        # Half of the time of a request is reserved for reading from the peers that were found.
        self._client = KademliaClient(bootstrap, options.timeout / 2)
        self._found: dict[str, _Peers] = {}
        self._known: dict[str, str] = {}  # the transport of each peer that was found, by peer ID
        self._asked: dict[bytes, float] = {}
        self._skipped = ""
        self._lock = threading.Lock()
        self._looking_up = threading.Lock()
        if address.peers:
            given = (str(one) for addresses in address.peers.values() for one in addresses)
            self._open(given, public_only=address.public_only, given=True)

    @property
    def batches(self) -> bool:  # type: ignore[override]
        """Whether peers were found, which serve batches."""
        return bool(self._usable())

    def get_block(self, cid: CID) -> bytes:
        tried: dict[_Peers, Exception] = {}
        block = self._from_peers(cid, tried)
        if block is None:
            self._look_up(cid)
            block = self._from_peers(cid, tried)
        if block is not None:
            return block
        if not tried:
            raise ObjectNotFoundError(f"{self.name}: found no peer with block {cid}{self._skipped}")
        said = "; ".join(str(error) for error in tried.values())
        message = f"{self.name}: no peer delivered block {cid}: {said}{self._skipped}"
        if all(isinstance(error, ObjectNotFoundError) for error in tried.values()):
            raise ObjectNotFoundError(message)
        raise TransportError(message, retryable=True)

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        if cids and not self._usable():
            self._look_up(cids[0])
        missing = dict.fromkeys(cids)
        failure: Exception | None = None
        for peers in self._usable():
            if not missing:
                return
            blocks = cast("Generator[tuple[CID, bytes]]", peers.transport.get_blocks(list(missing)))
            try:
                with closing(blocks):
                    for cid, block in blocks:
                        del missing[cid]
                        yield cid, block
            except (TransportError, VerificationError) as error:
                peers.note(error)
                failure = error
            else:
                peers.failures = 0
        if failure is not None and len(missing) == len(cids):
            raise TransportError(f"{self.name}: {failure}", retryable=True) from failure

    def name_record(self, name: CID) -> bytes:
        record = self._client.find_record(name)
        if record is None:
            raise ObjectNotFoundError(
                f"{self.name}: no record of the name {name.encode('base36')} was found"
            )
        return record

    def parts(self) -> Sequence[Transport]:
        return [
            part
            for peers in self._usable()
            for part in peers.transport.parts() or [peers.transport]
        ]

    def close(self) -> None:
        self._client.close()
        with self._lock:
            found = list(self._found.values())
        for peers in found:
            peers.transport.close()

    def _usable(self) -> list[_Peers]:
        with self._lock:
            usable = [peers for peers in self._found.values() if peers.is_usable]
        return sorted(usable, key=lambda peers: peers.failures)

    def _from_peers(self, cid: CID, tried: dict[_Peers, Exception]) -> bytes | None:
        for peers in self._usable():
            if peers in tried:
                continue
            try:
                block = peers.transport.get_block(cid)
            except (TransportError, VerificationError) as error:
                peers.note(error)
                tried[peers] = error
            else:
                peers.failures = 0
                return block
        return None

    def _look_up(self, cid: CID) -> None:
        """Searches for peers that have a block, at most once per block within the refresh time."""
        with self._looking_up:  # a second thread waits for the result of the first one
            now = time.monotonic()
            asked = {k: t for k, t in self._asked.items() if now - t < REFRESH_SECONDS}
            if cid.multihash in asked:
                return
            found = self._client.find_providers(cid)
            self._asked = {**asked, cid.multihash: now}
            self._add(found)

    def _add(self, found: Iterable[FoundPeer]) -> None:
        self._drop_failed()
        skipped: Counter[str] = Counter()
        new: dict[bool, list[FoundPeer]] = {True: [], False: []}
        for peer in found:
            name = str(peer.peer_id)
            if not peer.addresses:
                reasons = sorted(peer.skipped) or ["without an address"]
                skipped[" and ".join(reasons)] += 1
            elif (known := self._known_at(name, peer)) is not None:
                known.failures = 0
            else:
                new[any(is_private_host(one.host) for one in peer.addresses)].append(peer)
        for is_private, peers in new.items():
            chosen = peers[:_MAX_PEERS]
            addresses = [str(one) for peer in chosen for one in peer.addresses[:_MAX_ADDRESSES]]
            if addresses:
                self._open(addresses, public_only=not is_private)
        counts = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        self._skipped = ""
        if skipped:
            self._skipped = f"; {skipped.total()} skipped that cannot be dialled ({counts})"

    def _known_at(self, name: str, found: FoundPeer) -> _Peers | None:
        """Returns the known peers that include a peer; None if it is unknown, or has failed and moved."""
        address = self._known.get(name)
        if address is None:
            return None
        known = self._found[address]
        if known.failures and set(found.addresses) - set(BitswapAddress.parse(address).peers[name]):
            return None
        return known

    def _drop_failed(self) -> None:
        """Forgets failed peers, which may have moved, and would otherwise accumulate."""
        with self._lock:
            failed = {
                address: peers
                for address, peers in self._found.items()
                if not peers.given and peers.failures >= _MAX_FAILURES
            }
            self._found = {a: peers for a, peers in self._found.items() if a not in failed}
            self._known = {peer: a for peer, a in self._known.items() if a not in failed}
        for peers in failed.values():
            peers.transport.close()

    def _open(self, addresses: Iterable[str], *, public_only: bool, given: bool = False) -> None:
        query = f"?connections={self._connections}{'&public=1' if public_only else ''}"
        address = f"{SCHEME}{','.join(addresses)}{query}"
        transport = BitswapTransport(address, self._options)
        with self._lock:
            self._found[address] = _Peers(transport, given=given)
            for peer in BitswapAddress.parse(address).peers:
                self._known[peer] = address
