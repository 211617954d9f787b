"""UnixFS, the content of dag-pb nodes: files, directories, symlinks.

Mode and modification time are skipped. Blocks are verified before they are parsed, so an inconsistent block
was published that way. See https://specs.ipfs.tech/unixfs/.
"""

from __future__ import annotations

import enum
import functools
import re
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import attrs

from ipfs_dataset_core.errors import FormatError, LimitError, VerificationError, sentence
from ipfs_dataset_core.ipld import dag_pb, protobuf
from ipfs_dataset_core.ipld.cid import DAG_CBOR, DAG_JSON, DAG_PB, LIBP2P_KEY, RAW
from ipfs_dataset_core.ipld.multiformats import encode_varint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.ipld.cid import CID

NodeKind = Literal["file", "directory", "hamt", "symlink"]

MAX_FILE_SIZE = 1 << 63

_SCALARS = {2: protobuf.BYTES, **dict.fromkeys((1, 3, 5, 6), protobuf.VARINT)}
_BLOCK_SIZES_FIELD = 4
_BLOCK_SIZES = re.compile(rb"(?:\x20[\x80-\xff]{0,8}[\x00-\x7f])+")
_EACH_BLOCK_SIZE = re.compile(rb"\x20([\x80-\xff]{0,8}[\x00-\x7f])")


