"""Streams that the peer opens: protocol negotiation and dispatch to handlers."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.libp2p import identify, yamux
from ipfs_dataset_bitswap.libp2p.errors import PeerProtocolError
from ipfs_dataset_bitswap.libp2p.messages import MessageAssembler, MessageHandler, delimited
from ipfs_dataset_bitswap.libp2p.multistream import Selection
from ipfs_dataset_bitswap.libp2p.stream import Stream
from ipfs_dataset_core import FormatError, TransportError

if TYPE_CHECKING:
    from ipfs_dataset_bitswap.libp2p.identity import Identity

AGENT = "ipfs-dataset/0.1.0"
# Number of threads that handle streams of the peer; further streams wait.
MAX_HANDLERS = 16
# Number of bytes that may be in transit on a stream on which data is expected.
STREAM_WINDOW = 2 << 20
# Maximum number of bytes of unfinished messages on all streams of a connection, and of all connections
# together.
MAX_UNFINISHED = 32 << 20
MAX_UNFINISHED_IN_ALL = 128 << 20
# Maximum number of messages in one piece of received data, which is at most one Noise message.
MAX_MESSAGES_AT_ONCE = 4096

_log = logging.getLogger(__name__)

InboundHandler = Callable[[Stream], None]

Inbound = Mapping[str, "InboundHandler | MessageHandler"]


class _Inbound:
    """A stream that the peer has opened and that no thread of this side reads.

    Attributes:
        selection: The negotiation of its protocol; None once that has ended.
        buffer: Received data of the negotiation.
        since: The time at which the stream was opened.
        handler: The handler of its messages.
        assembler: Splits the data into messages.
    """

    __slots__ = ("assembler", "buffer", "handler", "selection", "since")

    def __init__(self, selection: Selection) -> None:
        self.selection: Selection | None = selection
        self.buffer = bytearray()
        self.since = time.monotonic()
        self.handler: MessageHandler | None = None
        self.assembler = MessageAssembler(0)


class _Unfinished:
    """Counts the bytes of unfinished messages of all connections of the process. Thread-safe.

    Otherwise many peers could each stay below the limit of one connection, and take much memory together.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0
        self._connections = 0

    def join(self) -> None:
        """Adds a connection."""
        with self._lock:
            self._connections += 1

    def leave(self, held: int) -> None:
        """Removes a connection with the bytes that it holds."""
        with self._lock:
            self._connections -= 1
            self._total -= held

    def add(self, count: int) -> None:
        """Records that a connection holds more bytes, or fewer."""
        with self._lock:
            self._total += count

    def is_too_much(self, held: int) -> bool:
        """Returns whether a connection must give way: the total and its own part are too large."""
        if self._total <= MAX_UNFINISHED_IN_ALL:
            return False
        return held > MAX_UNFINISHED_IN_ALL // max(1, self._connections)


_unfinished = _Unfinished()


