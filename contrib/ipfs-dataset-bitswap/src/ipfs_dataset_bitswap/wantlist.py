"""The wantlist: the blocks that a process wants, which of them are requested, and their memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.messages import Entry
from ipfs_dataset_core import (
    ObjectNotFoundError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)

if TYPE_CHECKING:
    from ipfs_dataset_bitswap.peers import Link, Peer
    from ipfs_dataset_bitswap.session import Session
    from ipfs_dataset_core import CID

# Assumed size of a block until some have arrived, and the weight of each new block in the average.
_FIRST_BLOCK_BYTES, _WEIGHT = 256 << 10, 0.25


class Want:
    """One block that is wanted.

    Attributes:
        cid: The CID with which it was first requested. Other CIDs with the same hash share the want.
        urgent: Whether a thread waits for this block alone.
        sessions: The sessions that wait for it, and the CIDs that each of them used.
        link: The connection from which it is requested; None if it is not.
        requested_at: When it was requested from this connection, on the monotonic clock.
        number: The number of this request, counted over all connections.
        holders: The peers that stated that they have it.
        queried: The peers that were asked whether they have it, and when.
        late: The peers that took too long. They are used again if no other peer is left.
        refusals: The peers that are not used any more, and the errors why.
        losses: The number of connections that were closed while it was requested from them.
        queued: Whether it waits in a queue of the wantlist.
    """

    __slots__ = (
        "cid", "holders", "late", "link", "losses", "number", "queried", "queued", "refusals",
        "requested_at", "sessions", "urgent",
    )  # fmt: skip

    def __init__(self, cid: CID, *, urgent: bool) -> None:
        self.cid = cid
        self.urgent = urgent
        self.sessions: dict[Session, tuple[CID, ...]] = {}
        self.link: Link | None = None
        self.requested_at = 0.0
        self.number = 0
        self.holders: set[Peer] = set()
        self.queried: dict[Peer, float] = {}
        self.late: set[Peer] = set()
        self.refusals: dict[Peer, Exception] = {}
        self.losses = 0
        self.queued = False

    def entry(self, *, have: bool = False, cancel: bool = False) -> Entry:
        """Returns the entry that requests the block, asks whether the peer has it, or cancels either."""
        priority = 2 if self.urgent and not have and not cancel else 1
        return Entry(self.cid.to_bytes(), have=have, cancel=cancel, priority=priority)

    def error(self) -> Exception:
        """Returns the reason why no peer delivered the block, as the most informative type of error."""
        errors = list(self.refusals.values())
        if len(errors) == 1:
            return errors[0]
        listed = "; ".join(map(str, errors))
        message = f"No peer delivered block {self.cid}: {listed}"
        if any(isinstance(error, VerificationError) for error in errors):
            return VerificationError(message)
        for kind in (ObjectNotFoundError, TransportTimeoutError):
            if all(isinstance(error, kind) for error in errors):
                return kind(message)
        return TransportError(
            message, retryable=any(getattr(error, "retryable", False) for error in errors)
        )


class Wantlist:
    """The wants of a process. All methods require the lock of the exchange.

    Args:
        memory: The maximum number of bytes of blocks that are requested, or have arrived and were not taken.

    Attributes:
        wants: The wants by multihash.
        urgent: The multihashes of single blocks, for which a thread waits, that wait to be requested.
        batched: Those of other blocks.
        outstanding: The number of blocks that are requested from a connection.
        held_bytes: The size of the blocks that have arrived and were not taken.
        block_bytes: The average size of the blocks that arrived last.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self.wants: dict[bytes, Want] = {}
        self.urgent: deque[bytes] = deque()
        self.batched: deque[bytes] = deque()
        self.outstanding = 0
        self.held_bytes = 0
        self.block_bytes = float(_FIRST_BLOCK_BYTES)

    @property
    def has_room(self) -> bool:
        """Whether the memory allows to request another block."""
        return self.held_bytes + self.outstanding * self.block_bytes < self._memory

    @property
    def is_full(self) -> bool:
        """Whether the blocks that have arrived exceed the memory."""
        return self.held_bytes > self._memory

    def room(self, links: int) -> int:
        """Returns the number of blocks that may be outstanding on one of several connections."""
        return max(1, int(self._memory / self.block_bytes / links))

    def add(self, session: Session, cid: CID, *, urgent: bool) -> None:
        """Adds a block for a session."""
        key = cid.multihash
        want = self.wants.get(key)
        if want is None:
            want = self.wants[key] = Want(cid, urgent=urgent)
            self.enqueue(key, want)
        elif urgent and not want.urgent:
            want.urgent = True
            if want.queued:
                self.urgent.append(key)
        want.sessions[session] = (*want.sessions.get(session, ()), cid)
        session.missing.add(key)

    def remove(self, session: Session) -> None:
        """Withdraws the remaining wants of a session, except those that other sessions share."""
        for key in session.missing:
            want = self.wants[key]
            del want.sessions[session]
            if not want.sessions:
                del self.wants[key]
                self._withdraw(key, want)
        session.missing.clear()
        self.take(session)

    def enqueue(self, key: bytes, want: Want) -> None:
        """Makes a want wait to be requested."""
        if not want.queued:
            want.queued = True
            (self.urgent if want.urgent else self.batched).append(key)

    def assign(self, key: bytes, want: Want, link: Link, now: float, number: int) -> None:
        """Notes that a block is requested from a connection."""
        want.link, want.requested_at, want.number = link, now, number
        link.outstanding[key] = None
        self.outstanding += 1

    def unassign(self, key: bytes, want: Want) -> None:
        """Notes that a block is not requested any more: it has arrived, or will not arrive."""
        if want.link is not None:
            del want.link.outstanding[key]
            want.link = None
            self.outstanding -= 1

    def receive(self, key: bytes, want: Want, data: memoryview, link: Link) -> None:
        """Delivers a block that has arrived to all sessions that wait for it, if the memory allows."""
        self.block_bytes += (len(data) - self.block_bytes) * _WEIGHT
        if self.is_full and not any(session.is_waiting for session in want.sessions):
            # Blocks are larger than expected. This one is dropped, and requested again when there is room.
            self.unassign(key, want)
            self.enqueue(key, want)
            return
        del self.wants[key]
        self._withdraw(key, want, arrived_from=link)
        block = bytes(data)
        for session, cids in want.sessions.items():
            session.missing.discard(key)
            for cid in cids:
                self.deliver(session, cid, block)

    def deliver(self, session: Session, cid: CID, block: bytes) -> None:
        """Gives a block to a session, which holds it until it is taken."""
        session.arrived.append((cid, block))
        self.held_bytes += len(block)
        session.changed.notify()

    def take(self, session: Session) -> list[tuple[CID, bytes]]:
        """Removes and returns the blocks of a session that have arrived."""
        taken = list(session.arrived)
        session.arrived.clear()
        self.held_bytes -= sum(len(block) for _, block in taken)
        return taken

    def fail(self, key: bytes, error: Exception) -> None:
        """Gives the sessions that wait for a block an error in its place."""
        want = self.wants.pop(key)
        self._withdraw(key, want)
        for session in want.sessions:
            session.missing.discard(key)
            session.failures.append(error)
            session.changed.notify()

    def _withdraw(self, key: bytes, want: Want, arrived_from: Link | None = None) -> None:
        """Withdraws a want from all peers to which it was sent, except the one that sent the block."""
        link = want.link
        self.unassign(key, want)
        sender = None if arrived_from is None else arrived_from.peer
        if link is not None and link.peer is not sender:
            link.send(want.entry(cancel=True))
        for peer in want.queried:
            answered = peer in want.holders or peer in want.refusals
            if not answered and peer is not sender and peer.links:
                peer.links[0].send(want.entry(cancel=True))
