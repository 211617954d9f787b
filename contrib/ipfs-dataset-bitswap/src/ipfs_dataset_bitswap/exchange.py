"""Fetches blocks from several peers: decides which peer each block is requested from, and handles failures.

Each block is requested from one peer. If it is unknown which of several peers have the data, they are queried
first (WANT_HAVE). A peer that had some of the blocks is assumed to have the rest, and blocks are then
requested from it directly. If a peer lacks a block, or is late, the block is requested from another one.
Blocks arrive without their
CIDs: each is hashed once, and assigned to the want with that hash, if there is one.

Only threads that want blocks wait here, and meanwhile check for late blocks. The threads of connections call
`received`, `connected` and `disconnected`, which never wait for a peer.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.messages import Entry
from ipfs_dataset_bitswap.peers import Request, Want
from ipfs_dataset_core import (
    CID,
    FormatError,
    LimitError,
    ObjectNotFoundError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
    time_left,
)
from ipfs_dataset_core.ipld import RAW, SHA2_256_PREFIX, decode_varint, hasher, make_cid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_bitswap.messages import Message
    from ipfs_dataset_bitswap.peers import Link, Peer

log = logging.getLogger(__name__)

# Assumed size of a block until some have arrived, and the weight of each new block in the average.
_FIRST_BLOCK_BYTES, _WEIGHT = 256 << 10, 0.25
# A block is late, if another peer can be used, after at least this many seconds, and this many times the
# usual time of the connection.
_PATIENCE, _PATIENCE_FACTOR = 1.0, 4.0
# Seconds between checks for late blocks.
_TICK = 0.1
# Seconds after which a connection that sent an unrequested block is assumed to have damaged one of the
# requested ones, unless these arrive.
_DAMAGE_SECONDS = 0.5
# Number of wants that are skipped because their peers are busy, before the search for others ends.
_MAX_PASSED = 32
# The multihash of the empty block, as of an empty file. Kubo answers DONT_HAVE for it, although it has it.
_EMPTY = make_cid(b"", RAW).multihash
# Version 1, with a codec of one byte and sha2-256.
_USUAL_CID_BYTES = 36


class Exchange:
    """The wants of one process, and the peers from which they are requested. Thread-safe.

    Args:
        peers: At least one.
        timeout: Seconds without progress after which a peer has failed.
        memory: Maximum number of bytes of blocks that are requested, or have arrived and were not taken.

    Attributes:
        duplicates: Number of blocks that arrived again, or after they were no longer wanted.
        unrequested: Number of blocks that arrived without ever having been requested.
    """

    def __init__(self, peers: Sequence[Peer], timeout: float, memory: int) -> None:
        self.peers = tuple(peers)
        for peer in self.peers:
            peer.exchange = self
        self.duplicates = 0
        self.unrequested = 0
        self._timeout = timeout
        self._memory = memory
        self._lock = threading.Lock()
        self._wants: dict[bytes, Want] = {}
        # Wants that wait for capacity of a peer; single blocks, for which a thread waits, precede batches.
        self._urgent: deque[bytes] = deque()
        self._batched: deque[bytes] = deque()
        self._owed = 0
        self._held = 0
        self._block_bytes = float(_FIRST_BLOCK_BYTES)
        self._number = 0
        self._next_look = 0.0
        self._is_closed = False

    # Called by threads that want blocks.

    def get_block(self, cid: CID) -> bytes:
        """Returns one block, verified.

        Raises:
            ObjectNotFoundError: No peer has it.
            VerificationError: A peer sent wrong bytes, and no other peer sent the block; or its hash proves
                nothing.
            TransportError: No peer sent it.
        """
        request = self._begin((cid,), urgent=True)
        try:
            for _, block in self._arrivals(request):
                return block
        finally:
            self._end(request)
        raise request.failures[0]

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        """Yields blocks as they arrive, verified; those that no peer has are left out.

        Raises:
            VerificationError: As for `get_block`, once nothing else can arrive.
            TransportError: As for `get_block`, once nothing else can arrive.
        """
        request = self._begin(cids, urgent=False)
        try:
            yield from self._arrivals(request)
        finally:
            self._end(request)
        for error in request.failures:
            if not isinstance(error, ObjectNotFoundError):
                raise error

    def close(self) -> None:
        """Closes the connections; threads that wait get an error."""
        with self._lock:
            self._is_closed = True
            for key in list(self._wants):
                self._fail(key, TransportError("The dataset was closed during the read"))
        for peer in self.peers:
            peer.close()

    def _begin(self, cids: Sequence[CID], *, urgent: bool) -> Request:
        request = Request(self._lock)
        for cid in cids:
            if not cid.is_identity and cid.multihash[:2] != SHA2_256_PREFIX:
                hasher(cid)  # rejects a hash that proves nothing
        with self._lock:
            if self._is_closed:
                raise TransportError("The dataset was closed")
            for cid in cids:
                if cid.is_identity:
                    self._hand_over(request, cid, cid.digest)
                elif cid.multihash == _EMPTY:
                    self._hand_over(request, cid, b"")
                else:
                    self._add(request, cid, urgent=urgent)
            self._ask_queued()
        return request

    def _add(self, request: Request, cid: CID, *, urgent: bool) -> None:
        key = cid.multihash
        want = self._wants.get(key)
        if want is None:
            want = self._wants[key] = Want(cid, urgent=urgent)
            self._enqueue(key, want)
        elif urgent and not want.urgent:
            want.urgent = True
            if want.queued:
                self._urgent.append(key)
        want.requests[request] = (*want.requests.get(request, ()), cid)
        request.missing.add(key)

    def _end(self, request: Request) -> None:
        """Withdraws the remaining wants of a request, unless others wait for them."""
        with self._lock:
            for key in request.missing:
                want = self._wants[key]
                del want.requests[request]
                if not want.requests:
                    del self._wants[key]
                    self._withdraw(key, want)
            request.missing.clear()
            self._take(request)
            self._ask_queued()

    def _arrivals(self, request: Request) -> Iterator[tuple[CID, bytes]]:
        while True:
            with self._lock:
                if not request.arrived:
                    self._wait(request)
                taken = self._take(request)
                self._ask_queued()
            if not taken:
                return
            yield from taken

    def _take(self, request: Request) -> list[tuple[CID, bytes]]:
        taken = list(request.arrived)
        request.arrived.clear()
        self._held -= sum(len(block) for _, block in taken)
        return taken

    def _wait(self, request: Request) -> None:
        """Waits until something has arrived or nothing more can, and meanwhile checks for late blocks."""
        request.is_waiting = True
        try:
            while request.missing and not request.arrived:
                left = time_left()
                if left <= 0:
                    raise TransportTimeoutError(self._what_is_missing(request))
                request.changed.wait(min(left, _TICK))
                now = time.monotonic()
                if now >= self._next_look:
                    self._next_look = now + _TICK
                    self._look_for_late(now)
        finally:
            request.is_waiting = False

    def _what_is_missing(self, request: Request) -> str:
        want = self._wants[min(request.missing)]
        peers = [want.link.peer] if want.link else [*want.questioned] or self.peers
        names = ", ".join(peer.name for peer in peers)
        more = f", or of {len(request.missing) - 1} others" if len(request.missing) > 1 else ""
        return f"{names}: no response for block {want.cid} before the deadline{more}"

    # Called by the threads of connections.

    def received(self, link: Link, message: Message) -> None:
        """Handles a message from a peer.

        Raises:
            LimitError: The peer has sent so much unrequested data that the connection must be closed.
        """
        hashed = [(_multihash(prefix, data), data) for prefix, data in message.blocks]
        with self._lock:
            now = time.monotonic()
            for key, data in hashed:
                self._deliver(link, key, data, now)
            for cid in message.have:
                self._has(link, _hash_of(cid), now)
            for cid in message.dont_have:
                self._lacks(link, _hash_of(cid), now)
            if len(link.owed) > 2 * self._room(1):
                self._share_out()
            self._ask_queued(now)
        link.check_unrequested()

    def connected(self, link: Link) -> None:
        """Sends waiting requests over a new connection."""
        with self._lock:
            link.heard = time.monotonic()
            self._share_out()
            self._ask_queued()

    def disconnected(self, link: Link, error: Exception) -> None:
        """Requests the outstanding blocks of a connection elsewhere: it was closed, or could not be made."""
        with self._lock:
            now = time.monotonic()
            peer = link.peer
            peer.drop(link, error, now)
            for key, want in list(link.owed.items()):
                self._unask(key, want)
                # A peer may close an idle connection just when it is used again.
                if link.has_delivered and not want.losses and not isinstance(error, _OF_PEER):
                    want.losses += 1
                else:
                    want.refusals[peer] = error
                self._enqueue(key, want)
            if not peer.links:
                for key, want in self._wants.items():
                    if peer in want.questioned:
                        want.refusals[peer] = error
                        self._enqueue(key, want)
            self._ask_queued(now)

    def _deliver(self, link: Link, key: bytes, data: memoryview, now: float) -> None:
        want = self._wants.get(key)
        if want is None:
            if key in link.peer.requested:
                self.duplicates += 1
                link.count_duplicate()
            else:
                self.unrequested += 1
                link.count_unrequested(len(data), now)
            return
        if want.link is link:
            link.delivered(want, now)
        else:  # it was queried before, or sent the block instead of HAVE
            link.heard, link.has_delivered = now, True
        link.peer.has_data()
        self._block_bytes += (len(data) - self._block_bytes) * _WEIGHT
        if self._held > self._memory and not any(r.is_waiting for r in want.requests):
            # Blocks are larger than expected, and are not accepted: requested again when there is room.
            self._unask(key, want)
            self._enqueue(key, want)
            return
        del self._wants[key]
        self._withdraw(key, want, arrived_from=link)
        block = bytes(data)
        for request, cids in want.requests.items():
            request.missing.discard(key)
            for cid in cids:
                self._hand_over(request, cid, block)

    def _hand_over(self, request: Request, cid: CID, block: bytes) -> None:
        request.arrived.append((cid, block))
        self._held += len(block)
        request.changed.notify()

    def _has(self, link: Link, key: bytes, now: float) -> None:
        peer, want = link.peer, self._wants.get(key)
        if want is None and key in peer.requested:
            peer.has_data()  # it was not the first to respond
        if want is None or peer not in want.questioned or peer in want.holders:
            return
        # Only responses to queries count, and only once: a peer could repeat them forever.
        link.heard = now
        peer.has_data()
        want.holders.add(peer)
        if want.link is None:
            self._enqueue(key, want)

    def _lacks(self, link: Link, key: bytes, now: float) -> None:
        peer, want = link.peer, self._wants.get(key)
        if want is None or peer in want.refusals:
            return
        if peer not in want.questioned and (want.link is None or want.link.peer is not peer):
            return
        link.heard = now
        peer.lacks_data()
        want.refusals[peer] = ObjectNotFoundError(f"{peer.name}: does not have block {want.cid}")
        want.holders.discard(peer)
        if want.link is not None and want.link.peer is peer:
            self._unask(key, want)
        if want.link is None:
            self._enqueue(key, want)

    # Which blocks are requested from which peer; all methods require the lock.

    def _enqueue(self, key: bytes, want: Want) -> None:
        if not want.queued:
            want.queued = True
            (self._urgent if want.urgent else self._batched).append(key)

    def _ask_queued(self, now: float | None = None) -> None:
        """Requests waiting blocks, as far as peers and memory have room for them."""
        if not self._urgent and not self._batched:
            return
        now = time.monotonic() if now is None else now
        self._ask_from(self._urgent, now, limited=False)
        self._ask_from(self._batched, now, limited=True)
        if self._batched:
            for peer in self.peers:
                peer.connect_more()

    def _ask_from(self, queue: deque[bytes], now: float, *, limited: bool) -> None:
        passed: list[bytes] = []
        while queue and len(passed) < _MAX_PASSED:
            if limited and self._held + self._owed * self._block_bytes >= self._memory:
                break
            key = queue.popleft()
            want = self._wants.get(key)
            if want is None or not want.queued:
                continue
            if self._ask(key, want, now):
                want.queued = False
            else:
                passed.append(key)
        queue.extendleft(reversed(passed))

    def _ask(self, key: bytes, want: Want, now: float) -> bool:
        """Requests a block, or queries peers for it; returns False if they are busy."""
        left = [peer for peer in self.peers if peer not in want.refusals]
        if not left:
            self._fail(key, _no_peer(want))
            return True
        usable = [peer for peer in left if peer.is_usable(now)] or left
        fresh = [peer for peer in usable if peer not in want.late] or usable
        sure = [peer for peer in fresh if peer in want.holders] or [
            peer for peer in fresh if peer.is_likely
        ]
        if not sure:
            if len(fresh) > 1:
                return self._question(key, want, fresh, now)
            sure = fresh
        limit = None if want.urgent else self._room(sum(len(peer.links) or 1 for peer in sure))
        links = [link for peer in sure for link in self._links(peer, want)]
        # A connection that is still being made is only used if there is no other.
        links = [link for link in links if link.is_open] or links
        links = [link for link in links if link.has_room(limit)]
        if not links:
            # If no connection could be started, other peers are tried, or none is left.
            refused = all(peer in want.refusals for peer in sure)
            return refused and self._ask(key, want, now)
        link = min(links, key=lambda one: one.expected_seconds())
        self._number += 1
        want.link, want.asked, want.number = link, now, self._number
        self._owed += 1
        link.ask(key, want, Entry(want.cid.to_bytes(), priority=2 if want.urgent else 1))
        return True

    def _question(self, key: bytes, want: Want, peers: list[Peer], now: float) -> bool:
        asked = False
        for peer in peers:
            if peer not in want.questioned:
                links = self._links(peer, want)
                link = next((one for one in links if one.has_room(None)), None)
                if link is None:
                    continue
                want.questioned[peer] = now
                link.question(key, Entry(want.cid.to_bytes(), have=True))
            asked = True
        return asked

    def _links(self, peer: Peer, want: Want) -> list[Link]:
        """Returns the connections to a peer; marks the want as refused if no connection can be started."""
        try:
            return peer.begun_links()
        except TransportError as error:
            want.refusals[peer] = TransportError(f"{peer.name}: {error}", retryable=True)
            return []

    def _room(self, links: int) -> int:
        """Returns the number of blocks that may be outstanding on one of several connections."""
        return max(1, int(self._memory / self._block_bytes / links))

    def _share_out(self) -> None:
        """Withdraws outstanding blocks of a connection beyond its share, for other connections or for later.

        This happens if there are more connections than before, or blocks are larger than expected.
        """
        links = [link for peer in self.peers for link in peer.links if link.is_open]
        room = self._room(max(1, len(links)))
        taken = []
        for link in links:
            waiting = [key for key, want in link.owed.items() if not want.urgent]
            for key in waiting[room:]:
                want = self._wants[key]
                self._unask(key, want)
                link.cancel(Entry(want.cid.to_bytes(), cancel=True))
                want.queued = True
                taken.append(key)
        self._batched.extendleft(reversed(taken))

    def _unask(self, key: bytes, want: Want) -> None:
        """Forgets that a block is requested, because it has arrived or will not arrive."""
        if want.link is not None:
            del want.link.owed[key]
            want.link = None
            self._owed -= 1

    def _withdraw(self, key: bytes, want: Want, arrived_from: Link | None = None) -> None:
        """Withdraws a want from all peers to which it was sent, except the one that sent the block."""
        link = want.link
        self._unask(key, want)
        sender = None if arrived_from is None else arrived_from.peer
        if link is not None and link.peer is not sender:
            link.cancel(Entry(want.cid.to_bytes(), cancel=True))
        for peer in want.questioned:
            answered = peer in want.holders or peer in want.refusals
            if not answered and peer is not sender and peer.links:
                peer.links[0].cancel(Entry(want.cid.to_bytes(), cancel=True))

    def _fail(self, key: bytes, error: Exception) -> None:
        want = self._wants.pop(key)
        self._withdraw(key, want)
        for request in want.requests:
            request.missing.discard(key)
            request.failures.append(error)
            request.changed.notify()

    def _look_for_late(self, now: float) -> None:
        """Requests late blocks from other peers, and gives up on those that have taken too long."""
        for key, want in list(self._wants.items()):
            if want.link is not None:
                self._look_at_request(key, want, want.link, now)
            elif want.questioned and not want.holders:
                for peer, asked in list(want.questioned.items()):
                    if peer not in want.refusals and now - asked > self._timeout:
                        want.refusals[peer] = self._silence(peer, want)
                        self._enqueue(key, want)
        self._ask_queued(now)

    def _look_at_request(self, key: bytes, want: Want, link: Link, now: float) -> None:
        quiet = now - max(want.asked, link.heard)
        # A later request was answered, so this one is not merely queued behind others.
        overtaken = now - want.asked if link.newest > want.number else 0.0
        peer = link.peer
        if link.damaged > want.asked and quiet > min(_DAMAGE_SECONDS, self._timeout / 2):
            want.refusals[peer] = VerificationError(
                f"{peer.name}: sent a block that was not requested, or is damaged, but not "
                f"block {want.cid}"
            )
        elif max(quiet, overtaken) > self._timeout:
            want.refusals[peer] = self._silence(peer, want)
        else:
            patience = min(
                self._timeout, max(_PATIENCE, _PATIENCE_FACTOR * link.expected_seconds())
            )
            others = any(
                p is not peer and p not in want.refusals and p not in want.late and p.is_usable(now)
                for p in self.peers
            )
            if max(quiet, overtaken) <= patience or not others:
                return
            want.late.add(peer)
            link.was_late(now - want.asked)
        self._unask(key, want)
        link.cancel(Entry(want.cid.to_bytes(), cancel=True))
        self._enqueue(key, want)

    def _silence(self, peer: Peer, want: Want) -> TransportTimeoutError:
        return TransportTimeoutError(
            f"{peer.name}: neither sent block {want.cid} nor stated that it lacks it, within "
            f"{self._timeout:g} seconds"
        )


# Errors that concern the peer itself rather than one connection.
_OF_PEER = (VerificationError, LimitError)


def _no_peer(want: Want) -> Exception:
    """Returns the reason why no peer delivered a block, as the most informative type of error."""
    errors = list(want.refusals.values())
    if len(errors) == 1:
        return errors[0]
    said = "; ".join(str(error) for error in errors)
    message = f"No peer delivered block {want.cid}: {said}"
    if any(isinstance(error, VerificationError) for error in errors):
        return VerificationError(message)
    for kind in (ObjectNotFoundError, TransportTimeoutError):
        if all(isinstance(error, kind) for error in errors):
            return kind(message)
    return TransportError(message, retryable=any(getattr(e, "retryable", False) for e in errors))


def _multihash(prefix: bytes, data: memoryview) -> bytes:
    """Returns the multihash of a block whose CID has a prefix; empty if no usable CID has that prefix."""
    try:
        _, position = decode_varint(prefix)
        _, position = decode_varint(prefix, position)
        kind = prefix[position:]
        if kind == SHA2_256_PREFIX:
            return kind + hashlib.sha256(data).digest()
        _, position = decode_varint(kind)
        size, _ = decode_varint(kind, position)
        state = hasher(CID(1, RAW, kind))
    except (FormatError, VerificationError):
        return b""
    state.update(data)
    digest = state.digest()
    # A digest of another length cannot belong to a requested block.
    return kind + digest if len(digest) == size else b""


def _hash_of(cid: bytes) -> bytes:
    """Returns the multihash in a binary CID; empty if it is not a CID."""
    if cid[:2] == SHA2_256_PREFIX:
        return cid
    if len(cid) == _USUAL_CID_BYTES and cid[2:4] == SHA2_256_PREFIX and cid[0] == 1:
        return cid[2:]  # there are many of these
    try:
        return CID.from_bytes(cid).multihash
    except VerificationError:
        return b""