class InboundStreams:
    """The streams of one connection that the peer has opened and that no thread of this side reads.

    Each begins with a negotiation. Then it is either answered at once (identify), passed to a function in a
    thread of its own, or its messages are passed to a `MessageHandler` until the peer ends it.

    The connection holds its lock while calling the methods, except for `handle`. Methods that return bytes
    return frames to send.

    Args:
        peer: The name of the peer in messages.
        identity: The identity of this process.
        handlers: The handler of streams, by protocol.
        lock: The lock of the connection.

    Attributes:
        unfinished: Number of bytes of unfinished messages on all streams.
    """

    def __init__(
        self, peer: str, identity: Identity, handlers: Inbound, lock: threading.Lock
    ) -> None:
        self.unfinished = 0
        self._peer = peer
        self._identity = identity
        self._handlers = handlers
        self._protocols = frozenset([*handlers, identify.PROTOCOL])
        self._lock = lock
        self._streams: dict[int, _Inbound] = {}
        # Received messages to handle once the lock is released.
        self._messages: list[tuple[MessageHandler, bytes]] = []
        self._negotiated: deque[tuple[InboundHandler, Stream]] = deque()
        self._threads = 0
        self._is_open = True
        _unfinished.join()

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream: Stream) -> bool:
        return stream.number in self._streams

    def add(self, stream: Stream) -> None:
        """Adds a stream that the peer has opened."""
        self._streams[stream.number] = _Inbound(Selection(self._protocols))

    def discard(self, stream: Stream) -> None:
        """Forgets a stream, if it is one of these."""
        inbound = self._streams.pop(stream.number, None)
        if inbound is not None:
            self._hold(-inbound.assembler.waiting)

    def close(self) -> None:
        """Forgets all streams, when the connection ends."""
        self._streams.clear()
        if self._is_open:
            self._is_open = False
            _unfinished.leave(self.unfinished)
            self.unfinished = 0

    def _hold(self, more: int) -> None:
        """Records that unfinished messages have more bytes, or fewer."""
        if self._is_open:
            self.unfinished += more
            _unfinished.add(more)

    def unnegotiated(self, since: float) -> list[int]:
        """Returns the numbers of streams opened before a time that have not agreed on a protocol."""
        return [
            number
            for number, inbound in self._streams.items()
            if inbound.selection is not None and inbound.since < since
        ]

    def receive(self, stream: Stream, piece: memoryview) -> bytes:
        """Processes data received on one of the streams.

        Raises:
            PeerProtocolError: The data violates the protocol.
        """
        inbound = self._streams[stream.number]
        if inbound.selection is not None:
            return self._select(stream, inbound, inbound.selection, piece)
        return self._assemble(stream, inbound, piece)

    def end(self, stream: Stream) -> bytes:
        """Ends one of the streams after the peer has ended it.

        Raises:
            PeerProtocolError: The peer ended it within a message.
        """
        if not self._streams[stream.number].assembler.is_between:
            raise PeerProtocolError(
                f"peer {self._peer} ended a stream of {stream.protocol} within a message"
            )
        if stream.finished_here:
            return b""
        stream.finished_here = True
        return yamux.frame(yamux.DATA, yamux.FIN, stream.number, 0)

    def handle(self) -> None:
        """Passes messages to their handlers, and starts threads for streams, up to the maximum number."""
        if self._negotiated:
            with self._lock:
                count = min(len(self._negotiated), MAX_HANDLERS - self._threads)
                self._threads += count
            for _ in range(count):
                start_thread(f"streams of {self._peer}", self._handle_streams)
        if self._messages:
            messages, self._messages = self._messages, []
            for handler, message in messages:
                handler.receive(message)

    def _select(
        self, stream: Stream, inbound: _Inbound, selection: Selection, piece: memoryview
    ) -> bytes:
        """Negotiates the protocol of a stream."""
        inbound.buffer += piece
        try:
            reply = selection.receive(inbound.buffer)
        except FormatError as error:
            raise PeerProtocolError(
                f"peer {self._peer} broke multistream-select: {error}"
            ) from None
        if selection.chosen is None:
            return self._reply(stream, reply)
        stream.protocol = selection.chosen
        rest = memoryview(bytes(inbound.buffer))
        inbound.selection, inbound.buffer = None, bytearray()
        handler = self._handlers.get(stream.protocol)
        if isinstance(handler, MessageHandler):
            # Nothing else will be sent on the stream.
            stream.finished_here = True
            inbound.handler, inbound.assembler = handler, MessageAssembler(handler.limit)
            return self._last_reply(stream, reply) + self._assemble(stream, inbound, rest)
        del self._streams[stream.number]
        if handler is None:
            message = identify.own_message(self._identity, AGENT, self._protocols)
            stream.finished_here = True
            stream.drain()
            return self._last_reply(stream, reply + delimited(message))
        frames = self._reply(stream, reply) + _grow(stream)
        stream.receive(rest)
        self._negotiated.append((handler, stream))
        return frames

    def _reply(self, stream: Stream, data: bytes) -> bytes:
        """Responds on a stream that is being negotiated; the first response acknowledges the stream."""
        if not data:
            return b""
        flags = 0 if stream.acknowledged else yamux.ACK
        stream.acknowledged = True
        stream.send_window -= len(data)
        if stream.send_window < 0:
            raise PeerProtocolError(
                f"peer {self._peer} does not read the answers to its negotiation"
            )
        return yamux.frame(yamux.DATA, flags, stream.number, len(data)) + data

    def _last_reply(self, stream: Stream, data: bytes) -> bytes:
        """Responds, and ends this side of the stream.

        The end has a frame of its own, because js-libp2p ends a stream before it processes data in the same
        frame.
        """
        return self._reply(stream, data) + yamux.frame(yamux.DATA, yamux.FIN, stream.number, 0)

    def _assemble(self, stream: Stream, inbound: _Inbound, piece: memoryview) -> bytes:
        """Splits data received on a stream into messages, and allows the peer to send as much again."""
        handler, assembler = inbound.handler, inbound.assembler
        assert handler is not None
        before = assembler.waiting
        try:
            messages = assembler.feed(piece)
        except FormatError as error:
            raise PeerProtocolError(f"peer {self._peer} broke {stream.protocol}: {error}") from None
        if len(messages) > MAX_MESSAGES_AT_ONCE:
            raise PeerProtocolError(
                f"peer {self._peer} floods with tiny messages: {len(messages):,} in {len(piece):,} bytes"
            )
        self._hold(assembler.waiting - before)
        if self.unfinished > MAX_UNFINISHED or _unfinished.is_too_much(self.unfinished):
            raise PeerProtocolError(
                f"peer {self._peer} sends {self.unfinished:,} bytes of messages and ends none of them"
            )
        self._messages += [(handler, message) for message in messages]
        frames = b""
        if (assembler.expected or 0) > stream.window // 2 and stream.window < STREAM_WINDOW:
            frames = _grow(stream)
        credit = stream.credit(len(piece))
        if credit:
            frames += yamux.frame(yamux.WINDOW_UPDATE, 0, stream.number, credit)
        return frames

    def _handle_streams(self) -> None:
        """Handles streams until none waits; the body of a thread."""
        while True:
            with self._lock:
                if not self._negotiated:
                    self._threads -= 1
                    return
                handler, stream = self._negotiated.popleft()
            try:
                handler(stream)
            except TransportError as error:
                _log.debug("a stream of %s: %s", stream.protocol, error)
                stream.reset()
            except Exception:  # noqa: BLE001 - nobody waits for the thread
                _log.exception("the handler of %s failed", stream.protocol)
                stream.reset()
            else:
                stream.close()


def _grow(stream: Stream) -> bytes:
    """Allows a stream more than the initial window, once data are expected on it."""
    more = stream.grow(STREAM_WINDOW)
    return yamux.frame(yamux.WINDOW_UPDATE, 0, stream.number, more)


def start_thread(name: str, work: Callable[..., None], *args: object) -> threading.Thread:
    """Returns a thread that was started, with no deadline: free-threaded Python copies that of the caller.

    Raises:
        TransportError: The system starts no more threads.
    """
    thread = threading.Thread(target=Context().run, args=(work, *args), name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise TransportError(
            f"the system starts no more threads: {error}", retryable=True
        ) from None
    return thread


def _forget_in_child() -> None:
    global _unfinished  # noqa: PLW0603 - connections belong to the parent, and so does the lock
    _unfinished = _Unfinished()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
