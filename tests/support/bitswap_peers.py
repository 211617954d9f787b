"""Bitswap peers in memory with scripted answers, for tests of the exchange without sockets."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from ipfs_dataset_bitswap.libp2p.errors import PeerClosedError
from ipfs_dataset_bitswap.messages import Message, decode_message, encode_message
from ipfs_dataset_bitswap.peers import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ipfs_dataset_bitswap.messages import Entry

    from ipfs_dataset_core import CID

# What a peer does when a block is requested, or when it is asked whether it has it.
GOOD, LACKS, SILENT, DAMAGES, BREAKS, JUNK = FAULTS = (
    "good",
    "lacks",
    "silent",
    "damages",
    "breaks",
    "junk",
)


def prefix(cid: CID) -> bytes:
    """Returns the bytes before the digest in the binary form of a CID."""
    return cid.to_bytes()[: -len(cid.digest)] if cid.version else b"\0\x70" + cid.multihash[:2]


class ScriptedPeer:
    """A peer with blocks, which can fail for some of them.

    Args:
        name: Its name in errors.
        blocks: Its blocks.
        faults: Its reaction to a request for a block, by hash; it sends other blocks, or states that it does
            not have them.
        inline: Maximum size in bytes of a block that is sent instead of a statement that the peer has it, as
            by Kubo.
        unreachable: Whether connecting fails.
        round_trip: Seconds until a stream is negotiated.

    Attributes:
        asked: The received entries of wantlists.
        connections: The connections that were made.
    """

    def __init__(
        self,
        name: str,
        blocks: Mapping[CID, bytes],
        faults: Mapping[bytes, str] | None = None,
        *,
        inline: int = 0,
        unreachable: bool = False,
        round_trip: float = 0.0,
    ) -> None:
        self.name = f"peer {name}"
        self.blocks = {cid.multihash: (cid, data) for cid, data in blocks.items()}
        self.faults = dict(faults or {})
        self.inline = inline
        self.unreachable = unreachable
        self.round_trip = round_trip
        self.asked: list[Entry] = []
        self.connections: list[ScriptedConnection] = []

    def peer(self, timeout: float = 0.3, most: int = 1) -> Peer:
        """Returns the peer in the form that the exchange uses."""
        return Peer(self.name, self.dial, timeout=timeout, most=most)

    def dial(self, receive: Callable[[bytes], None]) -> Any:
        if self.unreachable:
            raise PeerClosedError(f"{self.name} cannot be reached")
        self.connections.append(ScriptedConnection(self, receive))
        return self.connections[-1]

    def answer(self, entry: Entry, key: bytes) -> Message | None:
        """Returns the message for an entry of a wantlist; None for no answer."""
        self.asked.append(entry)
        fault = self.faults.get(key, GOOD)
        if entry.cancel or fault == SILENT:
            return None
        if key not in self.blocks or fault == LACKS:
            return Message(dont_have=(entry.cid,))
        cid, data = self.blocks[key]  # the CID that was asked for may have another codec
        if entry.have and len(data) > self.inline:
            return Message(have=(entry.cid,))
        if fault == BREAKS:
            raise PeerClosedError(f"{self.name} closed the connection")
        if fault == DAMAGES:
            data = data[:-1] + bytes((data[-1] ^ 1,)) if data else b"more"
        if fault == JUNK:
            return Message(
                blocks=tuple((prefix(cid), memoryview(b"junk %d" % n)) for n in range(70))
            )
        return Message(blocks=((prefix(cid), memoryview(data)),))


class ScriptedConnection:
    """A connection to a scripted peer; a thread of its own answers."""

    def __init__(self, peer: ScriptedPeer, receive: Callable[[bytes], None]) -> None:
        self.peer = peer
        self.is_open = True
        self.received_bytes = 0
        self.messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.ended = threading.Event()
        self._receive = receive
        threading.Thread(target=self._run, daemon=True).start()

    def open_stream(self, protocols: Sequence[str], *, timeout: float) -> ScriptedStream:
        time.sleep(self.peer.round_trip)
        return ScriptedStream(self)

    def close(self) -> None:
        self.is_open = False
        self.messages.put(None)
        self.ended.set()

    def send(self, message: Message) -> None:
        """Sends a message, which need not be an answer."""
        self.send_bytes(encode_message(message))

    def send_bytes(self, data: bytes) -> None:
        self._receive(data)

    def _run(self) -> None:
        try:
            while (data := self.messages.get()) is not None:
                wants = decode_message(data).wants
                assert len({entry.cid for entry in wants}) == len(wants), "Kubo takes one of each"
                for entry in wants:
                    key = entry.cid if entry.cid[:2] == b"\x12\x20" else entry.cid[2:]
                    answer = self.peer.answer(entry, key)
                    if answer is not None:
                        self.send(answer)
        except Exception:  # the connection ends with whatever the receiver does not take
            self.is_open = False
            self.ended.set()


class ScriptedStream:
    """The stream on which wantlists are sent."""

    def __init__(self, connection: ScriptedConnection) -> None:
        self._connection = connection

    def write_message(self, data: bytes) -> None:
        if not self._connection.is_open:
            raise PeerClosedError("the connection is closed")
        self._connection.messages.put(data)

    def read_messages(self, limit: int, *, timeout: float) -> Iterator[bytes]:
        while not self._connection.ended.wait(min(timeout, 3600)):
            yield b""
        raise PeerClosedError(f"{self._connection.peer.name} closed the connection")
