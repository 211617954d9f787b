"""The scheduler: which peer each block is requested from, and when it is requested from another one.

If it is unknown which of several peers have the data, they are queried first (WANT_HAVE). A peer that had
some of the blocks is assumed to have the rest, and blocks are then requested from it directly. If a peer
lacks a block, or is late, the block is requested from another one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ipfs_dataset_core import TransportError, TransportTimeoutError, VerificationError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

    from ipfs_dataset_bitswap.peers import Link, Peer
    from ipfs_dataset_bitswap.wantlist import Want, Wantlist

# Seconds between checks for late blocks.
CHECK_SECONDS = 0.1
# A block is late, if another peer can be used, after at least this many seconds, and this many times the
# usual time of the connection.
_MIN_LATE_SECONDS, _LATE_FACTOR = 1.0, 4.0
# Seconds after which a connection that sent an unrequested block is assumed to have damaged one of the
# requested ones, unless these arrive.
_DAMAGE_SECONDS = 0.5
# Number of wants that are skipped because their peers are busy, before the search for others ends.
_MAX_SKIPPED = 32


class Scheduler:
    """Requests the blocks of a wantlist from peers. All methods require the lock of the exchange.

    Args:
        peers: At least one.
        wantlist: The wants.
        timeout: Seconds without progress after which a peer has failed.
    """

    def __init__(self, peers: Sequence[Peer], wantlist: Wantlist, timeout: float) -> None:
        self._peers = peers
        self._wantlist = wantlist
        self._timeout = timeout
        self._requests = 0
        self._next_check = 0.0

    def request_queued(self, now: float | None = None) -> None:
        """Requests waiting blocks, as far as peers and memory have room for them."""
        wantlist = self._wantlist
        if not wantlist.urgent and not wantlist.batched:
            return
        now = time.monotonic() if now is None else now
        self._request_from(wantlist.urgent, now, limited=False)
        self._request_from(wantlist.batched, now, limited=True)
        if wantlist.batched:
            for peer in self._peers:
                peer.connect_more()

    def share_out(self) -> None:
        """Withdraws outstanding blocks of a connection beyond its share, for other connections or for later.

        This happens if there are more connections than before, or blocks are larger than expected.
        """
        links = [link for peer in self._peers for link in peer.links if link.is_open]
        room = self._wantlist.room(max(1, len(links)))
        withdrawn = []
        for link in links:
            batched = [key for key in link.outstanding if not self._wantlist.wants[key].urgent]
            for key in batched[room:]:
                want = self._wantlist.wants[key]
                self._wantlist.unassign(key, want)
                link.send(want.entry(cancel=True))
                want.queued = True
                withdrawn.append(key)
        self._wantlist.batched.extendleft(reversed(withdrawn))

    def check_late(self, now: float) -> None:
        """Requests late blocks from other peers, and fails those that have taken too long.

        Calls that follow each other within `CHECK_SECONDS` have no effect.
        """
        if now < self._next_check:
            return
        self._next_check = now + CHECK_SECONDS
        for key, want in list(self._wantlist.wants.items()):
            if want.link is not None:
                self._check_request(key, want, want.link, now)
            elif want.queried and not want.holders:
                for peer, queried_at in list(want.queried.items()):
                    if peer not in want.refusals and now - queried_at > self._timeout:
                        want.refusals[peer] = self._no_answer(peer, want)
                        self._wantlist.enqueue(key, want)
        self.request_queued(now)

    def _request_from(self, queue: deque[bytes], now: float, *, limited: bool) -> None:
        """Requests the blocks of a queue in order; `limited` means: as long as the memory has room."""
        skipped: list[bytes] = []
        while queue and len(skipped) < _MAX_SKIPPED:
            if limited and not self._wantlist.has_room:
                break
            key = queue.popleft()
            want = self._wantlist.wants.get(key)
            if want is None or not want.queued:
                continue
            if self._request(key, want, now):
                want.queued = False
            else:
                skipped.append(key)
        queue.extendleft(reversed(skipped))

    def _request(self, key: bytes, want: Want, now: float) -> bool:
        """Requests a block, or queries peers for it; returns False if they are busy."""
        left = [peer for peer in self._peers if peer not in want.refusals]
        if not left:
            self._wantlist.fail(key, want.error())
            return True
        usable = [peer for peer in left if peer.is_usable(now)] or left
        punctual = [peer for peer in usable if peer not in want.late] or usable
        likely = [peer for peer in punctual if peer in want.holders] or [
            peer for peer in punctual if peer.is_likely
        ]
        if not likely:
            if len(punctual) > 1:
                return self._query(key, want, punctual, now)
            likely = punctual
        count = sum(len(peer.links) or 1 for peer in likely)
        limit = None if want.urgent else self._wantlist.room(count)
        links = [link for peer in likely for link in self._links(peer, want)]
        # A connection that is still being made is only used if there is no other.
        links = [link for link in links if link.is_open] or links
        links = [link for link in links if link.has_room(limit)]
        if not links:
            # If no connection could be started, other peers are tried, or none is left.
            refused = all(peer in want.refusals for peer in likely)
            return refused and self._request(key, want, now)
        link = min(links, key=lambda one: one.expected_seconds())
        self._requests += 1
        self._wantlist.assign(key, want, link, now, self._requests)
        link.request(key, want.entry())
        return True

    def _query(self, key: bytes, want: Want, peers: list[Peer], now: float) -> bool:
        """Asks peers whether they have a block; returns False if all of them are busy."""
        is_queried = False
        for peer in peers:
            if peer not in want.queried:
                links = self._links(peer, want)
                link = next((one for one in links if one.has_room(None)), None)
                if link is None:
                    continue
                want.queried[peer] = now
                link.request(key, want.entry(have=True))
            is_queried = True
        return is_queried

    def _links(self, peer: Peer, want: Want) -> list[Link]:
        """Returns the connections to a peer; marks the want as refused if no connection can be started."""
        try:
            return peer.started_links()
        except TransportError as error:
            want.refusals[peer] = TransportError(f"{peer.name}: {error}", retryable=True)
            return []

    def _check_request(self, key: bytes, want: Want, link: Link, now: float) -> None:
        """Requests a block from another peer if it is late."""
        silence = now - max(want.requested_at, link.heard_at)
        # If a later request was answered, this one does not merely wait for others.
        overtaken = now - want.requested_at if link.newest_answered > want.number else 0.0
        waited, peer = max(silence, overtaken), link.peer
        if link.damaged_at > want.requested_at and silence > min(
            _DAMAGE_SECONDS, self._timeout / 2
        ):
            want.refusals[peer] = VerificationError(
                f"{peer.name}: sent a block that was not requested, or is damaged, but not "
                f"block {want.cid}"
            )
        elif waited > self._timeout:
            want.refusals[peer] = self._no_answer(peer, want)
        else:
            allowed = max(_MIN_LATE_SECONDS, _LATE_FACTOR * link.expected_seconds())
            if waited <= min(self._timeout, allowed) or not self._has_other(want, peer, now):
                return
            want.late.add(peer)
            link.was_late(now - want.requested_at)
        self._wantlist.unassign(key, want)
        link.send(want.entry(cancel=True))
        self._wantlist.enqueue(key, want)

    def _has_other(self, want: Want, peer: Peer, now: float) -> bool:
        """Returns whether a block can be requested from another peer."""
        unusable = {peer, *want.refusals, *want.late}
        return any(other not in unusable and other.is_usable(now) for other in self._peers)

    def _no_answer(self, peer: Peer, want: Want) -> TransportTimeoutError:
        return TransportTimeoutError(
            f"{peer.name}: neither sent block {want.cid} nor stated that it lacks it, within "
            f"{self._timeout:g} seconds"
        )
