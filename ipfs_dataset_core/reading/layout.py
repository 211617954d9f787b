"""The DAG layout of a file: which block contains which bytes, discovered node by node; no I/O here."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core.errors import IPFSDatasetError, LimitError, VerificationError
from ipfs_dataset_core.ipld import CID, RAW, NodeType, leaf_frame, parse_file
from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.options import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces import Span
    from ipfs_dataset_core.ipld import FileNode
    from ipfs_dataset_core.reading.verified_blocks import VerifiedBlocks

# A balanced tree of the largest file that UnixFS can describe has 8 levels at 174 links per node; trickle
# DAGs and hand-made trees have more.
_DEPTH = Limits().dag_depth
# Memory for inner nodes that are kept: as many as 512 nodes of common builders, with up to 1024 links each. A
# block of 2 MiB can have 40 times as many links, or data.
_KEPT_NODES = 512
_KEPT_BYTES = 64 << 20
# The memory of a link: its CID, its offset and its size.
_BYTES_OF_LINK = 128
# With fewer inner nodes than this, they are not prefetched together, but loaded one by one when needed.
_SEVERAL_NODES = 2
# Maximum number of inner nodes that are prefetched ahead of one that is read in order.
_MAX_NODES_AHEAD = 8
_KEPT_LEAVES = 1024
# The size of the smallest common leaves.
_SMALL_LEAF_BYTES = 256 << 10
# Blocks of nodes have at most 2 MiB.
_LONGEST_LEAF = 2 << 20
# The first bytes of the binary form of a CID of version 1 and codec raw.
_RAW_V1 = bytes([1, RAW])


class Leaf(NamedTuple):
    """A run of a file's bytes that one block contains.

    Args:
        cid: The binary CID of the block.
        start: Position in the file of its first byte.
        stop: Position after its last byte.
        raw: Whether the block consists of these bytes; otherwise it is a dag-pb node that contains them.
    """

    cid: bytes
    start: int
    stop: int
    raw: bool


class Inline(NamedTuple):
    """A run of a file's bytes that an inner node itself contains."""

    data: bytes
    start: int
    stop: int


