"""Peers from which blocks are requested, and the connections to each.

Each connection has a new identity. A peer limits the bytes that it sends at once to each client, so several
connections to a distant peer are several times as fast as one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_bitswap.flood_guard import FloodGuard
from ipfs_dataset_bitswap.libp2p.errors import PeerProtocolError
from ipfs_dataset_bitswap.libp2p.inbound import start_thread
from ipfs_dataset_bitswap.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    decode_message,
    encode_wantlist,
)
from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetError,
    LimitError,
    TransportError,
    VerificationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_bitswap.messages import Entry, Message

log = logging.getLogger(__name__)

# Kubo ignores wants of a client beyond 1,024, without an answer.
MAX_WANTS = 512
# The maximum number of entries of a message.
_MAX_ENTRIES = 512
# Seconds after which a connection without requests is closed.
IDLE_SECONDS = 30.0
# Seconds between checks of a connection with requests.
_CHECK_SECONDS = 0.25
# Bytes that have to arrive within the time-out: a large block over a slow line is not silence.
_PROGRESS_BYTES = 64 << 10
# The weight of a new block in the average time of blocks.
_WEIGHT = 0.2
# Seconds for which a peer is not used after a failure, if there are others: at first, at most, and after it
# sent wrong or unrequested data.
_FIRST_PAUSE, _MAX_PAUSE, _PAUSE_AFTER_WRONG_DATA = 1.0, 60.0, 300.0
# Number of multihashes of requested blocks that are remembered: a late block with one of these was requested.
_MAX_REMEMBERED = 16_384
# Seconds of a round trip above which one connection does not use the whole bandwidth.
_DISTANT_SECONDS = 0.01
# Number of blocks in a row that a peer lacks, after which it is queried before a block is requested from it.
_MAX_LACKING = 8


class Stream(Protocol):
    """The used part of a stream."""

    def read_messages(self, limit: int, *, timeout: float) -> Iterator[bytes]: ...
    def write_message(self, data: bytes) -> None: ...


class Connection(Protocol):
    """The used part of a connection."""

    @property
    def is_open(self) -> bool: ...
    @property
    def received_bytes(self) -> int: ...
    def open_stream(self, protocols: Sequence[str], *, timeout: float) -> Stream: ...
    def close(self) -> None: ...


class Receiver(Protocol):
    """The exchange, as the threads of connections call it. Its methods never wait for a peer."""

    def received(self, link: Link, message: Message) -> None: ...
    def connected(self, link: Link) -> None: ...
    def disconnected(self, link: Link, error: Exception) -> None: ...


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


class Link:
    """A connection to a peer. A thread of its own sends the requests, so that no caller waits for the peer.

    Args:
        peer: The peer.
        exchange: Receives the messages. Its lock guards the attributes.

    Attributes:
        peer: As the argument.
        outstanding: The multihashes of the blocks that are requested from this connection, in order.
        heard_at: When it last sent something that was requested, on the monotonic clock.
        damaged_at: When it last sent a block that was never requested.
        newest_answered: The highest number of a request that it has answered.
        latency: The shortest time until an answer, in seconds; 0 until it is known.
        has_delivered: Whether it has delivered any block.
        is_open: Whether it is connected.
    """

    def __init__(self, peer: Peer, exchange: Receiver) -> None:
        self.peer = peer
        self.outstanding: dict[bytes, None] = {}
        self.heard_at = 0.0
        self.damaged_at = 0.0
        self.newest_answered = 0
        self.latency = 0.0
        self.has_delivered = False
        self.is_open = False
        self._exchange = exchange
        self._block_seconds = 0.0
        self._guard = FloodGuard(peer.name)
        # By CID, because a peer uses one entry for each CID in a message: a cancel would win over a request.
        self._outbox: dict[bytes, Entry] = {}
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._is_closed = False

    def start(self) -> None:
        """Starts the thread of the connection, which connects to the peer.

        Raises:
            TransportError: The system starts no more threads.
        """
        start_thread("ipfs-dataset-bitswap", self._run)

    def has_room(self, limit: int | None) -> bool:
        """Returns whether another block may be requested.

        Args:
            limit: The maximum number of outstanding blocks; None for as many as the peer accepts.
        """
        return len(self.outstanding) < (MAX_WANTS if limit is None else min(limit, MAX_WANTS))

    def expected_seconds(self) -> float:
        """Returns the expected number of seconds until a block arrives that is requested now."""
        return self.latency + self._block_seconds * (len(self.outstanding) + 1)

    def request(self, key: bytes, entry: Entry) -> None:
        """Sends an entry that requests a block, or asks whether the peer has it."""
        self.peer.remember(key)
        self.send(entry)

    def send(self, entry: Entry) -> None:
        """Sends an entry of the wantlist. It replaces an entry for the same CID that was not sent yet."""
        self._guard.count_request()
        with self._changed:
            self._outbox[entry.cid] = entry
            self._changed.notify()

    def delivered(self, number: int, requested_at: float, now: float) -> None:
        """Notes that a block that was requested over this connection has arrived.

        Args:
            number: The number of the request.
            requested_at: When it was requested, on the monotonic clock.
            now: The time.
        """
        self.has_delivered = True
        self.latency = min(now - requested_at, self.latency)
        seconds = now - max(requested_at, self.heard_at)
        self._block_seconds += (seconds - self._block_seconds) * _WEIGHT
        self.heard_at = now
        self.newest_answered = max(self.newest_answered, number)

    def was_late(self, seconds: float) -> None:
        """Notes that a block did not arrive in time, so that faster peers are preferred.

        Otherwise a peer that claims to have every block, and sends none, would seem to be idle and fast.
        """
        self.latency = max(self.latency, seconds)

    def received_unrequested(self, size: int, now: float) -> None:
        """Notes that a block arrived that was never requested."""
        self._guard.count_unrequested(size)
        self.damaged_at = now
        log.debug("%s: sent a block of %d bytes that was not requested", self.peer.name, size)

    def received_duplicate(self) -> None:
        """Notes that a block arrived that was requested and is not wanted any more."""
        self._guard.count_duplicate()

    def check_flood(self) -> None:
        """Checks the numbers of unrequested and repeated blocks.

        Raises:
            LimitError: There are too many.
        """
        self._guard.check_blocks()

    def close(self, error: Exception | None = None) -> None:
        """Makes the thread close the connection.

        Args:
            error: The reason, for the sessions that wait for blocks.
        """
        with self._changed:
            self._is_closed = True
            self._error = self._error or error
            self._changed.notify()

    def receive(self, data: bytes) -> None:
        """Handles a message; called by the thread that receives from the peer.

        Raises:
            PeerProtocolError: The message is invalid, or a flood; the connection has to be closed.
        """
        try:
            message = decode_message(data)
            self._exchange.received(self, message)
            self._guard.count_message(len(data), sum(len(block) for _, block in message.blocks))
        except IPFSDatasetError as error:
            named = _with_name(self.peer, error)
            self.close(named)
            raise PeerProtocolError(str(named)) from error

    def _listen(self, stream: Stream) -> None:
        """Receives messages that some peers send on the stream of the requests, until it ends."""
        try:
            for data in stream.read_messages(MAX_MESSAGE_BYTES, timeout=math.inf):
                self.receive(data)
        except IPFSDatasetError as error:
            self.close(error)

    def _run(self) -> None:
        error: Exception
        connection: Connection | None = None
        try:
            connection = self.peer.dial(self.receive)
            started_at = time.monotonic()
            stream = connection.open_stream([PROTOCOL], timeout=self.peer.timeout)
            self.latency = time.monotonic() - started_at
            try:
                start_thread("ipfs-dataset-bitswap-in", self._listen, stream)
            except TransportError as failure:
                raise TransportError(f"{self.peer.name}: {failure}", retryable=True) from None
            self.is_open = True
            self._exchange.connected(self)
            self._send_entries(connection, stream)
            error = self._error or TransportError(
                f"{self.peer.name}: the connection was closed", retryable=True
            )
        except IPFSDatasetError as failure:
            error = failure
        except Exception as failure:
            log.exception("The connection to %s failed", self.peer.name)
            error = TransportError(f"{self.peer.name}: {failure}", retryable=True)
        finally:
            self.is_open = False
            if connection is not None:
                with suppress(IPFSDatasetError):
                    connection.close()
        self._exchange.disconnected(self, error)

    def _send_entries(self, connection: Connection, stream: Stream) -> None:
        """Sends entries until the connection is closed, or was idle for too long."""
        used_at = time.monotonic()
        is_first, received_bytes = True, 0
        while True:
            with self._changed:
                if not self._outbox and not self._is_closed:
                    self._changed.wait(_CHECK_SECONDS if self.outstanding else IDLE_SECONDS / 4)
                if self._is_closed:
                    return
                cids = list(islice(self._outbox, _MAX_ENTRIES))
                entries = [self._outbox.pop(cid) for cid in cids]
            if entries:
                stream.write_message(encode_wantlist(entries, full=is_first))
                is_first = False
            elif not connection.is_open:
                return
            if connection.received_bytes - received_bytes >= _PROGRESS_BYTES:
                received_bytes, self.heard_at = connection.received_bytes, time.monotonic()
            if entries or self.outstanding:
                used_at = time.monotonic()
            elif time.monotonic() - used_at > IDLE_SECONDS:
                return


def _with_name(peer: Peer, error: IPFSDatasetError) -> IPFSDatasetError:
    """Returns an error whose message begins with the name of the peer."""
    message = str(error)
    if message.startswith(peer.name):
        return error
    kind = type(error) if isinstance(error, (FormatError, LimitError, VerificationError)) else None
    return (kind or TransportError)(f"{peer.name}: {message}")
