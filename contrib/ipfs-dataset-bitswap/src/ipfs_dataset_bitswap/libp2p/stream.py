"""One stream of a connection: bytes in both directions, each with a window that bounds what waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.libp2p import yamux
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

    from ipfs_dataset_bitswap.libp2p.connection import PeerConnection
    from ipfs_dataset_bitswap.libp2p.multistream import Proposal
    from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

# A data frame of this size fills one Noise message.
_MAX_FRAME = MAX_PLAIN - yamux.HEADER_SIZE
_MAX_PREFIX = 9


class Stream:
    """A stream that either side has opened. One thread reads and one writes at a time.

    Each call ends with the deadline in force, or after `timeout` seconds, whichever comes first.

    Attributes:
        number: Its number in the connection.
        protocol: The protocol that was agreed on.
        timeout: Seconds that one call may take where it is given none; None for no such limit.
    """

    def __init__(
        self, connection: PeerConnection, number: int, *, window: int, timeout: float | None
    ) -> None:
        self.number = number
        self.protocol = ""
        self.timeout = timeout
        self._connection = connection
        self._changed = threading.Condition(connection.lock)
        self._writing = threading.Lock()
        # What has arrived and was not read yet.
        self._chunks: deque[memoryview] = deque()
        # How many bytes the peer may still send, how many were read since it was allowed more, and how many
        # it may have under way at once.
        self.receive_window = yamux.INITIAL_WINDOW
        self._read_since = 0
        self.window = window
        self.send_window = yamux.INITIAL_WINDOW
        self.finished_here = False
        self.finished_there = False
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
        self._chunks.append(piece)
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
        self._chunks.clear()

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
                self._wait_for_data(end, "no answer to what was proposed")
                if not self._chunks:
                    raise PeerClosedError(f"peer {self._connection.peer} ended a stream at once")
                while self._chunks:
                    received += self._chunks.popleft()
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
        if received:
            with self._changed:
                self._chunks.appendleft(memoryview(bytes(received)))

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
        pieces: list[memoryview] = []
        left = size
        while left:
            with self._changed:
                self._wait_for_data(end, f"{size - left:,} of {size:,} bytes")
                if not self._chunks:
                    raise PeerClosedError(
                        f"peer {self._connection.peer} ended a stream of {self.protocol} after "
                        f"{size - left:,} of {size:,} bytes"
                    )
                taken = self._take(left, pieces)
                left -= taken
                credit = self.credit(taken)
            self._allow_more(credit, end)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

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
            self._wait_for_data(end, "nothing")
            return not self._chunks

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
        self._connection.send(
            yamux.frame(yamux.DATA, yamux.FIN, self.number, 0), self._end(None), quiet=True
        )

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
            self._connection.forget_reset(self)
        self._connection.send(
            yamux.frame(yamux.WINDOW_UPDATE, yamux.RST, self.number, 0), self._end(None), quiet=True
        )

    def _end(self, timeout: float | None) -> float:
        seconds = self.timeout if timeout is None else timeout
        left = time_left()
        return time.monotonic() + (left if seconds is None else min(seconds, left))

    def _wait_for_data(self, end: float, so_far: str) -> None:
        while not self._chunks and not self.finished_there:
            if not self._changed.wait(_seconds_until(end)) and time.monotonic() >= end:
                raise TransportTimeoutError(
                    f"peer {self._connection.peer} sent {so_far} on a stream of {self.protocol} in time"
                )
        if not self._chunks:
            self._raise_error()

    def _take(self, wanted: int, pieces: list[memoryview]) -> int:
        """Moves at most so many bytes of what has arrived to a list; returns how many."""
        taken = 0
        while self._chunks and taken < wanted:
            chunk = self._chunks[0]
            room = wanted - taken
            if len(chunk) > room:
                pieces.append(chunk[:room])
                self._chunks[0] = chunk[room:]
                taken += room
            else:
                pieces.append(chunk)
                taken += len(chunk)
                self._chunks.popleft()
        return taken

    def _allow_more(self, credit: int, end: float) -> None:
        if credit:
            self._connection.send(
                yamux.frame(yamux.WINDOW_UPDATE, 0, self.number, credit), end, quiet=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _seconds_until(end: float) -> float:
    """Returns the time until a moment as locks take it: not negative, not infinite."""
    return min(max(0.0, end - time.monotonic()), threading.TIMEOUT_MAX)
