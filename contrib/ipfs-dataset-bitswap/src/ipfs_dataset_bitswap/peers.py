"""Peers that blocks are requested from, the connections to them, and what is requested over these.

Each connection has an identity of its own: a peer serves so many bytes at once to each client that it sees,
which is little at a distance, and so several connections are several times as fast there.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Protocol

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
    from ipfs_dataset_core import CID

log = logging.getLogger(__name__)

# Kubo ignores what goes beyond 1,024 wants of one client, without an answer.
MAX_WANTS = 512
# Lines of one message.
_MAX_ENTRIES = 512
# Seconds after which a connection that nothing is wanted from is closed.
IDLE_SECONDS = 30.0
# Seconds after which a connection that carries requests is looked at.
_LOOK_SECONDS = 0.25
# Bytes that have to arrive within the time-out: a large block over a slow line is no silence.
_PROGRESS_BYTES = 64 << 10
# Seconds for which a peer is not used after a failure, where there are others: at first and at the most, and
# after it sent what nobody requested.
_FIRST_REST, _LONGEST_REST, _REST_AFTER_LIES = 1.0, 60.0, 300.0
# Blocks that nobody requested, of one connection: more of them, and it is closed. So many blocks, and one for
# each request, may arrive a second time.
MAX_UNREQUESTED, MAX_UNREQUESTED_BYTES = 64, 8 << 20
# Bytes beside blocks that may come for each request, and each second: statements, and the wants of the peer
# itself, which a busy one sends to all whom it knows. A message without blocks counts as so many at least.
_OVERHEAD_PER_REQUEST, _OVERHEAD_PER_SECOND, _OVERHEAD_OF_MESSAGE = 1024, 256 << 10, 256
# Hashes of what was requested from a peer: what arrives for these was requested, however late it is.
_REMEMBERED = 16_384
# A round trip from which on one connection does not fill the line, in seconds.
_FAR = 0.01
# So many statements in a row that it lacks blocks, and a peer is asked whether it has them first.
_MANY_LACKING = 8
_WEIGHT = 0.2


class Stream(Protocol):
    """What is used of a stream."""

    def read_messages(self, limit: int, *, timeout: float) -> Iterator[bytes]: ...
    def write_message(self, data: bytes) -> None: ...


class Connection(Protocol):
    """What is used of a connection."""

    @property
    def is_open(self) -> bool: ...
    @property
    def received_bytes(self) -> int: ...
    def open_stream(self, protocols: Sequence[str], *, timeout: float) -> Stream: ...
    def close(self) -> None: ...


class Receiver(Protocol):
    """What the threads of connections report to; its methods never wait for a peer."""

    def received(self, link: Link, message: Message) -> None: ...
    def connected(self, link: Link) -> None: ...
    def disconnected(self, link: Link, error: Exception) -> None: ...


Dial = Callable[[Callable[[bytes], None]], Connection]


class Want:
    """One block that somebody waits for.

    Attributes:
        cid: As it was requested first; other CIDs with the same hash share the want.
        urgent: Whether a thread waits for this block alone.
        requests: Who waits, and the CIDs that each used.
        link: The connection that the block is requested from.
        asked: When that was, on the monotonic clock.
        number: Counts requests for blocks, of all connections.
        holders: Peers that stated that they have it.
        questioned: Peers that were asked whether they have it, and when.
        late: Peers that took too long; asked again when no other is left.
        refusals: Peers that are not asked again, and why.
        losses: How many connections broke on which it was requested.
    """

    __slots__ = (
        "asked", "cid", "holders", "late", "link", "losses", "number", "questioned", "queued", "refusals",
        "requests", "urgent",
    )  # fmt: skip

    def __init__(self, cid: CID, *, urgent: bool) -> None:
        self.cid = cid
        self.urgent = urgent
        self.requests: dict[Request, tuple[CID, ...]] = {}
        self.link: Link | None = None
        self.asked = 0.0
        self.number = 0
        self.holders: set[Peer] = set()
        self.questioned: dict[Peer, float] = {}
        self.late: set[Peer] = set()
        self.refusals: dict[Peer, Exception] = {}
        self.losses = 0
        self.queued = False


class Request:
    """Blocks that one thread waits for.

    Args:
        lock: That of the exchange.

    Attributes:
        missing: Hashes of what is still to come.
        arrived: What was not taken yet.
        failures: Why blocks will not come.
        is_waiting: Whether the thread waits now, and so takes what arrives.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.missing: set[bytes] = set()
        self.arrived: deque[tuple[CID, bytes]] = deque()
        self.failures: list[Exception] = []
        self.is_waiting = False


