"""dag-pb, the block format of UnixFS: some data and a list of links.

Links stay raw bytes, for an inner node of a file has hundreds and most are never followed.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import attrs

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import link_runs, protobuf

if TYPE_CHECKING:
    from collections.abc import Iterable

_DATA, _LINKS = 1, 2
_HASH, _NAME, _TSIZE = 1, 2, 3


class PBLink(NamedTuple):
    """A link: the binary CID of a block, a name, and the size of all that lies below."""

    cid: bytes
    name: bytes
    tsize: int


@attrs.frozen(slots=False)
class PBNode:
    """A decoded block: its data, None where it has none, and its links as parallel lists."""

    data: memoryview | None
    cids: list[bytes]
    names: list[bytes]
    tsizes: list[int]

    @cached_property
    def positions(self) -> dict[bytes, int]:
        """Where each name stands; of one that occurs twice, the last place."""
        return {name: position for position, name in enumerate(self.names)}


def decode(block: bytes | memoryview) -> PBNode:
    """Returns the node that a block holds, whichever of links and data comes first.

    Raises:
        FormatError: The block is not dag-pb.
    """
    raw = bytes(block)
    return _decode_canonical(raw) or _decode_fields(memoryview(raw))


def _decode_canonical(block: bytes) -> PBNode | None:
    """Returns a node of links in their usual form followed by data, None where this is none."""
    columns, end = link_runs.read(block)
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