class NodeType(enum.IntEnum):
    """The types of UnixFS nodes."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


_TYPES: dict[int | None, NodeType] = {kind.value: kind for kind in NodeType}
_KINDS: dict[NodeType, NodeKind] = {
    NodeType.RAW: "file",
    NodeType.FILE: "file",
    NodeType.DIRECTORY: "directory",
    NodeType.HAMT_SHARD: "hamt",
    NodeType.SYMLINK: "symlink",
}


@attrs.frozen
class UnixFS:
    """The data of a UnixFS node; absent fields are None."""

    type: NodeType
    data: bytes | None = None
    filesize: int | None = None
    blocksizes: list[int] = attrs.field(factory=list)
    hash_type: int | None = None
    fanout: int | None = None

    def encode(self) -> bytes:
        """Encodes the message with its fields in ascending order, like all nodes."""
        pieces = [protobuf.tagged_varint(1, self.type)]
        if self.data is not None:
            pieces.append(protobuf.tagged_bytes(2, self.data))
        if self.filesize is not None:
            pieces.append(protobuf.tagged_varint(3, self.filesize))
        pieces += [protobuf.tagged_varint(4, size) for size in self.blocksizes]
        if self.hash_type is not None:
            pieces.append(protobuf.tagged_varint(5, self.hash_type))
        if self.fanout is not None:
            pieces.append(protobuf.tagged_varint(6, self.fanout))
        return b"".join(pieces)


class FileNode(NamedTuple):
    """One block of a file.

    Attributes:
        data: The bytes in the block itself, which precede those of its children.
        size: Number of bytes of the file in this node and below.
        links: Binary CIDs of the children.
        offsets: The start of each child within this node, followed by the end: one more than there are links,
            ascending, for use with `bisect`.
        tsizes: Size of each child's DAG in storage, as claimed.
    """

    data: bytes
    size: int
    links: list[bytes]
    offsets: Sequence[int]
    tsizes: list[int]


def decode(message: bytes | memoryview) -> UnixFS:
    """Decodes the UnixFS message in the data of a dag-pb node.

    Raises:
        FormatError: It is not a UnixFS message.
    """
    view = memoryview(message)
    found: dict[int, int | memoryview] = {}
    sizes: list[int] = []
    position = 0
    while position < len(view):
        run = _BLOCK_SIZES.match(view, position)
        if run is not None:
            sizes += _run_of_sizes(view[position : run.end()])
            position = run.end()
            continue
        number, wire, value, position = protobuf.field(view, position)
        if number == _BLOCK_SIZES_FIELD:
            sizes += [value] if isinstance(value, int) else _packed(value)
        elif number in _SCALARS:
            if number in found or wire != _SCALARS[number]:
                raise FormatError(f"UnixFS field {number} is given twice or in a wrong wire type")
            found[number] = value
    return _message(found, sizes)


def _run_of_sizes(view: memoryview) -> list[int]:
    found = _EACH_BLOCK_SIZE.findall(view)
    numbers = {raw: protobuf.read_varint(raw, 0)[0] for raw in set(found)}
    return [numbers[raw] for raw in found]


def _packed(view: memoryview) -> list[int]:
    sizes, position = [], 0
    while position < len(view):
        size, position = protobuf.read_varint(view, position)
        sizes.append(size)
    return sizes


def _message(found: dict[int, Any], sizes: list[int]) -> UnixFS:
    kind, data = found.get(1), found.get(2)
    if kind not in _TYPES:
        raise FormatError(f"UnixFS type {kind!r} is unknown")
    return UnixFS(
        _TYPES[kind],
        None if data is None else bytes(data),
        found.get(3),
        sizes,
        found.get(5),
        found.get(6),
    )


def decode_node(cid: CID, block: bytes | memoryview) -> tuple[UnixFS, dag_pb.PBNode]:
    """Decodes both layers of a dag-pb block.

    Raises:
        FormatError: `cid` is of another codec, or the block is malformed.
    """
    if cid.codec != DAG_PB:
        into = ""
        if cid.codec in (DAG_CBOR, DAG_JSON):
            into = ": name the path in it that leads to one"
        elif cid.codec == LIBP2P_KEY:
            into = f": this is the key of a name, written ipns://{cid.encode('base36')}"
        raise FormatError(f"{cid} is {cid.codec_name}, not a file or directory (UnixFS){into}.")
    try:
        node = dag_pb.decode(block)
        return decode(b"" if node.data is None else node.data), node
    except FormatError as error:
        raise FormatError(sentence(f"{cid} is not a valid UnixFS node: {error}")) from None


# Paths below one directory are resolved one by one, and its block may contain thousands of links.
decode_directory_node = functools.lru_cache(maxsize=8)(decode_node)


def node_kind(cid: CID, block: bytes | memoryview) -> NodeKind:
    """Returns the kind of a block.

    Raises:
        FormatError: It is not part of a UnixFS file or directory.
    """
    if cid.codec == RAW:
        return "file"
    # A leaf starts with its data: decoding it is faster than hashing it for a cache.
    linked = block[:1] == b"\x12"
    message, _ = decode_directory_node(cid, block) if linked else decode_node(cid, block)
    kind = _KINDS.get(message.type)
    if kind is None:
        raise FormatError(f"{cid} is a UnixFS metadata node, neither file nor directory.")
    return kind


def parse_file(cid: CID, block: bytes) -> FileNode:
    """Parses a block of a file: the root, an inner node or a leaf.

    Raises:
        FormatError: The block is not part of a file, or malformed.
        VerificationError: Its sizes are inconsistent.
        LimitError: It claims to be larger than 2**63 bytes.
    """
    if cid.codec == RAW:
        return FileNode(block, len(block), [], array("q", (len(block),)), [])
    message, node = decode_node(cid, block)
    if message.type not in (NodeType.FILE, NodeType.RAW):
        raise FormatError(_not_a_file(cid, message))
    if len(node.cids) != len(message.blocksizes):
        sizes = len(message.blocksizes)
        raise VerificationError(f"{cid} has {len(node.cids)} children and {sizes} sizes of them.")
    data = message.data or b""
    offsets = list(accumulate(message.blocksizes, initial=len(data)))
    if offsets[-1] >= MAX_FILE_SIZE:
        raise LimitError(f"{cid} claims to be a file of {offsets[-1]} bytes; 2**63 is too many.")
    if message.filesize not in (offsets[-1], None):
        claim = f"{cid} claims to be {message.filesize} bytes"
        raise VerificationError(f"{claim}, its parts have {offsets[-1]}.")
    return FileNode(data, offsets[-1], node.cids, array("q", offsets), node.tsizes)


def _not_a_file(cid: CID, message: UnixFS) -> str:
    if message.type == NodeType.SYMLINK:
        target = (message.data or b"").decode("utf-8", "backslashreplace")
        return f"{cid} is a symlink to {target!r}; symlinks are never followed."
    if message.type == NodeType.METADATA:
        return f"{cid} is a UnixFS metadata node, not a file."
    return f"{cid} is a directory, not a file; name one of its files, or read it as a folder."


@functools.lru_cache(maxsize=256)
def leaf_frame(kind: NodeType, size: int) -> tuple[bytes, bytes]:
    """Returns the bytes before and after the payload of a dag-pb leaf, as nodes write them.

    Args:
        kind: `NodeType.FILE` for leaves of the balanced layout, `NodeType.RAW` for trickle.
        size: Bytes of payload.
    """
    head = protobuf.tagged_varint(1, kind)
    if size:
        head += b"\x12" + encode_varint(size)  # an empty file has no data field
    tail = protobuf.tagged_varint(3, size)
    return b"\x0a" + encode_varint(len(head) + size + len(tail)) + head, tail


# Maximum leaf size of common builders: 1 MiB with the profile unixfs-v1-2025.
LEAF_BYTES = 1 << 20
