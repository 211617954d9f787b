"""One stream of a connection: bytes in both directions, each with a window that bounds what waits."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_bitswap.libp2p import yamux
from ipfs_dataset_bitswap.libp2p.byte_queue import ByteQueue
from ipfs_dataset_bitswap.libp2p.errors import (
    PeerClosedError,
    PeerProtocolError,
    ProtocolNotSupportedError,
)
from ipfs_dataset_bitswap.libp2p.messages import delimited
from ipfs_dataset_bitswap.libp2p.noise import MAX_PLAIN
from ipfs_dataset_core import FormatError, TransportTimeoutError, time_left

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from ipfs_dataset_bitswap.libp2p.multistream import Proposal
    from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

# A data frame of this size fills one Noise message.
_MAX_FRAME = MAX_PLAIN - yamux.HEADER_SIZE
_MAX_PREFIX = 9


class MultiplexedConnection(Protocol):
    """What a stream uses of its connection; see `PeerConnection`."""

    peer_id: PeerId
    peer: str
    lock: threading.Lock
    unread: int

    def send(self, data: bytes, end: float) -> None: ...
    def answer(self, frames: bytes) -> None: ...
    def forget_finished(self, stream: Stream) -> None: ...
    def forget_reset(self, stream: Stream) -> None: ...


class Stream:
    """A stream that either side has opened. One thread reads and one writes at a time.

    Each call ends with the deadline in force, or after `timeout` seconds, whichever comes first.

    Attributes:
        number: Its number in the connection.
        protocol: The protocol that was agreed on.
        timeout: Seconds that one call may take where it is given none; None for no such limit.
    """

    def __init__(
        self, connection: MultiplexedConnection, number: int, *, window: int, timeout: float | None
    ) -> None:
        self.number = number
        self.protocol = ""
        self.timeout = timeout
        self._connection = connection
        self._changed = threading.Condition(connection.lock)
        self._writing = threading.Lock()
        # What has arrived and was not read yet, and how much has to be there before a reader is woken.
        self._arrived = ByteQueue()
        self._wanted = 1
        # How many bytes the peer may still send, how many were read since it was allowed more, and how many
        # it may have under way at once.
        self.receive_window = yamux.INITIAL_WINDOW
        self._read_since = 0
        self.window = window
        self.send_window = yamux.INITIAL_WINDOW
        self.finished_here = False
        self.finished_there = False
        self.acknowledged = False
        # Why it ended before its time.
        self._error: type[PeerClosedError] | None = None
        self._reason = ""
        # What was proposed, while the answer has not been read.
        self._proposal: Proposal | None = None
        # Since when what arrives is dropped, None where it is not.
        self.draining_since: float | None = None

    @property
    def peer_id(self) -> PeerId:
        """The peer at the other end."""
        return self._connection.peer_id

    # Called by the connection, which holds the lock.

    def receive(self, piece: memoryview) -> None:
        """Keeps what has arrived."""
        if self.draining_since is not None:
            return
        self._arrived.push(piece)
        self._connection.unread += len(piece)
        if self._arrived.size >= self._wanted:
            self._changed.notify_all()

    def finish(self) -> None:
        """Notes that the peer sends no more."""
        self.finished_there = True
        self._changed.notify_all()

    def allow(self, count: int) -> None:
        """Lets this side send more bytes."""
        self.send_window += count
        self._changed.notify_all()

    def fail(self, reason: str) -> None:
        """Ends the stream; calls that wait raise."""
        if self._error is None:
            self._error, self._reason = PeerClosedError, reason
        self.finished_there = self.finished_here = True
        self._changed.notify_all()

    def drain(self) -> None:
        """Drops what has arrived, and what will."""
        self.draining_since = time.monotonic()
        self.drop()

    def drop(self) -> None:
        """Drops what has arrived."""
        self._connection.unread -= self._arrived.size
        self._arrived.clear()

    def leave_to_parent(self) -> None:
        """Makes the stream unusable in a child process, with locks that no thread of the parent holds."""
        self._changed = threading.Condition(self._connection.lock)
        self._writing = threading.Lock()
        self.fail(f"a stream to peer {self._connection.peer} belongs to another process")

    def credit(self, taken: int) -> int:
        """Returns how many more bytes to allow the peer, once that is worth a frame."""
        self._read_since += taken
        if self.finished_there or self._read_since < self.window // 2:
            return 0
        credit, self._read_since = self._read_since, 0
        self.receive_window += credit
        return credit

    def grow(self, window: int) -> int:
        """Lets the peer have more under way from now on; returns how many bytes more."""
        more = window - self.window
        self.window = window
        self.receive_window += more
        return more

    # Called by the connection, which does not hold the lock.

    def propose(self, proposal: Proposal) -> None:
        """Notes what was proposed to the peer."""
        self._proposal = proposal

    def agree(self, end: float) -> None:
        """Reads the answer of the peer to what was proposed.

        Raises:
            ProtocolNotSupportedError: It supports none of that.
            PeerProtocolError: It does not follow the protocol.
            TransportTimeoutError: It did not answer in time.
        """
        proposal, received = self._proposal, bytearray()
        assert proposal is not None
        while proposal.chosen is None:
            with self._changed:
                if not self._wait_for_data(1, end):
                    self._raise_late("sent no answer to what was proposed")
                    raise PeerClosedError(f"peer {self._connection.peer} ended a stream at once")
                received += self._pop(self._arrived.size)
            try:
                reply = proposal.receive(received)
            except FormatError as error:
                self.reset()
                raise PeerProtocolError(
                    f"peer {self._connection.peer} broke multistream-select: {error}"
                ) from None
            if proposal.refused:
                raise ProtocolNotSupportedError(
                    f"peer {self._connection.peer} supports none of {', '.join(proposal.protocols)}"
                )
            if reply:
                self.write(reply, timeout=end - time.monotonic())
        self._proposal = None
        self.protocol = proposal.chosen
        with self._changed:
            self._connection.unread += len(received)
            self._arrived.put_back(bytes(received))

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error(self._reason)

    # Called by users.

    def read_exact(self, size: int, *, timeout: float | None = None) -> bytes:
        """Returns exactly so many bytes.

        Args:
            size: How many; the caller bounds it.
            timeout: Seconds for the whole call.

        Raises:
            PeerClosedError: The stream ends before.
            TransportTimeoutError: The bytes did not arrive in time.
        """
        end = self._end(timeout)
        if self._proposal is not None:
            self.agree(end)
        pieces: list[bytes] = []
        left = size
        while left:
            with self._changed:
                # The peer may always send half of the window beyond what was read.
                wanted = min(left, self.window // 2)
                if not self._wait_for_data(wanted, end):
                    have = size - left + self._arrived.size
                    self._raise_late(f"sent {have:,} of {size:,} bytes")
                    raise PeerClosedError(
                        f"peer {self._connection.peer} ended a stream of {self.protocol} after "
                        f"{have:,} of {size:,} bytes"
                    )
                pieces.append(self._pop(left))
                left -= len(pieces[-1])
                credit = self.credit(len(pieces[-1]))
            if credit:
                self._connection.answer(yamux.frame(yamux.WINDOW_UPDATE, 0, self.number, credit))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_message(self, limit: int, *, timeout: float | None = None) -> bytes:
        """Returns the next message: a varint of its length, and so many bytes.

        Args:
            limit: Bytes that it may have at the most.
            timeout: Seconds for the whole call.

        Raises:
            PeerProtocolError: It is longer, or its length is malformed; the stream is reset.
            PeerClosedError: The stream ends before.
            TransportTimeoutError: It did not arrive in time.
        """
        end = self._end(timeout)
        size = shift = 0
        while True:
            [byte] = self.read_exact(1, timeout=end - time.monotonic())
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                break
            if shift >= 7 * _MAX_PREFIX:
                self.reset()
                raise PeerProtocolError(
                    f"peer {self._connection.peer} sent a message of {self.protocol} without a length"
                )
        if size > limit:
            self.reset()
            raise PeerProtocolError(
                f"peer {self._connection.peer} sent a message of {self.protocol} of {size:,} bytes, more "
                f"than {limit:,}"
            )
        return self.read_exact(size, timeout=end - time.monotonic())

    def read_messages(self, limit: int, *, timeout: float | None = None) -> Iterator[bytes]:
        """Yields messages until the peer ends the stream between two of them; see `read_message`."""
        while not self.at_end(timeout=timeout):
            yield self.read_message(limit, timeout=timeout)

    def at_end(self, *, timeout: float | None = None) -> bool:
        """Returns whether the peer has ended the stream and all was read; waits for what comes next.

        Raises:
            PeerClosedError: The stream was reset.
            TransportTimeoutError: Nothing came in time.
        """
        end = self._end(timeout)
        if self._proposal is not None:
            self.agree(end)
        with self._changed:
            if self._wait_for_data(1, end):
                return False
            self._raise_late("sent nothing")
            return True

    def write(self, data: bytes | memoryview, *, timeout: float | None = None) -> None:
        """Sends data; returns when the operating system has taken them.

        Raises:
            PeerClosedError: The stream has ended.
            TransportTimeoutError: The peer took no more in time.
        """
        end = self._end(timeout)
        if not self._writing.acquire(timeout=_seconds_until(end)):
            raise TransportTimeoutError(f"peer {self._connection.peer} takes no more data")
        try:
            view = memoryview(data)
            position = 0
            while position < len(view):
                count = self._reserve(min(_MAX_FRAME, len(view) - position), end)
                piece = view[position : position + count]
                head = yamux.frame(yamux.DATA, 0, self.number, count)
                self._connection.send(head + piece, end)
                position += count
        finally:
            self._writing.release()

    def _reserve(self, wanted: int, end: float) -> int:
        with self._changed:
            while not self.send_window or self.finished_here:
                self._raise_error()
                if self.finished_here:
                    raise PeerClosedError(
                        f"a stream to peer {self._connection.peer} was closed here"
                    )
                if not self._changed.wait(_seconds_until(end)) and time.monotonic() >= end:
                    raise TransportTimeoutError(
                        f"peer {self._connection.peer} takes no more data on a stream of {self.protocol}"
                    )
            count = min(wanted, self.send_window)
            self.send_window -= count
            return count

    def write_message(self, data: bytes, *, timeout: float | None = None) -> None:
        """Sends a message: a varint of its length, and the data; see `write`."""
        self.write(delimited(data), timeout=timeout)

    def close_write(self) -> None:
        """Tells the peer that nothing more is sent; reading continues."""
        with self._changed:
            if self.finished_here:
                return
            self.finished_here = True
            self._connection.forget_finished(self)
        self._connection.answer(yamux.frame(yamux.DATA, yamux.FIN, self.number, 0))

    def close(self) -> None:
        """Ends the stream: what was written still arrives, what the peer sends is dropped."""
        self.close_write()
        with self._changed:
            self.drain()

    def reset(self) -> None:
        """Ends the stream at once, in both directions."""
        with self._changed:
            if self.finished_here and self.finished_there:
                return
            self.fail(f"a stream to peer {self._connection.peer} was reset here")
            self.drop()
            self._connection.forget_reset(self)
        self._connection.answer(yamux.frame(yamux.WINDOW_UPDATE, yamux.RST, self.number, 0))

    def _end(self, timeout: float | None) -> float:
        seconds = self.timeout if timeout is None else timeout
        left = time_left()
        return time.monotonic() + (left if seconds is None else min(seconds, left))

    def _pop(self, count: int) -> bytes:
        data = self._arrived.pop(count)
        self._connection.unread -= len(data)
        return data

    def _wait_for_data(self, wanted: int, end: float) -> bool:
        """Waits until so many bytes have arrived; returns whether they have.

        They have not where the peer has ended the stream, or the time is over.

        Raises:
            PeerClosedError: The stream was reset.
        """
        self._wanted = wanted
        while self._arrived.size < wanted and not self.finished_there:
            if not self._changed.wait(_seconds_until(end)) and time.monotonic() >= end:
                break
        self._wanted = 1
        if self._arrived.size >= wanted:
            return True
        self._raise_error()
        return False

    def _raise_late(self, so_far: str) -> None:
        """Raises where it is the time that is over, not the stream."""
        if not self.finished_there:
            raise TransportTimeoutError(
                f"peer {self._connection.peer} {so_far} on a stream of "
                f"{self.protocol or 'no protocol yet'} in time"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _seconds_until(end: float) -> float:
    """Returns the time until a moment as locks take it: not negative, not infinite."""
    return min(max(0.0, end - time.monotonic()), threading.TIMEOUT_MAX)
