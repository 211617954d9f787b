"""A Bitswap peer on loopback that serves blocks and fails according to a plan; random plans for tests.

It uses `ScriptedPeer`. Blocks must fit into the first window of a stream, 256 KiB.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import attrs
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p import yamux
from ipfs_dataset_bitswap.libp2p.messages import delimited
from ipfs_dataset_bitswap.libp2p.multistream import Selection
from ipfs_dataset_bitswap.messages import PROTOCOL, Message, decode_message, encode_message

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.ipld import CID, decode_varint, encode_varint
from tests.support.libp2p_peer import ScriptedPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipfs_dataset_bitswap.messages import Entry

    from tests.support.libp2p_peer import Side

# How a peer may fail at one entry of a wantlist.
PASSING = ("delay", "silence", "drop", "cut", "garbage", "long")
FAULTS = (*PASSING, "lacks", "flip", "foreign", "nothing", "flood", "statements", "twice", "claims")
# After these, at once or for ever, a peer still gives what it has.
HARMLESS = frozenset({"delay", "twice"})


class BitswapServer(ScriptedPeer):
    """A peer that serves blocks.

    Args:
        blocks: Its blocks by multihash.
        fault: Called for each requested block; returns its fault, or None for a correct answer.
        foreign: Blocks that are sent instead of others.

    Attributes:
        url: Its address as text.
        served: Number of blocks that it has sent.
    """

    def __init__(
        self,
        blocks: Mapping[bytes, bytes],
        fault: Callable[[Entry], str | None] = lambda _: None,
        foreign: tuple[bytes, ...] = (b"foreign",),
    ) -> None:
        self.blocks = blocks
        self.fault = fault
        self.foreign = itertools.cycle(foreign)
        self.served = 0
        super().__init__(self._serve)
        self.url = str(self.address)

    def _serve(self, side: Side) -> None:
        side.secure()
        _Conversation(self, side).run()


class _Conversation:
    """One connection of a client."""

    def __init__(self, server: BitswapServer, side: Side) -> None:
        self._server, self._side = server, side
        self._selections: dict[int, tuple[Selection, bytearray]] = {}
        self._received: dict[int, bytearray] = {}
        self._numbers = itertools.count(2, 2)

    def run(self) -> None:
        while True:
            kind, flags, stream, length, payload = self._side.read_frame()
            if kind == yamux.PING and flags & yamux.SYN:
                self._side.send_frame(yamux.PING, yamux.ACK, 0, length)
            if flags & yamux.SYN and kind != yamux.PING:
                self._selections[stream] = Selection([PROTOCOL]), bytearray()
            if kind == yamux.DATA and payload and stream % 2:
                self._side.send_frame(yamux.WINDOW_UPDATE, 0, stream, len(payload))
                self._data(stream, payload)

    def _data(self, stream: int, payload: bytes) -> None:
        if stream in self._selections:
            selection, lines = self._selections[stream]
            lines += payload
            if reply := selection.receive(lines):
                self._side.send_data(stream, reply)
            if selection.chosen is None:
                return
            del self._selections[stream]
            self._received[stream], payload = bytearray(), bytes(lines)
        received = self._received.setdefault(stream, bytearray())
        received += payload
        for message in _messages(received):
            for entry in decode_message(message).wants:
                if not entry.cancel:
                    self._answer(entry)

    def _answer(self, entry: Entry) -> None:
        fault = self._server.fault(entry)
        key = CID.from_bytes(entry.cid).multihash
        block = self._server.blocks.get(key)
        prefix = _prefix(entry.cid, key)
        honest = Message(dont_have=(entry.cid,))
        if block is not None:
            found = Message(blocks=((prefix, memoryview(block)),))
            honest = Message(have=(entry.cid,)) if entry.have else found
        if fault is None or fault in HARMLESS:
            time.sleep(0.02 if fault == "delay" else 0)
            self._server.served += bool(honest.blocks)
            for _ in range(2 if fault == "twice" else 1):
                self._send(encode_message(honest))
        elif fault in ("drop", "cut"):
            if fault == "cut":
                self._send(encode_message(honest), cut=True)
            raise ConnectionError
        elif fault == "garbage":
            self._send(b"\x0a\xff\xff\xff\xff garbage")
        elif fault == "long":
            self._send(b"", announced=1 << 30)
        elif fault != "silence":
            self._send(encode_message(self._wrong(fault, entry, prefix, block or b"x")))

    def _wrong(self, fault: str, entry: Entry, prefix: bytes, block: bytes) -> Message:
        """Returns a well-formed message with wrong content."""
        if fault == "lacks":
            return Message(dont_have=(entry.cid,))
        if fault == "claims":
            return Message(have=(entry.cid,))
        if fault == "statements":
            return Message(have=(b"\x01\x55\x12\x20" + bytes(32),) * 500)
        if fault == "flood":
            return Message(blocks=tuple((prefix, memoryview(b"%d" % n)) for n in range(80)))
        data = {
            "flip": block[:-1] + bytes((block[-1] ^ 1,)) if block else b"more",
            "foreign": next(self._server.foreign),
            "nothing": b"",
        }[fault]
        return Message(blocks=((prefix, memoryview(data)),))

    def _send(self, message: bytes, *, cut: bool = False, announced: int | None = None) -> None:
        """Sends a message on a new stream, as Kubo does."""
        data = delimited(message)
        if announced is not None:
            data = encode_varint(announced)
        if cut:
            data = data[: len(data) // 2]
        stream = next(self._numbers)
        self._side.open_stream(stream, PROTOCOL, data)
        self._side.send_frame(yamux.DATA, yamux.FIN, stream)


def _messages(received: bytearray) -> Iterator[bytes]:
    """Yields the complete messages at the start of the received bytes, and removes them."""
    while received:
        try:
            size, start = decode_varint(bytes(received[:10]))
        except FormatError:  # it is cut off
            return
        if len(received) < start + size:
            return
        message = bytes(received[start : start + size])
        del received[: start + size]
        yield message


def _prefix(cid: bytes, multihash: bytes) -> bytes:
    """Returns the bytes before the digest in a CID."""
    digest = CID(1, 0x55, multihash).digest
    return b"\x00\x70\x12\x20" if cid[:2] == b"\x12\x20" else cid[: -len(digest)]


@attrs.frozen(kw_only=True)
class PeerPlan:
    """The behaviour of one peer; see `SourcePlan`.

    Args:
        at_first: The faults of its first answers, in order.
        for_ever: The fault of each further answer; None if these are correct.
        has: The share of the blocks that it has.
    """

    at_first: tuple[str, ...] = ()
    for_ever: str | None = None
    has: float = 1.0
    is_api: bool = False

    @property
    def good(self) -> bool:
        lives = self.for_ever is None or self.for_ever in HARMLESS
        able = PASSING[:3]
        return self.has == 1.0 and lives and all(f in (*able, "twice") for f in self.at_first)

    @property
    def hopeless(self) -> bool:
        """Whether all its answers are unusable."""
        return self.for_ever is not None and self.for_ever not in HARMLESS | {"cut"}

    def server(self, blocks: Mapping[bytes, bytes], foreign: tuple[bytes, ...]) -> BitswapServer:
        """Returns a running peer with this behaviour."""
        count = int(len(blocks) * self.has)
        some = dict(itertools.islice(sorted(blocks.items()), count))
        turns, lock = iter(self.at_first), threading.Lock()

        def fault(_: Entry) -> str | None:
            with lock:
                return next(turns, self.for_ever)

        return BitswapServer(some, fault, foreign)


def good_peers() -> st.SearchStrategy[PeerPlan]:
    """Returns peers that deliver all blocks eventually."""
    return st.builds(
        PeerPlan,
        at_first=st.lists(st.sampled_from([*PASSING[:3], "twice"]), max_size=2).map(tuple),
        for_ever=st.none() | st.sampled_from(sorted(HARMLESS)),
    )


def any_peers() -> st.SearchStrategy[Any]:
    """Returns peers with any faults."""
    return st.builds(
        PeerPlan,
        at_first=st.lists(st.sampled_from(FAULTS), max_size=3).map(tuple),
        for_ever=st.none() | st.sampled_from(FAULTS),
        has=st.sampled_from([0.0, 0.5, 1.0]),
    )
