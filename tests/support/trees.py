"""Trees of files that no importer creates but UnixFS allows: any depth, mixed leaves, bytes in nodes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from ipfs_dataset_core.ipld import CID, DAG_PB, RAW, NodeType, dag_pb, leaf_frame, make_cid
from ipfs_dataset_core.ipld.unixfs import UnixFS
from tests.support.builders import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.builders import Blocks


def add(blocks: Blocks, block: bytes, codec: int) -> CID:
    cid = make_cid(block, codec)
    blocks[cid.multihash] = block
    return cid


def leaf(blocks: Blocks, data: bytes, kind: str) -> CID:
    """Adds a leaf: ``raw``, ``file`` (as balanced trees have) or ``wrapped`` (as trickle trees have)."""
    if kind == "raw":
        return add(blocks, data, RAW)
    if kind == "identity":
        return CID(1, RAW, bytes([0, len(data)]) + data)
    prefix, suffix = leaf_frame(NodeType.FILE if kind == "file" else NodeType.RAW, len(data))
    return add(blocks, prefix + data + suffix, DAG_PB)


def node(
    blocks: Blocks, inline: bytes, parts: list[tuple[CID, int]], tsize: Callable[[CID, int], int]
) -> CID:
    """Adds an inner node with bytes of its own, before those of its children, given with their sizes."""
    sizes = [size for _, size in parts]
    message = UnixFS(NodeType.FILE, inline or None, len(inline) + sum(sizes), sizes)
    links = [(cid.to_bytes(), b"", tsize(cid, size)) for cid, size in parts]
    return add(blocks, dag_pb.encode(message.encode(), links), DAG_PB)


def of_a_leaf(_: CID, size: int) -> int:
    """Returns the size in storage that a leaf would have; for an inner node it is wrong."""
    prefix, suffix = leaf_frame(NodeType.FILE, size)
    return len(prefix) + size + len(suffix)


def chain(blocks: Blocks, data: bytes, chunk: int, kind: str = "wrapped") -> CID:
    """Returns a file whose depth is its number of chunks: each node has one leaf and the rest."""
    rest: list[tuple[CID, int]] = []
    for start in reversed(range(0, len(data), chunk)):
        piece = data[start : start + chunk]
        parts = [(leaf(blocks, piece, kind), len(piece)), *rest]
        rest = [(node(blocks, b"", parts, of_a_leaf), sum(size for _, size in parts))]
    return rest[0][0]


@st.composite
def trees(draw: Any, max_size: int = 4000) -> tuple[CID, Blocks, bytes]:
    """Returns the root of a file, its blocks and its bytes."""
    data = noise(draw(st.integers(0, max_size)), seed=draw(st.integers(0, 3)))
    blocks: Blocks = {}

    def build(part: bytes, depth: int) -> CID:
        if depth == 0 or draw(st.integers(0, 4)) == 0:
            kinds = ["raw", "file", "wrapped"] + (["identity"] if len(part) <= 100 else [])
            return leaf(blocks, part, draw(st.sampled_from(kinds)))
        count = draw(st.integers(0, 6))
        cuts = sorted(draw(st.lists(st.integers(0, len(part)), min_size=count, max_size=count)))
        ends = [*cuts, len(part)]
        pieces = [part[a:b] for a, b in itertools.pairwise(ends)]
        parts = [(build(piece, depth - 1), len(piece)) for piece in pieces]
        tsize = draw(st.sampled_from([of_a_leaf, lambda _, size: size + 999]))
        return node(blocks, part[: ends[0]], parts, tsize)

    return build(data, draw(st.integers(0, 3))), blocks, data
