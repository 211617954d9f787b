"""Messages of Bitswap 1.2.0: what a client writes, and what it reads from peers that it does not trust.

See https://specs.ipfs.tech/bitswap-protocol/. A client sends wantlists and receives blocks and statements
about blocks ("presences"). A block comes with the prefix of its CID only: hashing it gives the CID.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.ipld import (
    SHA2_256_PREFIX,
    protobuf_bytes,
    protobuf_fields,
    protobuf_varint,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOL = "/ipfs/bitswap/1.2.0"

# The specification's limit for a message. A peer that sends more is disconnected.
MAX_MESSAGE_BYTES = 4 << 20
# Fields of one message, of every kind: blocks of one byte would make half a million of them.
MAX_FIELDS = 16_384
# Version, codec, hash code and length of the digest as varints of at most 9 bytes each.
MAX_PREFIX_BYTES = 36
# As Kubo: version, codec and a multihash with a digest of up to 128 bytes.
MAX_CID_BYTES = 168

# In a message, its wantlist, an entry, a block and a presence.
_WANTLIST, _RAW_BLOCK, _BLOCK, _PRESENCE = 1, 2, 3, 4
_ENTRY, _FULL = 1, 2
_CID, _PRIORITY, _CANCEL, _WANT_TYPE, _SEND_DONT_HAVE = 1, 2, 3, 4, 5
_PREFIX, _DATA = 1, 2
_PRESENCE_CID, _PRESENCE_TYPE = 1, 2

_HAVE = 0
_DONT_HAVE = 1
# CID version 0, which has no other: sha2-256 of dag-pb. Blocks of Bitswap 1.0.0 come without a prefix.
_PREFIX_V0 = b"\x00\x70" + SHA2_256_PREFIX


@attrs.frozen
class Entry:
    """One line of a wantlist.

    Args:
        cid: In binary form, as the link that names it.
        have: Whether only a statement is wanted that the peer has the block (WANT_HAVE), else the block.
        cancel: Takes back an earlier entry; the other fields do not matter then.
        priority: The higher, the sooner; compared within one peer's list.
    """

    cid: bytes
    have: bool = False
    cancel: bool = False
    priority: int = 1


@attrs.frozen
class Message:
    """What a peer sent.

    Attributes:
        blocks: The prefix of each block's CID and its bytes, which are a part of the message's buffer.
        have: CIDs in binary form that the peer has.
        dont_have: CIDs in binary form that the peer does not have.
        wants: What the peer wants itself.
    """

    blocks: tuple[tuple[bytes, memoryview], ...] = ()
    have: tuple[bytes, ...] = ()
    dont_have: tuple[bytes, ...] = ()
    wants: tuple[Entry, ...] = ()


def encode_wantlist(entries: Iterable[Entry], *, full: bool = False) -> bytes:
    """Returns a message that changes the wantlist which the peer keeps for us.

    Each want asks for an answer also where the peer lacks the block (``sendDontHave``).

    Args:
        entries: What is added and taken back.
        full: Whether they are the whole list, and replace it.
    """
    wantlist = b"".join(protobuf_bytes(_ENTRY, _encode_entry(entry)) for entry in entries)
    if full:
        wantlist += protobuf_varint(_FULL, 1)
    return protobuf_bytes(_WANTLIST, wantlist)


def _encode_entry(entry: Entry) -> bytes:
    encoded = protobuf_bytes(_CID, entry.cid)
    if entry.cancel:
        return encoded + protobuf_varint(_CANCEL, 1)
    encoded += protobuf_varint(_PRIORITY, entry.priority)
    if entry.have:
        encoded += protobuf_varint(_WANT_TYPE, 1)
    return encoded + protobuf_varint(_SEND_DONT_HAVE, 1)


def encode_message(message: Message) -> bytes:
    """Returns what a peer sends that serves blocks; for peers in tests."""
    parts = [encode_wantlist(message.wants)] if message.wants else []
    for prefix, data in message.blocks:
        block = protobuf_bytes(_PREFIX, prefix) + protobuf_bytes(_DATA, bytes(data))
        parts.append(protobuf_bytes(_BLOCK, block))
    for kind, cids in ((_HAVE, message.have), (_DONT_HAVE, message.dont_have)):
        for cid in cids:
            presence = protobuf_bytes(_PRESENCE_CID, cid)
            if kind:
                presence += protobuf_varint(_PRESENCE_TYPE, kind)
            parts.append(protobuf_bytes(_PRESENCE, presence))
    return b"".join(parts)


def decode_message(data: bytes | memoryview) -> Message:
    """Returns what a message of a peer holds; fields that are not known are skipped.

    Args:
        data: The whole message, without its length.

    Raises:
        FormatError: It is no message of Bitswap: cut off, or a field has the wrong type.
        LimitError: It is longer than a message may be, or has more fields.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise LimitError(f"Bitswap message of {len(data)} bytes is longer than {MAX_MESSAGE_BYTES}")
    decoder = _Decoder()
    decoder.read(memoryview(data))
    return Message(
        tuple(decoder.blocks), tuple(decoder.have), tuple(decoder.dont_have), tuple(decoder.wants)
    )


