"""dag-pb, the block format of UnixFS: some data and a list of links.

Links stay raw bytes, for an inner node of a file has hundreds and most are never followed.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

import attrs

from ipfs_dataset_core.content import protobuf
from ipfs_dataset_core.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

_DATA, _LINKS = 1, 2
_HASH, _NAME, _TSIZE = 1, 2, 3

# The links of a file have no names and, but for the last, equal lengths. A regular expression made
# for that length reads them ten times faster than a loop does; what it cannot read the loop can.
_LINK_TAG = _LINKS << 3 | protobuf.BYTES
_CID_SIZES = (34, 36)
_FRAME = 5  # tag and length of the CID, two bytes for the empty name, tag of the size
_MAX_SIZE_BYTES = 9


class PBLink(NamedTuple):
    """A link: the binary CID of a block, a name, and the size of all that lies below."""

    cid: bytes
    name: bytes
    tsize: int


@attrs.frozen
class PBNode:
    """A decoded block: its data, None where it has none, and its links as parallel lists."""

    data: memoryview | None
    cids: list[bytes]
    names: list[bytes]
    tsizes: list[int]


def decode(block: bytes | memoryview) -> PBNode:
    """Returns the node that a block holds, whichever of links and data comes first.

    Raises:
        FormatError: The block is not dag-pb.
    """
    view = memoryview(block)
    return _decode_file_links(view) or _decode_fields(view)


@functools.lru_cache(maxsize=2 * _MAX_SIZE_BYTES)
def _file_links(length: int, cid_size: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Returns what matches a run of nameless links of one length, and what matches each of them."""
    more = length - cid_size - _FRAME - 1
    head = re.escape(bytes((_LINK_TAG, length, 0x0A, cid_size)))
    cid, tsize = b".{%d}" % cid_size, rb"[\x80-\xff]{%d}[\x00-\x7f]" % more
    run = rb"(?:%b%b\x12\x00\x18%b)+" % (head, cid, tsize)
    each = rb"%b(%b)\x12\x00\x18(%b)" % (head, cid, tsize)
    return re.compile(run, re.DOTALL), re.compile(each, re.DOTALL)


def _decode_file_links(view: memoryview) -> PBNode | None:
    """Returns a node of nameless links followed by data, None where this one is anything else."""
    found: list[tuple[bytes, bytes]] = []
    position = 0
    while position + _FRAME < len(view) and view[position] == _LINK_TAG:
        length, cid_size = view[position + 1], view[position + 3]
        if cid_size not in _CID_SIZES or not 0 < length - cid_size - _FRAME <= _MAX_SIZE_BYTES:
            return None
        run, each = _file_links(length, cid_size)
        match = run.match(view, position)
        if match is None:
            return None
        found += each.findall(view[position : match.end()])
        position = match.end()
    return _node_of(found, list(protobuf.fields(view[position:]))) if found else None


def _node_of(found: list[tuple[bytes, bytes]], rest: list[protobuf.Field]) -> PBNode | None:
    if [(number, wire) for number, wire, _ in rest] != [(_DATA, protobuf.BYTES)]:
        return None
    data = rest[0][2]
    assert isinstance(data, memoryview)
    cids, tsizes = zip(*found, strict=True)
    numbers = {raw: protobuf.read_varint(raw, 0)[0] for raw in set(tsizes)}
    return PBNode(data, list(cids), [b""] * len(cids), [numbers[raw] for raw in tsizes])


def _decode_fields(view: memoryview) -> PBNode:
    node = PBNode(None, [], [], [])
    data: memoryview | None = None
    previous = 0
    for number, wire, value in protobuf.fields(view):
        if number not in (_DATA, _LINKS) or wire != protobuf.BYTES:
            raise FormatError(f"field {number} of wire type {wire} does not belong in dag-pb")
        assert isinstance(value, memoryview)
        if number == _LINKS:
            if previous == _DATA and node.cids:
                raise FormatError("links stand on both sides of the data")
            _decode_link(value, node)
        elif data is not None:
            raise FormatError("the data is given twice")
        else:
            data = value
        previous = number
    return attrs.evolve(node, data=data)


def _decode_link(view: memoryview, node: PBNode) -> None:
    cid: bytes | None = None
    name, tsize, previous = b"", 0, 0
    for number, wire, value in protobuf.fields(view):
        if number <= previous:
            raise FormatError(f"field {number} of a link is given twice or out of order")
        previous = number
        if number == _TSIZE and isinstance(value, int):
            tsize = value
        elif number == _HASH and wire == protobuf.BYTES:
            cid = bytes(value)
        elif number == _NAME and wire == protobuf.BYTES:
            name = bytes(value)
        else:
            raise FormatError(f"field {number} of wire type {wire} does not belong in a link")
    if cid is None:
        raise FormatError("a link has no CID")
    node.cids.append(cid)
    node.names.append(name)
    node.tsizes.append(tsize)


def encode(data: bytes, links: Iterable[tuple[bytes, bytes, int]] = ()) -> bytes:
    """Returns the block of a node; its links are written in the order given, before the data."""
    pieces = []
    for cid, name, tsize in links:
        link = protobuf.tagged_bytes(_HASH, cid) + protobuf.tagged_bytes(_NAME, name)
        pieces.append(protobuf.tagged_bytes(_LINKS, link + protobuf.tagged_varint(_TSIZE, tsize)))
    pieces.append(protobuf.tagged_bytes(_DATA, data))
    return b"".join(pieces)
