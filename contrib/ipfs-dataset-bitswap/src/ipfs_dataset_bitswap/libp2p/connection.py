"""Outgoing connections to peers, encrypted, with many streams."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from ipfs_dataset_bitswap.libp2p import identify, yamux
from ipfs_dataset_bitswap.libp2p.address import resolve
from ipfs_dataset_bitswap.libp2p.errors import (
    PeerClosedError,
    PeerProtocolError,
)
from ipfs_dataset_bitswap.libp2p.handshake import agree_on_yamux, secure
from ipfs_dataset_bitswap.libp2p.hosts import look_up
from ipfs_dataset_bitswap.libp2p.inbound import InboundStreams, start_thread
from ipfs_dataset_bitswap.libp2p.multistream import Proposal
from ipfs_dataset_bitswap.libp2p.stream import Stream
from ipfs_dataset_core import (
    FormatError,
    TransportError,
    TransportTimeoutError,
    is_public_address,
    time_left,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_bitswap.libp2p.address import PeerAddress
    from ipfs_dataset_bitswap.libp2p.hosts import Found
    from ipfs_dataset_bitswap.libp2p.identity import Identity
    from ipfs_dataset_bitswap.libp2p.inbound import Inbound
    from ipfs_dataset_bitswap.libp2p.secure_channel import SecureChannel

# Maximum number of concurrent streams opened by the peer, and by this side. Kubo sends each message on a
# stream of its own, which ends a round trip later: thousands of small blocks a second from far away take
# hundreds of streams.
MAX_INBOUND_STREAMS = 1024
MAX_OUTBOUND_STREAMS = 256
# Maximum number of bytes that have arrived on all streams of a connection and were not read.
MAX_UNREAD = 64 << 20
# Maximum number of stream numbers that the peer has skipped, and may still use.
MAX_SKIPPED_NUMBERS = 1024
# Seconds in which a stream that the peer opened must be negotiated, and one that was closed here must be
# ended by the peer.
STREAM_PATIENCE = 30.0
# Seconds without anything received after which a connection in use is tested with a ping, and closed.
KEEP_ALIVE = 15.0
IDLE_TIMEOUT = 120.0
_MAX_NUMBER = 1 << 31
# Maximum number of frames without content, in a burst and per second.
_FREE_FRAMES = 50_000
_FREE_FRAMES_PER_SECOND = 20_000.0
# From this many bytes on, the content of a frame dominates its cost, and also covers the frames around it: a
# message on a stream of its own needs three.
_CONTENT = 64
_FRAMES_PER_CONTENT = 4
# Seconds between checks for timeouts.
_CHECK = 5.0

_log = logging.getLogger(__name__)


class Dialling:
    """The dials of one client that are in progress. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socks: set[socket.socket] = set()
        self._is_closed = False

    def begin(self, sock: socket.socket) -> None:
        """Adds a socket that is about to be connected.

        Raises:
            PeerClosedError: Dialling has ended.
        """
        with self._lock:
            if self._is_closed:
                raise PeerClosedError("dialling has ended: it was closed here")
            self._socks.add(sock)

    def end(self, sock: socket.socket) -> None:
        """Removes a socket whose connection was made or has failed."""
        with self._lock:
            self._socks.discard(sock)

    def close(self) -> None:
        """Ends all dials soon, and rejects new ones."""
        with self._lock:
            self._is_closed = True
            for sock in self._socks:
                with contextlib.suppress(
                    OSError
                ):  # not connected yet, which some systems report as an error
                    sock.shutdown(socket.SHUT_RDWR)