class Peer:
    """One peer, what is known about it, and the connections to it; guarded by the lock of the exchange.

    Args:
        name: What messages call it.
        dial: Makes a connection, with a new identity, that passes each message which the peer sends on a
            stream of its own to a function.
        timeout: Seconds until the peer has to take what is sent.
        most: Number of connections at the most.

    Attributes:
        links: Its connections, also those that are being made.
        requested: Hashes of the blocks that were requested from it, the last ones.
        exchange: Receives what arrives; sets itself.
    """

    def __init__(
        self,
        name: str,
        dial: Dial,
        *,
        timeout: float,
        most: int = 4,
    ) -> None:
        self.name = name
        self.dial = dial
        self.timeout = timeout
        self.links: list[Link] = []
        self.requested: OrderedDict[bytes, None] = OrderedDict()
        self.exchange: Receiver
        self._most = most
        self._rests_until = 0.0
        self._rest = _FIRST_REST
        self._had_data = False
        self._lacking = 0

    @property
    def is_likely(self) -> bool:
        """Whether it had data of those that are read, and so probably has the rest."""
        return self._had_data and self._lacking < _MANY_LACKING

    def is_usable(self, now: float) -> bool:
        return now >= self._rests_until

    def has_data(self) -> None:
        """Notes that it has, or sent, a block."""
        self._had_data, self._lacking = True, 0

    def lacks_data(self) -> None:
        """Notes that it lacks a block."""
        self._lacking += 1

    def begun_links(self) -> list[Link]:
        """Returns its connections; one is begun where there is none.

        Raises:
            TransportError: The system starts no more threads.
        """
        if not self.links:
            self._connect()
        return self.links

    def connect_more(self) -> None:
        """Begins all other connections where the peer is far away, and the one that there is has work."""
        if len(self.links) == 1 < self._most:
            [link] = self.links
            if link.owed and link.latency > _FAR:
                with suppress(TransportError):  # the one that there is has to do
                    for _ in range(self._most - 1):
                        self._connect()

    def drop(self, link: Link, error: Exception, now: float) -> None:
        """Forgets a connection that was closed or could not be made."""
        if link in self.links:
            self.links.remove(link)
        if isinstance(error, (VerificationError, LimitError)):
            self._rests_until = now + _REST_AFTER_LIES
        elif not self.links and not link.has_delivered:
            self._rests_until = now + self._rest
            self._rest = min(2 * self._rest, _LONGEST_REST)
        if link.has_delivered:
            self._rest = _FIRST_REST

    def close(self) -> None:
        """Closes its connections."""
        for link in list(self.links):
            link.close()

    def _connect(self) -> None:
        link = Link(self, self.exchange)
        link.start()  # its thread waits for the lock of the exchange before it reports
        self.links.append(link)