class FileLayout:
    """The tree under one file.

    A dag-pb child is assumed to be a leaf if its cumulative size is exactly that of a leaf with its bytes, so
    that the leaves of a balanced tree can be distinguished from inner nodes without fetching them. A caller
    that finds such a block to be an inner node must report that with `not_a_leaf`.

    Args:
        cid: The file.
        load: Returns the verified block of a CID.
        depth: Maximum number of levels of blocks in the tree.
        prefetch: Starts loading blocks that will soon be loaded; None loads each block when it is needed.
    """

    def __init__(
        self,
        cid: CID,
        load: Callable[[CID], bytes],
        depth: int = _DEPTH,
        prefetch: Callable[[Iterable[CID]], None] | None = None,
    ) -> None:
        self._prefetch = prefetch
        self._depth = depth
        self.cid = cid
        self._load = load
        self._nodes: OrderedDict[bytes, FileNode] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._inner: set[bytes] = set()
        self._recent: dict[int, Leaf] = {}
        self._leaf_bytes = LEAF_BYTES
        self._root = parse_file(cid, load(cid))
        self.size = self._root.size

    @property
    def is_one_block(self) -> bool:
        """Whether the root contains the whole file."""
        return not self._root.links

    @property
    def block_bytes(self) -> int:
        """Approximate size of a leaf: that of the first leaf if it, or any other leaf, is known."""
        first = self._way_to(0, 1)
        return first.stop if isinstance(first, Leaf) else self._leaf_bytes

    @property
    def leaf_grid(self) -> int:
        """A number of bytes at whose multiples leaves seem to begin; 0 if they may begin anywhere."""
        first = self._root.offsets[1] if self._root.links else 0
        return next((size for size in (LEAF_BYTES, _SMALL_LEAF_BYTES) if first % size == 0), 0)

    def segments(self, start: int, stop: int, *, nodes_ahead: int = 0) -> Sequence[Leaf | Inline]:
        """Returns the parts of the file that contain bytes ``start`` to ``stop``, in order, each complete.

        Args:
            start: The first byte.
            stop: The byte after the last one.
            nodes_ahead: If the file is read in order, the number of bytes after a node for which inner nodes
                are prefetched, at least one; 0 prefetches none.
        """
        stop = min(stop, self.size)
        if start >= stop:
            return ()
        # Most small reads are within one leaf of a node that was read before.
        leaf = self.leaf_with(start, stop)
        if leaf is not None:
            return (leaf,)
        return list(self._below(self._root, 0, start, stop, 1, nodes_ahead=nodes_ahead))

    def leaves(self, spans: Iterable[Span], *, nodes_ahead: int = 0) -> Iterator[Leaf]:
        """Yields the leaves that contain any byte of spans, in order, without duplicates.

        Args:
            spans: Sorted pairs of start and stop.
            nodes_ahead: As for `segments`.
        """
        reached = 0
        for start, stop in spans:
            if stop <= reached:
                continue
            for segment in self.segments(max(start, reached), stop, nodes_ahead=nodes_ahead):
                reached = segment.stop
                if isinstance(segment, Leaf):
                    yield segment

    def scattered_leaves(self, spans: Iterable[Span]) -> list[Leaf]:
        """Returns the leaves that contain any byte of spans, in order, without duplicates.

        Missing inner nodes are loaded together, those of each level of the tree at once.
        """
        found: dict[int, Leaf] = {}
        missing: list[Span] = []
        for start, stop in spans:
            if start >= stop:
                continue
            leaf = self.leaf_with(start, stop)
            if leaf is None:
                missing.append((start, stop))
            else:
                found[leaf.start] = leaf
        if missing:
            self._load_nodes(missing)
            found.update((leaf.start, leaf) for leaf in self.leaves(sorted(missing)))
        return [found[start] for start in sorted(found)]

    def _load_nodes(self, spans: Sequence[Span]) -> None:
        """Loads the inner nodes on the way to spans, if several can be loaded together."""
        for _ in range(self._depth):
            ends = (self._way_to(at, at + 1) for start, stop in spans for at in (start, stop - 1))
            nodes = {node for node in ends if isinstance(node, bytes)}
            if self._prefetch is None or len(nodes) < _SEVERAL_NODES:
                return
            cids = [CID.from_bytes(node) for node in nodes]
            self._prefetch(cids)
            for cid in cids:
                self._keep(cid.to_bytes(), parse_file(cid, self._load(cid)))

    def leaf_with(self, start: int, stop: int) -> Leaf | None:
        """Returns the leaf that contains all of a span; None if there is none or it is not known yet."""
        # Random access often reads from the same few leaves.
        leaf = self._recent.get(start // _SMALL_LEAF_BYTES)
        if leaf is not None and leaf.start <= start and stop <= leaf.stop:
            return leaf
        found = self._way_to(start, stop)
        if not isinstance(found, Leaf):
            return None
        if len(self._recent) >= _KEPT_LEAVES:
            self._recent.clear()
        self._recent[start // _SMALL_LEAF_BYTES] = found
        return found

    def unread_node(self, start: int) -> CID | None:
        """Returns the inner node to read next on the way to the leaf at `start`; None if it is known."""
        found = self._way_to(start, start + 1)
        return CID.from_bytes(found) if isinstance(found, bytes) else None

    def _way_to(self, start: int, stop: int) -> Leaf | bytes | None:
        """Returns the leaf that contains all of a span, or the CID of the node to read in order to find it.

        None if there is no such leaf, or it cannot be found easily: an inconsistent or too deep tree is left
        to `_below`, which rejects it each time, whatever was read before.
        """
        node, base = self._root, 0
        for _ in range(self._depth):
            offsets = node.offsets
            child = bisect_right(offsets, start - base) - 1
            if not 0 <= child < len(node.links) or stop - base > offsets[child + 1]:
                return None
            leaf = self._leaf(node, base, child)
            if leaf is not None:
                return leaf
            below = self._nodes.get(node.links[child])
            if below is None:
                return node.links[child]
            if below.size != offsets[child + 1] - offsets[child]:
                return None
            node, base = below, base + offsets[child]
        return None

    def not_a_leaf(self, leaf: Leaf) -> None:
        """Records that a block that was assumed to be a leaf is an inner node."""
        self._inner.add(leaf.cid)
        self._recent.clear()

    def unverified(
        self, verified: VerifiedBlocks, start: int = 0, *, nodes_ahead: int = 0
    ) -> Iterator[Span]:
        """Yields the spans after a byte whose blocks are not known to be verified, in order.

        Inner nodes are loaded during the iteration, and added to `verified` when everything below them was
        read. If one cannot be loaded, everything below it is one span, so that reading it raises the error.

        Args:
            verified: The blocks verified so far. The caller adds the leaves that it has read.
            start: The first byte.
            nodes_ahead: As for `segments`.
        """
        root = self.cid.to_bytes()
        if not verified.has(root, self.size):
            yield from self._unverified(
                (root, self._root), 0, start, verified, depth=1, nodes_ahead=nodes_ahead
            )

    def _unverified(
        self,
        top: tuple[bytes, FileNode],
        base: int,
        start: int,
        verified: VerifiedBlocks,
        *,
        depth: int,
        nodes_ahead: int,
    ) -> Iterator[Span]:
        cid, node = top
        if depth > self._depth:
            yield base, base + node.size
            return
        offsets = node.offsets
        if start < base + offsets[0]:
            yield base, base + offsets[0]
        for child, link in enumerate(node.links):
            begin, stop = base + offsets[child], base + offsets[child + 1]
            if stop <= max(begin, start) or verified.has(link, stop - begin):
                continue
            below = self._node_at(node, base, child)
            if below is None:
                yield begin, stop
                continue
            self._prefetch_nodes(node, base, child + 1, stop + nodes_ahead)
            yield from self._unverified(
                (link, below), begin, start, verified, depth=depth + 1, nodes_ahead=nodes_ahead
            )
        if start <= base:
            verified.add_node(cid, node)

    def _node_at(self, node: FileNode, base: int, child: int) -> FileNode | None:
        """Returns a child that is an inner node; None if it is a leaf or cannot be loaded."""
        leaf, size = self._leaf(node, base, child), node.offsets[child + 1] - node.offsets[child]
        # No leaf is larger than a block, so a larger child must be an inner node even if it is not declared
        # so.
        if leaf is not None and (leaf.raw or size <= _LONGEST_LEAF):
            return None
        with suppress(IPFSDatasetError):  # raised when it is read
            return self._node(node.links[child], size)
        return None

    def _below(
        self, node: FileNode, base: int, start: int, stop: int, depth: int, *, nodes_ahead: int
    ) -> Iterator[Leaf | Inline]:
        if depth > self._depth:
            raise LimitError(f"The tree of file {self.cid} is deeper than {self._depth} levels")
        if node.data and start < base + len(node.data):
            yield Inline(node.data, base, base + len(node.data))
        offsets = node.offsets
        first = max(0, bisect_right(offsets, start - base, hi=len(node.links)) - 1)
        for child in range(first, len(node.links)):
            child_start, child_stop = base + offsets[child], base + offsets[child + 1]
            if child_start >= stop:
                return
            if child_stop > max(start, child_start):
                leaf = self._leaf(node, base, child)
                if leaf is not None:
                    yield leaf
                else:
                    below = self._node(node.links[child], child_stop - child_start)
                    # Not earlier, because the node that is needed now would wait for it at a distant source.
                    if nodes_ahead:
                        self._prefetch_nodes(node, base, child + 1, child_stop + nodes_ahead)
                    yield from self._below(
                        below, child_start, start, stop, depth + 1, nodes_ahead=nodes_ahead
                    )

    def _prefetch_nodes(self, node: FileNode, base: int, child: int, stop: int) -> None:
        """Starts loading the children of a node that are inner nodes and begin before a byte."""
        if self._prefetch is None:
            return
        last = min(
            child + _MAX_NODES_AHEAD, bisect_left(node.offsets, stop - base), len(node.links)
        )
        unread: list[CID] = []
        with suppress(VerificationError):  # a link that is not a CID is rejected when it is read
            for number in range(child, last):
                link = node.links[number]
                if link not in self._nodes and self._leaf(node, base, number) is None:
                    unread.append(CID.from_bytes(link))
        if unread:
            self._prefetch(unread)

    def _leaf(self, node: FileNode, base: int, child: int) -> Leaf | None:
        """Returns the child of a node as a leaf; None if it is itself an inner node."""
        cid, offsets = node.links[child], node.offsets
        start, stop = base + offsets[child], base + offsets[child + 1]
        raw = cid[:2] == _RAW_V1
        if not raw:
            prefix, suffix = leaf_frame(NodeType.FILE, stop - start)
            framed = len(prefix) + stop - start + len(suffix)
            if node.tsizes[child] != framed or cid in self._inner:
                return None
        return Leaf(cid, start, stop, raw)

    def _node(self, raw_cid: bytes, size: int) -> FileNode:
        node = self._nodes.get(raw_cid)
        if node is None:
            cid = CID.from_bytes(raw_cid)
            node = parse_file(cid, self._load(cid))
            self._keep(raw_cid, node)
        if node.size != size:
            raise VerificationError(
                f"Block {CID.from_bytes(raw_cid)} of file {self.cid} holds {node.size} bytes where its "
                f"parent states {size}: the file was built wrongly and cannot be read"
            )
        return node

    def _keep(self, raw_cid: bytes, node: FileNode) -> None:
        with self._lock:
            if raw_cid not in self._nodes:
                self._nodes[raw_cid] = node
                self._kept_bytes += _memory_of(node)
            while len(self._nodes) > 1 and (
                self._kept_bytes > _KEPT_BYTES or len(self._nodes) > _KEPT_NODES
            ):
                self._kept_bytes -= _memory_of(self._nodes.popitem(last=False)[1])
        first = self._leaf(node, 0, 0) if node.links else None
        if first is not None:
            self._leaf_bytes = first.stop


def _memory_of(node: FileNode) -> int:
    return len(node.data) + _BYTES_OF_LINK * len(node.links)
