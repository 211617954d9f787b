"""Fetches blocks from several peers: the methods for threads that want blocks, and for those of connections.

Blocks arrive without their CIDs: each is hashed once, and assigned to the want with that hash, if there is
one. Only threads that want blocks wait here, and meanwhile check for late blocks. The threads of connections
call `received`, `connected` and `disconnected`, which never wait for a peer.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.hashes import multihash_in, multihash_of_block
from ipfs_dataset_bitswap.scheduler import CHECK_SECONDS, Scheduler
from ipfs_dataset_bitswap.session import Session
from ipfs_dataset_bitswap.wantlist import Wantlist
from ipfs_dataset_core import (
    LimitError,
    ObjectNotFoundError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
    time_left,
)
from ipfs_dataset_core.ipld import RAW, SHA2_256_PREFIX, hasher, make_cid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_bitswap.messages import Message
    from ipfs_dataset_bitswap.peers import Link, Peer
    from ipfs_dataset_core import CID

# The multihash of the empty block, as of an empty file. Kubo answers DONT_HAVE for it, although it has it.
_EMPTY = make_cid(b"", RAW).multihash
# Errors that concern the peer itself rather than one connection.
_OF_PEER = (VerificationError, LimitError)


class Exchange:
    """The wants of one process, and the peers from which they are requested. Thread-safe.

    Args:
        peers: At least one.
        timeout: Seconds without progress after which a peer has failed.
        memory: Maximum number of bytes of blocks that are requested, or have arrived and were not taken.

    Attributes:
        peers: As the argument.
        wantlist: The wants; its methods require the lock.
        duplicates: Number of blocks that arrived again, or after they were no longer wanted.
        unrequested: Number of blocks that arrived without ever having been requested.
    """

    def __init__(self, peers: Sequence[Peer], timeout: float, memory: int) -> None:
        self.peers = tuple(peers)
        for peer in self.peers:
            peer.exchange = self
        self.wantlist = Wantlist(memory)
        self.duplicates = 0
        self.unrequested = 0
        self._scheduler = Scheduler(self.peers, self.wantlist, timeout)
        self._lock = threading.Lock()
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
        session = self._start((cid,), urgent=True)
        try:
            for _, block in self._arrivals(session):
                return block
        finally:
            self._end(session)
        raise session.failures[0]

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        """Yields blocks as they arrive, verified; those that no peer has are left out.

        Raises:
            VerificationError: As for `get_block`, once nothing else can arrive.
            TransportError: As for `get_block`, once nothing else can arrive.
        """
        session = self._start(cids, urgent=False)
        try:
            yield from self._arrivals(session)
        finally:
            self._end(session)
        for error in session.failures:
            if not isinstance(error, ObjectNotFoundError):
                raise error

    def close(self) -> None:
        """Closes the connections; threads that wait get an error."""
        with self._lock:
            self._is_closed = True
            for key in list(self.wantlist.wants):
                self.wantlist.fail(key, TransportError("The dataset was closed during the read"))
        for peer in self.peers:
            peer.close()

    def _start(self, cids: Sequence[CID], *, urgent: bool) -> Session:
        session = Session(self._lock)
        for cid in cids:
            if not cid.is_identity and cid.multihash[:2] != SHA2_256_PREFIX:
                hasher(cid)  # rejects a hash that proves nothing
        with self._lock:
            if self._is_closed:
                raise TransportError("The dataset was closed")
            for cid in cids:
                if cid.is_identity:
                    self.wantlist.deliver(session, cid, cid.digest)
                elif cid.multihash == _EMPTY:
                    self.wantlist.deliver(session, cid, b"")
                else:
                    self.wantlist.add(session, cid, urgent=urgent)
            self._scheduler.request_queued()
        return session

    def _end(self, session: Session) -> None:
        with self._lock:
            self.wantlist.remove(session)
            self._scheduler.request_queued()

    def _arrivals(self, session: Session) -> Iterator[tuple[CID, bytes]]:
        while True:
            with self._lock:
                if not session.arrived:
                    self._wait(session)
                taken = self.wantlist.take(session)
                self._scheduler.request_queued()
            if not taken:
                return
            yield from taken

    def _wait(self, session: Session) -> None:
        """Waits until a block has arrived or no more can, and meanwhile checks for late blocks."""
        session.is_waiting = True
        try:
            while session.missing and not session.arrived:
                seconds_left = time_left()
                if seconds_left <= 0:
                    raise TransportTimeoutError(self._late_blocks(session))
                session.changed.wait(min(seconds_left, CHECK_SECONDS))
                self._scheduler.check_late(time.monotonic())
        finally:
            session.is_waiting = False

    def _late_blocks(self, session: Session) -> str:
        """Returns the message of the error for blocks that did not arrive before the deadline."""
        want = self.wantlist.wants[min(session.missing)]
        peers = [want.link.peer] if want.link else [*want.queried] or self.peers
        names = ", ".join(peer.name for peer in peers)
        more = f", or of {len(session.missing) - 1} others" if len(session.missing) > 1 else ""
        return f"{names}: no response for block {want.cid} before the deadline{more}"

    # Called by the threads of connections.

    def received(self, link: Link, message: Message) -> None:
        """Handles a message from a peer.

        Raises:
            LimitError: The peer has sent so much unrequested data that the connection must be closed.
        """
        hashed = [(multihash_of_block(prefix, data), data) for prefix, data in message.blocks]
        with self._lock:
            now = time.monotonic()
            for key, data in hashed:
                self._received_block(link, key, data, now)
            for cid in message.have:
                self._received_have(link, multihash_in(cid), now)
            for cid in message.dont_have:
                self._received_dont_have(link, multihash_in(cid), now)
            if len(link.outstanding) > 2 * self.wantlist.room(1):
                self._scheduler.share_out()
            self._scheduler.request_queued(now)
        link.check_flood()

    def connected(self, link: Link) -> None:
        """Sends waiting requests over a new connection."""
        with self._lock:
            link.heard_at = time.monotonic()
            self._scheduler.share_out()
            self._scheduler.request_queued()

    def disconnected(self, link: Link, error: Exception) -> None:
        """Requests the outstanding blocks of a connection elsewhere: it was closed, or could not be made."""
        with self._lock:
            now = time.monotonic()
            peer = link.peer
            peer.drop(link, error, now)
            for key in list(link.outstanding):
                want = self.wantlist.wants[key]
                self.wantlist.unassign(key, want)
                # A peer may close an idle connection just when it is used again.
                if link.has_delivered and not want.losses and not isinstance(error, _OF_PEER):
                    want.losses += 1
                else:
                    want.refusals[peer] = error
                self.wantlist.enqueue(key, want)
            if not peer.links:
                for key, want in self.wantlist.wants.items():
                    if peer in want.queried:
                        want.refusals[peer] = error
                        self.wantlist.enqueue(key, want)
            self._scheduler.request_queued(now)

    def _received_block(self, link: Link, key: bytes, data: memoryview, now: float) -> None:
        want = self.wantlist.wants.get(key)
        if want is None:
            if key in link.peer.requested:
                self.duplicates += 1
                link.received_duplicate()
            else:
                self.unrequested += 1
                link.received_unrequested(len(data), now)
            return
        if want.link is link:
            link.delivered(want.number, want.requested_at, now)
        else:  # the block was requested before, or the peer sent it instead of HAVE
            link.heard_at, link.has_delivered = now, True
        link.peer.has_data()
        self.wantlist.receive(key, want, data, link)

    def _received_have(self, link: Link, key: bytes, now: float) -> None:
        peer, want = link.peer, self.wantlist.wants.get(key)
        if want is None and key in peer.requested:
            peer.has_data()  # it was not the first to respond
        if want is None or peer not in want.queried or peer in want.holders:
            return
        # Only responses to queries count, and only once: a peer could repeat them forever.
        link.heard_at = now
        peer.has_data()
        want.holders.add(peer)
        if want.link is None:
            self.wantlist.enqueue(key, want)

    def _received_dont_have(self, link: Link, key: bytes, now: float) -> None:
        peer, want = link.peer, self.wantlist.wants.get(key)
        if want is None or peer in want.refusals:
            return
        if peer not in want.queried and (want.link is None or want.link.peer is not peer):
            return
        link.heard_at = now
        peer.lacks_data()
        want.refusals[peer] = ObjectNotFoundError(f"{peer.name}: does not have block {want.cid}")
        want.holders.discard(peer)
        if want.link is not None and want.link.peer is peer:
            self.wantlist.unassign(key, want)
        if want.link is None:
            self.wantlist.enqueue(key, want)