def dial(
    address: PeerAddress,
    *,
    identity: Identity,
    timeout: float,
    inbound: Inbound | None = None,
    idle_timeout: float = IDLE_TIMEOUT,
    public_only: bool = False,
    dialling: Dialling | None = None,
) -> PeerConnection:
    """Connects to a peer, and verifies that it has the peer ID of the address.

    Args:
        address: The address of the peer.
        identity: The identity of this process.
        timeout: Seconds until the connection must be usable; the current deadline may be earlier.
        inbound: Protocols of streams that the peer may open, each with its handler: a function that is called
            with the stream in a thread of its own, or a `MessageHandler`. All other streams are rejected.
        idle_timeout: Seconds without data on any stream after which the connection is closed.
        public_only: Whether to connect only to addresses of the public internet.
        dialling: Can end the attempt early.

    Raises:
        PeerIdentityError: There is another peer at the address.
        PeerProtocolError: The peer violated a protocol.
        ProtocolNotSupportedError: It supports neither Noise nor yamux.
        TransportTimeoutError: It took too long.
        TransportError: It cannot be reached.
    """
    end = time.monotonic() + min(timeout, time_left())
    addresses = resolve(address, timeout=end - time.monotonic())
    dialling = dialling or Dialling()
    failure: TransportError | None = None
    for count, one in enumerate(addresses):
        share = time.monotonic() + (end - time.monotonic()) / (len(addresses) - count)
        try:
            channel, received = _reach(
                one, identity, share, public_only=public_only, dialling=dialling
            )
        except TransportError as error:
            failure = error
            continue
        try:
            return PeerConnection(
                channel,
                one,
                peer=_describe(one),
                identity=identity,
                inbound=dict(inbound or {}),
                timeout=timeout,
                idle_timeout=idle_timeout,
                received=received,
            )
        except BaseException:  # for example if no thread can be started
            channel.close()
            raise
    assert failure is not None
    raise failure


def _describe(address: PeerAddress) -> str:
    return f"{address.peer_id} at {address.host}:{address.port}"


def _reach(
    address: PeerAddress,
    identity: Identity,
    end: float,
    *,
    public_only: bool,
    dialling: Dialling,
) -> tuple[SecureChannel, bytes]:
    """Returns a channel to a peer, on which yamux was agreed, and the data that has already arrived on it."""
    sock, peer = _connect(address, end, dialling, public_only=public_only), _describe(address)
    try:
        channel, has_yamux = secure(sock, address.peer_id, identity, peer=peer, end=end)
        return channel, b"" if has_yamux else agree_on_yamux(channel, peer, end)
    except BaseException:
        sock.close()
        raise
    finally:
        dialling.end(sock)


_FAMILIES = {
    "ip4": socket.AF_INET,
    "dns4": socket.AF_INET,
    "ip6": socket.AF_INET6,
    "dns6": socket.AF_INET6,
}


def _connect(
    address: PeerAddress, end: float, dialling: Dialling, *, public_only: bool
) -> socket.socket:
    found = _addresses(address, end)
    if public_only:
        found = [one for one in found if is_public_address(str(one[4][0]))]
        if not found:
            raise TransportError(
                f"peer {address} has no address of the public internet", final=True
            )
    reason: OSError | None = None
    for count, (family, *_, target) in enumerate(found):
        left = (end - time.monotonic()) / (len(found) - count)
        if left <= 0:
            break
        try:
            return _connected(family, (target[0], address.port, *target[2:]), left, dialling)
        except PeerClosedError:
            raise
        except OSError as error:
            reason = error
    if reason is None or isinstance(reason, TimeoutError):
        raise TransportTimeoutError(f"peer {address} does not answer: no connection in time")
    raise TransportError(
        f"peer {address} cannot be reached: {reason.strerror or reason}", retryable=True
    )