class Link:
    """One connection to a peer. What it is asked is sent by a thread of its own, so that nobody waits for it.

    Args:
        peer: The peer.
        exchange: Receives what arrives, and whose lock guards the attributes.

    Attributes:
        owed: The blocks that are requested from it, by their hashes.
        heard: When it last sent something that was requested, on the monotonic clock.
        damaged: When it last sent a block that nobody requested.
        newest: The number of the newest request that it has answered.
        latency: The least time that an answer took, in seconds; 0 until it is known.
        has_delivered: Whether any block came over it.
        is_open: Whether it is connected.
    """

    def __init__(self, peer: Peer, exchange: Receiver) -> None:
        self.peer = peer
        self.owed: dict[bytes, Want] = {}
        self.heard = 0.0
        self.damaged = 0.0
        self.newest = 0
        self.latency = 0.0
        self.has_delivered = False
        self.is_open = False
        self._exchange = exchange
        self._seconds = 0.0
        self._unrequested = 0
        self._unrequested_bytes = 0
        self._duplicates = 0
        self._requests = 0
        self._overhead = 0
        self._begun = time.monotonic()
        # By CID, since a peer takes one entry of each in a message: of the later ones a cancel would win.
        self._outbox: dict[bytes, Entry] = {}
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._is_closed = False

    def start(self) -> None:
        """Connects, in a thread of its own, which then sends what is asked.

        Raises:
            TransportError: The system starts no more threads.
        """
        start_thread("ipfs-dataset-bitswap", self._run)

    def has_room(self, limit: int | None) -> bool:
        """Returns whether it may be asked for another block.

        Args:
            limit: Blocks that may be under way; None for as many as the peer takes.
        """
        return len(self.owed) < (MAX_WANTS if limit is None else min(limit, MAX_WANTS))

    def expected_seconds(self) -> float:
        """Returns after how many seconds a block would come that is requested now."""
        return self.latency + self._seconds * (len(self.owed) + 1)

    def ask(self, key: bytes, want: Want, entry: Entry) -> None:
        """Requests a block."""
        self.owed[key] = want
        self.question(key, entry)

    def question(self, key: bytes, entry: Entry) -> None:
        """Asks whether the peer has a block."""
        requested = self.peer.requested
        requested[key] = None
        requested.move_to_end(key)
        if len(requested) > _REMEMBERED:
            requested.popitem(last=False)
        self._post(entry)

    def cancel(self, entry: Entry) -> None:
        """Takes back a request."""
        self._post(entry)

    def delivered(self, want: Want, now: float) -> None:
        """Notes that a block has come that was requested over this connection."""
        self.has_delivered = True
        took, since = now - want.asked, now - max(want.asked, self.heard)
        self.latency = min(took, self.latency)
        self._seconds += (since - self._seconds) * _WEIGHT
        self.heard = now
        self.newest = max(self.newest, want.number)

    def was_late(self, seconds: float) -> None:
        """Notes that what it was asked for did not come in time, so that faster peers are preferred.

        A peer that claims to have everything and sends nothing would look as if it were idle and fast.
        """
        self.latency = max(self.latency, seconds)

    def count_unrequested(self, size: int, now: float) -> None:
        """Counts a block that nobody requested."""
        self._unrequested += 1
        self._unrequested_bytes += size
        self.damaged = now
        log.debug("%s: sent a block of %d bytes that was not requested", self.peer.name, size)

    def count_duplicate(self) -> None:
        """Counts a block that was requested, and is not wanted any more."""
        self._duplicates += 1

    def check_unrequested(self) -> None:
        """Ends a flood.

        Raises:
            LimitError: More blocks than are tolerated came that nobody requested, or came again.
        """
        if self._duplicates > MAX_UNREQUESTED + self._requests:
            raise LimitError(
                f"{self.peer.name}: sent {self._duplicates} blocks again, for {self._requests} requests"
            )
        if self._unrequested > MAX_UNREQUESTED or self._unrequested_bytes > MAX_UNREQUESTED_BYTES:
            raise LimitError(
                f"{self.peer.name}: sent {self._unrequested} blocks ({self._unrequested_bytes} bytes) "
                "that were not requested from it"
            )

    def close(self, error: Exception | None = None) -> None:
        """Ends the connection soon.

        Args:
            error: Why, for who waits for it.
        """
        with self._changed:
            self._is_closed = True
            self._error = self._error or error
            self._changed.notify()

    def receive(self, data: bytes) -> None:
        """Takes a message; called by the thread that receives for the connection.

        Raises:
            PeerProtocolError: It is not as it has to be, or one too many; the connection has to be closed.
        """
        try:
            message = decode_message(data)
            self._exchange.received(self, message)
            blocks = sum(len(block) for _, block in message.blocks)
            self._check_overhead(max(len(data) - blocks, 0 if blocks else _OVERHEAD_OF_MESSAGE))
        except IPFSDatasetError as error:
            about = _about(self.peer, error)
            self.close(about)
            raise PeerProtocolError(str(about)) from error

    def _check_overhead(self, size: int) -> None:
        """Ends a flood of what carries no block."""
        self._overhead += size
        seconds = time.monotonic() - self._begun
        allowed = MAX_UNREQUESTED_BYTES + _OVERHEAD_PER_REQUEST * self._requests
        allowed += int(_OVERHEAD_PER_SECOND * seconds)
        if self._overhead > allowed:
            raise LimitError(
                f"{self.peer.name}: sent {self._overhead} bytes beside blocks, for {self._requests} requests"
            )

    def _listen(self, stream: Stream) -> None:
        """Takes what some peers send on the stream that they were asked on, and notices its end."""
        try:
            for data in stream.read_messages(MAX_MESSAGE_BYTES, timeout=math.inf):
                self.receive(data)
        except IPFSDatasetError as error:
            self.close(error)

    def _post(self, entry: Entry) -> None:
        self._requests += 1
        with self._changed:
            self._outbox[entry.cid] = entry
            self._changed.notify()

    def _run(self) -> None:
        error: Exception
        connection: Connection | None = None
        try:
            connection = self.peer.dial(self.receive)
            begun = time.monotonic()
            stream = connection.open_stream([PROTOCOL], timeout=self.peer.timeout)
            self.latency = time.monotonic() - begun
            try:
                start_thread("ipfs-dataset-bitswap-in", self._listen, stream)
            except TransportError as failure:
                raise TransportError(f"{self.peer.name}: {failure}", retryable=True) from None
            self.is_open = True
            self._exchange.connected(self)
            self._send(connection, stream)
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

    def _send(self, connection: Connection, stream: Stream) -> None:
        used = time.monotonic()
        full, received = True, 0
        while True:
            with self._changed:
                if not self._outbox and not self._is_closed:
                    self._changed.wait(_LOOK_SECONDS if self.owed else IDLE_SECONDS / 4)
                if self._is_closed:
                    return
                cids = list(islice(self._outbox, _MAX_ENTRIES))
                entries = [self._outbox.pop(cid) for cid in cids]
            if entries:
                stream.write_message(encode_wantlist(entries, full=full))
                full = False
            elif not connection.is_open:
                return
            if connection.received_bytes - received >= _PROGRESS_BYTES:
                received, self.heard = connection.received_bytes, time.monotonic()
            if entries or self.owed:
                used = time.monotonic()
            elif time.monotonic() - used > IDLE_SECONDS:
                return


def _about(peer: Peer, error: IPFSDatasetError) -> IPFSDatasetError:
    """Returns an error that names the peer."""
    message = str(error)
    if message.startswith(peer.name):
        return error
    kind = type(error) if isinstance(error, (FormatError, LimitError, VerificationError)) else None
    return (kind or TransportError)(f"{peer.name}: {message}")
