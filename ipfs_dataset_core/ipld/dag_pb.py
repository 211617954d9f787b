"""dag-pb, the block format of UnixFS: data and a list of links.

Links stay raw bytes, because an inner node of a file has hundreds and most are never followed. Links in the
form that every importer writes are matched by regular expressions, many times faster than field by field:
links of a file have no names and, except for the last, equal lengths, so a single expression matches all of
them. Only other forms are read by the loop over protobuf fields, which also rejects malformed blocks.

See https://ipld.io/specs/codecs/dag-pb/spec/.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import protobuf
from ipfs_dataset_core.ipld.multiformats import encode_varint

if TYPE_CHECKING:
    from collections.abc import Iterable

_DATA, _LINKS = 1, 2
_HASH, _NAME, _TSIZE = 1, 2, 3


@attrs.define
class PBNode:
    """A decoded block: its data, or None without data, and its links as parallel lists."""

    data: memoryview | None
    cids: list[bytes]
    names: list[bytes]
    tsizes: list[int]
    # Computed on first use. Not by `functools.cached_property`, whose lock may be held during a fork.
    _positions: dict[bytes, int] | None = attrs.field(
        default=None, init=False, eq=False, repr=False
    )
    _repeated: frozenset[bytes] | None = attrs.field(default=None, init=False, eq=False, repr=False)

    @property
    def positions(self) -> dict[bytes, int]:
        """The position of each name in the lists; the last position for a repeated name."""
        if self._positions is None:
            self._positions = {name: position for position, name in enumerate(self.names)}
        return self._positions

    @property
    def repeated(self) -> frozenset[bytes]:
        """The names that occur more than once."""
        if self._repeated is None:
            counts = Counter(self.names) if len(self.positions) < len(self.names) else {}
            self._repeated = frozenset(name for name, count in counts.items() if count > 1)
        return self._repeated


def decode(block: bytes | memoryview) -> PBNode:
    """Decodes a block, in which links and data may come in either order.

    Raises:
        FormatError: The block is not dag-pb.
    """
    raw = bytes(block)
    return _decode_canonical(raw) or _decode_fields(memoryview(raw))


def _decode_canonical(block: bytes) -> PBNode | None:
    """Decodes a block of links in their usual form followed by data; returns None for any other block."""
    columns, end = _usual_links(block)
    try:
        rest = list(protobuf.fields(memoryview(block)[end:]))
    except FormatError:
        return None
    if [(number, wire) for number, wire, _ in rest] != [(_DATA, protobuf.BYTES)]:
        return None
    data = rest[0][2]
    assert isinstance(data, memoryview)
    return PBNode(data, *columns)


def _decode_fields(view: memoryview) -> PBNode:
    node = PBNode(None, [], [], [])
    data: memoryview | None = None
    previous = 0
    for number, wire, value in protobuf.fields(view):
        if number not in (_DATA, _LINKS) or wire != protobuf.BYTES:
            raise FormatError(f"field {number} of wire type {wire} is not allowed in dag-pb")
        assert isinstance(value, memoryview)
        if number == _LINKS:
            if previous == _DATA and node.cids:
                raise FormatError("there are links on both sides of the data")
            _decode_link(value, node)
        elif data is not None:
            raise FormatError("the data occurs twice")
        else:
            data = value
        previous = number
    return attrs.evolve(node, data=data)


def _decode_link(view: memoryview, node: PBNode) -> None:
    cid: bytes | None = None
    name, tsize, previous = b"", 0, 0
    for number, wire, value in protobuf.fields(view):
        if number <= previous:
            raise FormatError(f"field {number} of a link occurs twice or out of order")
        previous = number
        if number == _TSIZE and isinstance(value, int):
            tsize = value
        elif number == _HASH and wire == protobuf.BYTES:
            cid = bytes(value)
        elif number == _NAME and wire == protobuf.BYTES:
            name = bytes(value)
        else:
            raise FormatError(f"field {number} of wire type {wire} is not allowed in a link")
    if cid is None:
        raise FormatError("a link has no CID")
    node.cids.append(cid)
    node.names.append(name)
    node.tsizes.append(tsize)


def encode(data: bytes, links: Iterable[tuple[bytes, bytes, int]] = ()) -> bytes:
    """Encodes a node; its links are written in the given order, before the data."""
    pieces = []
    for cid, name, tsize in links:
        link = protobuf.tagged_bytes(_HASH, cid) + protobuf.tagged_bytes(_NAME, name)
        pieces.append(protobuf.tagged_bytes(_LINKS, link + protobuf.tagged_varint(_TSIZE, tsize)))
    pieces.append(protobuf.tagged_bytes(_DATA, data))
    return b"".join(pieces)


Columns = tuple[list[bytes], list[bytes], list[int]]

_LINK_TAG = 0x12
_CID_SIZES = (34, 36)
_FRAME = 5  # tag and length of the CID, two bytes for the empty name, tag of the size
_MAX_SIZE_BYTES = 9
_MAX_LENGTH = 1024

_LENGTH = rb"([\x00-\x7f]|[\x80-\xff][\x01-\x7f])"
_NAMED = re.compile(rb"\x12%b\x0a(?:\x24(.{36})|\x22(.{34}))\x12%b" % (_LENGTH, _LENGTH), re.DOTALL)
_LENGTHS = {encode_varint(length): length for length in range(_MAX_LENGTH)}


def _usual_links(block: bytes) -> tuple[Columns, int]:
    """Returns CIDs, names and sizes of the links in usual form at the start of a block, and their end."""
    columns: Columns = ([], [], [])
    position = _read_nameless(block, columns)
    return columns, _read_named(block, position, columns)


@functools.lru_cache(maxsize=2 * _MAX_SIZE_BYTES)
def _nameless(length: int, cid_size: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Returns patterns for a run of nameless links of one length, and for each link in it."""
    more = length - cid_size - _FRAME - 1
    head = re.escape(bytes((_LINK_TAG, length, 0x0A, cid_size)))
    cid, tsize = b".{%d}" % cid_size, rb"[\x80-\xff]{%d}[\x00-\x7f]" % more
    run = rb"(?:%b%b\x12\x00\x18%b)+" % (head, cid, tsize)
    each = rb"%b(%b)\x12\x00\x18(%b)" % (head, cid, tsize)
    return re.compile(run, re.DOTALL), re.compile(each, re.DOTALL)