class _Decoder:
    """Reads one message, and counts its fields over all levels."""

    def __init__(self) -> None:
        self.blocks: list[tuple[bytes, memoryview]] = []
        self.have: list[bytes] = []
        self.dont_have: list[bytes] = []
        self.wants: list[Entry] = []
        self._fields = 0

    def read(self, message: memoryview) -> None:
        for number, value in self._fields_of(message):
            if number == _WANTLIST:
                for inner, entry in self._fields_of(_part(value, "wantlist")):
                    if inner == _ENTRY:
                        self._read_entry(_part(entry, "wantlist entry"))
            elif number == _RAW_BLOCK:
                self.blocks.append((_PREFIX_V0, _part(value, "block")))
            elif number == _BLOCK:
                self._read_block(_part(value, "block"))
            elif number == _PRESENCE:
                self._read_presence(_part(value, "block presence"))

    def _fields_of(self, view: memoryview) -> list[tuple[int, int | memoryview]]:
        found = []
        for number, _, value in protobuf_fields(view):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise LimitError(f"Bitswap message has more than {MAX_FIELDS} fields")
            found.append((number, value))
        return found

    def _read_block(self, view: memoryview) -> None:
        prefix, data = b"", memoryview(b"")
        for number, value in self._fields_of(view):
            if number == _PREFIX:
                prefix = _bounded(_part(value, "prefix of a block"), MAX_PREFIX_BYTES, "prefix")
            elif number == _DATA:
                data = _part(value, "data of a block")
        if not prefix:
            raise FormatError("Bitswap block has no prefix, which names its hash")
        self.blocks.append((prefix, data))

    def _read_presence(self, view: memoryview) -> None:
        cid, kind = b"", _HAVE
        for number, value in self._fields_of(view):
            if number == _PRESENCE_CID:
                cid = _bounded(_part(value, "CID of a presence"), MAX_CID_BYTES, "CID")
            elif number == _PRESENCE_TYPE:
                kind = _number(value, "type of a presence")
        if kind not in (_HAVE, _DONT_HAVE):
            raise FormatError(f"Bitswap block presence is of type {kind}, neither 0 nor 1")
        (self.dont_have if kind else self.have).append(cid)

    def _read_entry(self, view: memoryview) -> None:
        cid, numbers = b"", {_PRIORITY: 1, _CANCEL: 0, _WANT_TYPE: 0}
        for number, value in self._fields_of(view):
            if number == _CID:
                cid = _bounded(_part(value, "CID of a wantlist entry"), MAX_CID_BYTES, "CID")
            elif number in numbers:
                numbers[number] = _number(value, "field of a wantlist entry")
        self.wants.append(
            Entry(cid, numbers[_WANT_TYPE] == 1, bool(numbers[_CANCEL]), numbers[_PRIORITY])
        )


def _part(value: int | memoryview, what: str) -> memoryview:
    if isinstance(value, int):
        raise FormatError(f"Bitswap {what} is a number, not bytes")
    return value


def _number(value: int | memoryview, what: str) -> int:
    if not isinstance(value, int):
        raise FormatError(f"Bitswap {what} is bytes, not a number")
    return value


def _bounded(view: memoryview, limit: int, what: str) -> bytes:
    if len(view) > limit:
        raise LimitError(f"Bitswap {what} of {len(view)} bytes is longer than {limit}")
    return bytes(view)
