"""Peers from which blocks are requested, and the connections to each.

Each connection has a new identity. A peer limits the bytes that it sends at once to each client, so several
connections to a distant peer are several times as fast as one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.link import Connection, Link
from ipfs_dataset_core import LimitError, TransportError, VerificationError

if TYPE_CHECKING:
    from ipfs_dataset_bitswap.link import Receiver

# Seconds for which a peer is not used after a failure, if there are others: at first, at most, and after it
# sent wrong or unrequested data.
_FIRST_PAUSE, _MAX_PAUSE, _PAUSE_AFTER_WRONG_DATA = 1.0, 60.0, 300.0
# Number of multihashes of requested blocks that are remembered: a late block with one of these was requested.
_MAX_REMEMBERED = 16_384
# Seconds of a round trip above which one connection does not use the whole bandwidth.
_DISTANT_SECONDS = 0.01
# Number of blocks in a row that a peer lacks, after which it is queried before a block is requested from it.
_MAX_LACKING = 8

Dial = Callable[[Callable[[bytes], None]], Connection]


class Peer:
    """A peer, what is known about it, and the connections to it. The lock of the exchange guards it.

    Args:
        name: The name of the peer, for errors.
        dial: Makes a connection with a new identity. Its argument receives each message that the peer sends
            on streams that it opens.
        timeout: Seconds within which the peer has to accept what is sent.
        most: The maximum number of connections.

    Attributes:
        links: The connections, including those that are being made.
        requested: The multihashes of the blocks that were requested last.
        exchange: Receives the messages; the exchange sets it.
    """

    def __init__(self, name: str, dial: Dial, *, timeout: float, most: int = 4) -> None:
        self.name = name
        self.dial = dial
        self.timeout = timeout
        self.links: list[Link] = []
        self.requested: OrderedDict[bytes, None] = OrderedDict()
        self.exchange: Receiver
        self._most = most
        self._pauses_until = 0.0
        self._pause = _FIRST_PAUSE
        self._had_data = False
        self._lacking = 0

    @property
    def is_likely(self) -> bool:
        """Whether it had some of the blocks that are read, and so probably has the rest."""
        return self._had_data and self._lacking < _MAX_LACKING

    def is_usable(self, now: float) -> bool:
        """Returns whether it does not pause after a failure."""
        return now >= self._pauses_until

    def remember(self, key: bytes) -> None:
        """Notes that a block is requested from it, or that it is asked whether it has the block."""
        self.requested[key] = None
        self.requested.move_to_end(key)
        if len(self.requested) > _MAX_REMEMBERED:
            self.requested.popitem(last=False)

    def has_data(self) -> None:
        """Notes that it has, or sent, a block."""
        self._had_data, self._lacking = True, 0

    def lacks_data(self) -> None:
        """Notes that it lacks a block."""
        self._lacking += 1

    def started_links(self) -> list[Link]:
        """Returns its connections, after starting one if there is none.

        Raises:
            TransportError: The system starts no more threads.
        """
        if not self.links:
            self._connect()
        return self.links

    def connect_more(self) -> None:
        """Starts the other connections if the peer is distant, and the first one has outstanding blocks."""
        if len(self.links) == 1 < self._most:
            [link] = self.links
            if link.outstanding and link.latency > _DISTANT_SECONDS:
                with suppress(TransportError):  # then the first connection is used alone
                    for _ in range(self._most - 1):
                        self._connect()

    def drop(self, link: Link, error: Exception, now: float) -> None:
        """Removes a connection that was closed or could not be made, and pauses after a failure."""
        if link in self.links:
            self.links.remove(link)
        if isinstance(error, (VerificationError, LimitError)):
            self._pauses_until = now + _PAUSE_AFTER_WRONG_DATA
        elif not self.links and not link.has_delivered:
            self._pauses_until = now + self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE)
        if link.has_delivered:
            self._pause = _FIRST_PAUSE

    def close(self) -> None:
        """Closes its connections."""
        for link in list(self.links):
            link.close()

    def _connect(self) -> None:
        link = Link(self, self.exchange)
        link.start()  # its thread waits for the lock of the exchange before it reports
        self.links.append(link)