def _addresses(address: PeerAddress, end: float) -> list[Found]:
    """Returns the IP addresses of the host of an address."""
    family = _FAMILIES.get(address.protocol, socket.AF_UNSPEC)
    if address.protocol in ("ip4", "ip6"):
        try:
            return socket.getaddrinfo(
                address.host, None, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except OSError as error:  # a zone that does not exist on this machine
            raise TransportError(f"peer {address} cannot be reached: {error.strerror}") from None
    try:
        return look_up(address.host, family, end)
    except TransportTimeoutError as error:
        raise TransportTimeoutError(f"peer {address}: {error}") from None
    except TransportError as error:
        raise TransportError(f"peer {address}: {error}", retryable=True) from None


def _connected(
    family: int, target: tuple[Any, ...], seconds: float, dialling: Dialling
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        dialling.begin(sock)
        sock.settimeout(seconds)
        sock.connect(target)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        dialling.end(sock)
        sock.close()
        raise
    return sock


class PeerConnection:
    """A connection to one peer, shared by any number of threads; created by `dial`.

    It belongs to the process that dialled: after a fork, the child cannot use it.

    Attributes:
        peer_id: The verified ID of the peer.
        peer: The name of the peer in messages: its ID and address.
        address: The address that was dialled.
        unread: Number of bytes on all streams that have arrived and were not read yet.
        received_bytes: Number of bytes on all streams that have arrived, or are in frames that began to
            arrive.
    """

    def __init__(
        self,
        channel: SecureChannel,
        address: PeerAddress,
        *,
        peer: str,
        identity: Identity,
        inbound: Inbound,
        timeout: float,
        idle_timeout: float,
        received: bytes,
    ) -> None:
        self.peer_id = address.peer_id
        self.peer = peer
        self.address = address
        self.received_bytes = 0
        self.lock = threading.Lock()
        self._channel = channel
        self._inbound = InboundStreams(peer, identity, inbound, self.lock)
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._streams: dict[int, Stream] = {}
        self._numbers = itertools.count(1, 2)
        self._last_number = -1
        self._last_of_peer = 0
        self._skipped: set[int] = set()
        self._outbound_count = 0
        # Number of bytes that the peer may still send on streams that were reset here, in total.
        self._discardable = 0
        # Protocols that were already agreed on.
        self._supported: set[str] = set()
        self._going_away = False
        self._error: tuple[type[TransportError], str] | None = None
        self._info: identify.PeerInfo | None = None
        self._identifying = threading.Lock()
        now = time.monotonic()
        self._last_data = self._last_received = now
        self._pinged: float | None = None
        # For `round_trip`: the number of pings sent, and the times at which they were answered.
        self._pings = 0
        self._pongs: dict[int, float] = {}
        self._ponged = threading.Condition(self.lock)
        self._checked = now
        self._free_frames = float(_FREE_FRAMES)
        self._free_since = now
        self._parser = yamux.FrameParser()
        self._current: Stream | None = None
        self._ending = self._left = 0
        # Frames to send in response to the chunks that are being processed.
        self._answers = bytearray()
        self.unread = 0
        self._process = os.getpid()
        _connections.add(self)
        try:
            self._thread = start_thread(f"peer {self.peer_id}", self.run, received)
        except TransportError:
            self._inbound.close()
            raise

    # Used by callers.

    @property
    def is_open(self) -> bool:
        """Whether streams can be opened."""
        return self._error is None and not self._going_away

    @property
    def agent(self) -> str:
        """The software of the peer, as it reports; "" if it reports none."""
        return self.info().agent

    @property
    def protocols(self) -> frozenset[str]:
        """The protocols of the peer, as it reports."""
        return self.info().protocols

    def info(self) -> identify.PeerInfo:
        """Returns the peer's information about itself, requested once.

        Raises:
            TransportError: The peer sends none, or it is malformed.
        """
        with self._identifying:
            if self._info is None:
                stream = self.open_stream([identify.PROTOCOL], timeout=self._timeout)
                try:
                    stream.close_write()
                    self._info = identify.parse(stream.read_messages(identify.MAX_MESSAGE))
                except FormatError as error:
                    raise PeerProtocolError(f"peer {self.peer}: {error}") from None
                finally:
                    stream.close()
            return self._info

    def round_trip(self) -> float:
        """Returns the duration of a ping in seconds.

        Raises:
            TransportTimeoutError: No response came in time.
            PeerClosedError: The connection has ended.
        """
        end = time.monotonic() + min(self._timeout, time_left())
        with self._ponged:
            self._check_open(for_new=False)
            self._pings += 1
            number = self._pings
            begun = time.monotonic()
            self._channel.queue(yamux.frame(yamux.PING, yamux.SYN, 0, number))
            while number not in self._pongs:
                self._check_open(for_new=False)
                left = end - time.monotonic()
                if left <= 0:
                    raise TransportTimeoutError(f"peer {self.peer} has not answered a ping in time")
                self._ponged.wait(left)
            return self._pongs.pop(number) - begun

    def open_stream(self, protocols: Sequence[str], *, timeout: float) -> Stream:
        """Opens a stream with the first of several protocols that the peer supports.

        Args:
            protocols: The protocols, in order of preference.
            timeout: Seconds for this call, and for each call of the stream.

        Raises:
            ProtocolNotSupportedError: The peer supports none of them.
            PeerClosedError: The connection has ended.
            TransportTimeoutError: The peer did not respond in time.
        """
        end = time.monotonic() + min(timeout, time_left())
        proposal = Proposal(protocols)
        with self.lock:
            self._check_open()
            if self._outbound_count >= MAX_OUTBOUND_STREAMS:
                raise TransportError(
                    f"peer {self.peer} has {self._outbound_count} open streams of this process",
                    retryable=True,
                )
            number = next(self._numbers)
            if number >= _MAX_NUMBER:
                raise PeerClosedError(f"the connection to peer {self.peer} has no stream left")
            self._last_number = number
            self._outbound_count += 1
            stream = Stream(self, number, window=yamux.INITIAL_WINDOW, timeout=timeout)
            self._streams[number] = stream
            self._last_data = time.monotonic()
            first = proposal.start()
            stream.send_window -= len(first)
            # Under the lock, because the numbers of new streams must arrive in order.
            self._channel.queue(
                yamux.frame(yamux.WINDOW_UPDATE, yamux.SYN, number, 0)
                + yamux.frame(yamux.DATA, 0, number, len(first))
                + first
            )
        stream.propose(proposal)
        if protocols[0] in self._supported:
            # The protocol was agreed on before, so the response is read with the data after it, which saves a
            # round trip.
            stream.protocol = protocols[0]
            return stream
        try:
            stream.agree(end)
        except BaseException:
            stream.reset()
            raise
        self._supported.add(stream.protocol)
        return stream

    def close(self) -> None:
        """Closes the connection and all of its streams."""
        self._fail(
            PeerClosedError, f"the connection to peer {self.peer} was closed here", yamux.NORMAL
        )

    # Used by streams.

    def send(self, data: bytes, end: float) -> None:
        """Sends frames with data; see `SecureChannel.send`."""
        self._check_open(for_new=False)
        self._last_data = time.monotonic()
        try:
            self._channel.send(data, end)
        except PeerClosedError:
            with self.lock:
                self._check_open(for_new=False)
            raise

    def answer(self, frames: bytes) -> None:
        """Sends frames on which nothing on this side depends; never waits, and never fails."""
        if self._error is None:
            with contextlib.suppress(TransportError):
                self._channel.queue(frames)

    def forget_finished(self, stream: Stream) -> None:
        """Removes a stream that both sides have ended; the caller holds the lock."""
        if stream.finished_here and stream.finished_there and stream.number in self._streams:
            del self._streams[stream.number]
            self._inbound.discard(stream)
            self._outbound_count -= stream.number % 2

    def forget_reset(self, stream: Stream) -> None:
        """Removes a stream that was reset here, for which more data may be in transit."""
        self._discardable += stream.receive_window
        self.forget_finished(stream)

    # Used by the receiving thread.

    def _check_open(self, *, for_new: bool = True) -> None:
        if self._process != os.getpid():
            raise PeerClosedError(f"the connection to peer {self.peer} belongs to another process")
        if self._error is not None:
            kind, message = self._error
            raise kind(message)
        if for_new and self._going_away:
            raise PeerClosedError(f"peer {self.peer} accepts no more streams on this connection")

    def _fail(self, kind: type[TransportError], message: str, reason: int) -> None:
        with self.lock:
            if self._error is not None:
                return
            self._error = kind, message
            streams = list(self._streams.values())
            self._streams.clear()
            self._inbound.close()
            for stream in streams:
                stream.fail(message)
            self._ponged.notify_all()
        with contextlib.suppress(TransportError):  # if the peer is no longer reading
            self._channel.queue(yamux.frame(yamux.GO_AWAY, 0, 0, reason))
        self._channel.shut_down()

    def receive_once(self) -> None:
        """Receives the data that has arrived, or waits for data until a timeout is due."""
        chunks = self._channel.receive(self._due())
        now = time.monotonic()
        if not chunks:
            self._check_times(now)
            return
        self._last_received, self._pinged = now, None
        self.process(chunks)
        if now - self._checked > self._due():
            self._check_times(now)

    def process(self, chunks: Sequence[bytes]) -> None:
        """Processes the frames in chunks: responds to all of them at once, then starts handlers."""
        with self.lock:
            for chunk in chunks:
                if not chunk:
                    self._count_frame(0)
                for kind, flags, number, content in self._parser.feed(chunk):
                    if kind == yamux.PAYLOAD:
                        assert not isinstance(content, int)
                        self._payload(content)
                    else:
                        assert isinstance(content, int)
                        self._frame(kind, flags, number, content)
        if self._answers:
            answers, self._answers = self._answers, bytearray()
            self._channel.queue(answers)
        self._inbound.handle()

    def _frame(self, kind: int, flags: int, number: int, length: int) -> None:
        self._count_frame(length if kind == yamux.DATA else 0)
        if kind == yamux.PING:
            if flags & yamux.SYN:
                self._answers += yamux.frame(yamux.PING, yamux.ACK, 0, length)
            elif 0 < length <= self._pings and len(self._pongs) < MAX_OUTBOUND_STREAMS:
                self._pongs[length] = time.monotonic()
                self._ponged.notify_all()
            return
        if kind == yamux.GO_AWAY:
            self._going_away = True
            return
        stream = self._find(number, flags)
        if kind == yamux.DATA:
            self.received_bytes += length
            self._current, self._ending = stream, flags & (yamux.FIN | yamux.RST)
            self._charge(stream, length)
            if length:
                self._last_data = self._last_received
                self._left = length
                return
        elif stream is not None and length:
            stream.allow(length)
            if stream.send_window >= 1 << 32:
                raise PeerProtocolError(
                    f"peer {self.peer} allows more data than a stream can carry"
                )
        if stream is not None:
            self._end(stream, flags)

    def _count_frame(self, length: int) -> None:
        """Limits the work caused by frames without content."""
        if length >= _CONTENT:
            self._free_frames = min(_FREE_FRAMES, self._free_frames + _FRAMES_PER_CONTENT)
            return
        self._free_frames -= 1
        if self._free_frames < 0:
            now = time.monotonic()
            gained = (now - self._free_since) * _FREE_FRAMES_PER_SECOND
            self._free_frames = min(_FREE_FRAMES, self._free_frames + gained)
            self._free_since = now
            if self._free_frames < 0:
                raise PeerProtocolError(f"peer {self.peer} floods with frames that carry nothing")

    def _find(self, number: int, flags: int) -> Stream | None:
        """Returns the stream of a frame; None if it has ended here."""
        stream = self._streams.get(number)
        if flags & yamux.SYN:
            self._check_number(number)
            return self._accept(number, flags)
        if stream is None:
            known = number <= (self._last_number if number % 2 else self._last_of_peer)
            if not known or number in self._skipped:
                raise PeerProtocolError(
                    f"peer {self.peer} uses the stream {number}, which nobody opened"
                )
        return stream

    def _check_number(self, number: int) -> None:
        """Checks the number of a stream that the peer opens.

        Numbers are assigned in order, but streams that are opened at the same time arrive in any order.
        """
        if number > self._last_of_peer and not number % 2:
            skipped = range(self._last_of_peer + 2, number, 2)
            if len(self._skipped) + len(skipped) <= MAX_SKIPPED_NUMBERS:
                self._skipped.update(skipped)
                self._last_of_peer = number
                return
        elif number in self._skipped:
            self._skipped.remove(number)
            return
        raise PeerProtocolError(
            f"peer {self.peer} opens the stream {number}, which is not one of the next"
        )

    def _accept(self, number: int, flags: int) -> Stream | None:
        open_count = len(self._streams) - self._outbound_count
        if open_count >= MAX_INBOUND_STREAMS:
            self._discardable += yamux.INITIAL_WINDOW
            self._answers += yamux.frame(yamux.WINDOW_UPDATE, yamux.RST, number, 0)
            return None
        stream = Stream(self, number, window=yamux.INITIAL_WINDOW, timeout=self._timeout)
        self._streams[number] = stream
        self._inbound.add(stream)
        return stream

    def _charge(self, stream: Stream | None, length: int) -> None:
        if stream is None:
            self._discardable -= length
            if self._discardable < 0:
                raise PeerProtocolError(
                    f"peer {self.peer} sends more than allowed on streams that were reset"
                )
            return
        if stream.finished_there:
            raise PeerProtocolError(f"peer {self.peer} sends on a stream that it has ended")
        stream.receive_window -= length
        if stream.receive_window < 0:
            raise PeerProtocolError(
                f"peer {self.peer} sends {-stream.receive_window:,} bytes more than the window of a stream "
                "allows"
            )

    def _payload(self, piece: memoryview) -> None:
        stream = self._current
        self._left -= len(piece)
        if stream is not None and not stream.finished_there:
            if stream in self._inbound:
                self._answers += self._inbound.receive(stream, piece)
            else:
                stream.receive(piece)
                if self.unread > MAX_UNREAD:
                    raise PeerProtocolError(
                        f"peer {self.peer} sends faster than its streams are read: {self.unread:,} bytes wait"
                    )
        if not self._left:
            if stream is not None:
                self._end(stream, self._ending)
            self._current = None

    def _end(self, stream: Stream, flags: int) -> None:
        if flags & yamux.RST:
            stream.fail(
                f"peer {self.peer} reset a stream of {stream.protocol or 'no protocol yet'}"
            )
            self.forget_finished(stream)
        elif flags & yamux.FIN:
            stream.finish()
            if stream in self._inbound:
                self._answers += self._inbound.end(stream)
            self.forget_finished(stream)

    def _due(self) -> float:
        return min(_CHECK, self._idle_timeout / 2)

    def _check_times(self, now: float) -> None:
        """Ends operations that have timed out, and tests whether the peer still responds."""
        with self.lock:
            self._checked = now
            patience = now - STREAM_PATIENCE
            stale = [self._streams[number] for number in self._inbound.unnegotiated(patience)]
            stale += [
                stream
                for stream in self._streams.values()
                if stream.draining_since is not None and stream.draining_since < patience
            ]
            for stream in stale:
                stream.fail(f"peer {self.peer} did not end a stream in time")
                self.forget_reset(stream)
                self._channel.queue(yamux.frame(yamux.WINDOW_UPDATE, yamux.RST, stream.number, 0))
            if now - self._last_data > self._idle_timeout:
                raise PeerClosedError(f"the idle connection to peer {self.peer} was closed here")
            if now - self._last_received > KEEP_ALIVE:
                if self._pinged is None:
                    self._pinged = now
                    self._channel.queue(yamux.frame(yamux.PING, yamux.SYN, 0, 0))
                elif now - self._pinged > KEEP_ALIVE:
                    raise PeerClosedError(
                        f"peer {self.peer} has not answered for {KEEP_ALIVE:g} seconds"
                    )

    def run(self, received: bytes) -> None:
        """Receives until the connection ends; the body of its thread."""
        try:
            if received:
                self.process([received])
            while self._error is None:
                self.receive_once()
        except PeerProtocolError as error:
            self._fail(type(error), str(error), yamux.PROTOCOL_ERROR)
        except TransportError as error:
            self._fail(type(error), str(error), yamux.NORMAL)
        except FormatError as error:
            self._fail(
                PeerProtocolError, f"peer {self.peer} broke yamux: {error}", yamux.PROTOCOL_ERROR
            )
        except Exception as error:  # noqa: BLE001 - raised by a handler, and reported to its caller
            _log.exception("a handler of what peer %s sends failed", self.peer)
            self._fail(
                PeerClosedError,
                f"what peer {self.peer} sent was not handled: {error}",
                yamux.INTERNAL_ERROR,
            )
        finally:
            self._channel.close()

    def leave_to_parent(self) -> None:
        """Makes the connection unusable in a child process, and closes its copy of the socket."""
        self._error = (
            PeerClosedError,
            f"the connection to peer {self.peer} belongs to another process",
        )
        self.lock = threading.Lock()
        with self.lock:
            for stream in self._streams.values():
                stream.leave_to_parent()
        self._channel.leave_to_parent()


_connections: weakref.WeakSet[PeerConnection] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for connection in list(_connections):
        connection.leave_to_parent()
    _connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