def _read_nameless(block: bytes, columns: Columns) -> int:
    position = 0
    while position + _FRAME < len(block) and block[position] == _LINK_TAG:
        length, cid_size = block[position + 1], block[position + 3]
        if cid_size not in _CID_SIZES or not 0 < length - cid_size - _FRAME <= _MAX_SIZE_BYTES:
            break
        run, each = _nameless(length, cid_size)
        match = run.match(block, position)
        if match is None:
            break
        cids, tsizes = zip(*each.findall(match.group()), strict=True)
        numbers = {raw: protobuf.read_varint(raw, 0)[0] for raw in set(tsizes)}
        columns[0].extend(cids)
        columns[1].extend([b""] * len(cids))
        columns[2].extend([numbers[raw] for raw in tsizes])
        position = match.end()
    return position


def _read_named(block: bytes, position: int, columns: Columns) -> int:
    cids, names, tsizes = columns
    known: dict[bytes, int | None] = {}
    while match := _NAMED.match(block, position):
        length, new, old, name_size = match.groups()
        name_start = match.end()
        name_end = name_start + _LENGTHS.get(name_size, len(block))
        end = match.end(1) + _LENGTHS.get(length, len(block))
        tail = block[name_end:end]
        if tail not in known:
            known[tail] = _size_field(tail)
        tsize = known[tail]
        if tsize is None or end > len(block):
            break
        cids.append(new or old)
        names.append(block[name_start:name_end])
        tsizes.append(tsize)
        position = end
    return position


def _size_field(tail: bytes) -> int | None:
    """Returns the size at the end of a link; None if there is anything else."""
    if tail[:1] != b"\x18":
        return None
    try:
        value, end = protobuf.read_varint(tail, 1)
    except FormatError:
        return None
    return value if end == len(tail) else None
