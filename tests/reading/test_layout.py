"""Where the bytes of a file lie, against trees of every shape whose content is known."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import IPFSDatasetError, LimitError, VerificationError
from ipfs_dataset_core.ipld import CID, RAW, FileBuilder, dag_pb, make_cid
from ipfs_dataset_core.ipld.builder import Profile
from ipfs_dataset_core.ipld.cid import DAG_PB
from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES, NodeType, UnixFS, leaf_frame, parse_file
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.reading.layout import FileLayout, Inline, Leaf
from tests.support.builders import noise


class Tree:
    """Blocks, and what each node under construction is."""

    def __init__(self):
        self.blocks: dict[CID, bytes] = {}
        self.loads: list[CID] = []

    def emit(self, cid, block):
        self.blocks[cid] = block

    def load(self, cid):
        self.loads.append(cid)
        return self.blocks[cid]

    def raw_leaf(self, data):
        cid = make_cid(data, RAW)
        self.emit(cid, data)
        return cid, len(data), len(data)

    def framed_leaf(self, data, kind=NodeType.FILE):
        prefix, suffix = leaf_frame(kind, len(data))
        return self._node(prefix + data + suffix, len(data), 0)

    def inner(self, data, children, *, claimed=None, tsizes=None):
        """Returns a node with some bytes of its own before its children, as trickle trees have."""
        sizes = [size for _, size, _ in children] if claimed is None else claimed
        total = len(data) + sum(sizes)
        message = UnixFS(NodeType.FILE, data or None, total, sizes).encode()
        links = [
            (cid.to_bytes(), b"", tsizes[at] if tsizes else tsize)
            for at, (cid, _, tsize) in enumerate(children)
        ]
        below = sum(tsize for _, _, tsize in children)
        return self._node(dag_pb.encode(message, links), total, below)

    def _node(self, block, size, below):
        cid = make_cid(block, DAG_PB)
        self.emit(cid, block)
        return cid, size, len(block) + below

    def layout(self, root):
        return FileLayout(root[0], self.load)


def read(tree, layout, start, stop):
    """Reads a span as files do: leaves by their block, taking back what was taken for a leaf wrongly."""
    pieces = []
    reached = None
    for segment in layout.segments(start, stop):
        assert reached in (None, segment.start), "segments follow each other"
        reached = segment.stop
        if isinstance(segment, Inline):
            assert len(segment.data) == segment.stop - segment.start
            data = segment.data
        elif segment.raw:
            data = tree.blocks[CID.from_bytes(segment.cid)]
        else:
            cid = CID.from_bytes(segment.cid)
            node = parse_file(cid, tree.blocks[cid])
            if node.links:
                layout.not_a_leaf(segment)
                return read(tree, layout, start, stop)
            data = node.data
        assert len(data) == segment.stop - segment.start
        pieces.append(data[max(0, start - segment.start) : stop - segment.start])
    return b"".join(pieces)


spans = st.tuples(st.integers(0, 400), st.integers(0, 400))


@given(
    st.integers(0, 300),
    st.integers(1, 40),
    st.integers(2, 5),
    st.booleans(),
    st.lists(spans, max_size=6),
)
def test_balanced_trees_of_any_chunk_size_and_width(size, chunk, width, raw, asked):
    profile = Profile(
        name="t",
        cid_version=1,
        raw_leaves=raw,
        chunk_size=chunk,
        file_links=width,
        hamt_size="block",
    )
    tree = Tree()
    data = noise(size)
    builder = FileBuilder(profile, tree.emit)
    builder.write(data)
    layout = FileLayout(builder.finish().cid, tree.load)
    assert layout.size == size
    assert read(tree, layout, 0, size) == data
    for start, stop in asked:
        assert read(tree, layout, start, stop) == data[start:stop]


@st.composite
def odd_trees(draw, tree=None, depth=0):
    """A tree with bytes in inner nodes, empty leaves, leaves of both kinds at every level."""
    tree = tree or Tree()
    data = draw(st.binary(max_size=5))
    kind = draw(st.sampled_from(["raw", "file", "bytes", "inner", "inner"])) if depth < 4 else "raw"
    if kind == "raw" and depth:
        return tree, tree.raw_leaf(data), data
    if kind in ("file", "bytes"):
        node = NodeType.FILE if kind == "file" else NodeType.RAW
        return tree, tree.framed_leaf(data, node), data
    children = [draw(odd_trees(tree, depth + 1)) for _ in range(draw(st.integers(0, 3)))]
    root = tree.inner(data, [child for _, child, _ in children])
    return tree, root, data + b"".join(content for _, _, content in children)


@given(odd_trees(), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8))
def test_trees_of_any_shape(made, asked):
    tree, root, data = made
    layout = tree.layout(root)
    assert layout.size == len(data)
    assert read(tree, layout, 0, len(data)) == data
    for start, stop in asked:
        assert read(tree, layout, start, stop) == data[start:stop]


@given(odd_trees())
def test_two_passes_give_the_same_segments(made):
    tree, root, data = made
    layout = tree.layout(root)
    read(tree, layout, 0, len(data))
    once = list(layout.segments(0, len(data)))
    assert once == list(layout.segments(0, len(data)))


@given(odd_trees(), st.integers(0, 60))
def test_the_unread_node_at_a_position_is_the_first_that_reading_there_loads(made, at):
    tree, root, _ = made
    layout = tree.layout(root)
    before, unread = len(tree.loads), layout.unread_node(at)
    assert len(tree.loads) == before
    list(layout.segments(at, at + 1))
    assert tree.loads[before : before + 1] == ([] if unread is None else [unread])
    assert layout.unread_node(at) is None


def test_a_leaf_is_found_again_until_it_is_reported_as_no_leaf():
    tree = Tree()
    inner = tree.inner(b"", [tree.raw_leaf(noise(30, 1)), tree.raw_leaf(noise(20, 2))])
    # Their parent calls it as large as a leaf of as many bytes would be.
    claimed = sum(map(len, leaf_frame(NodeType.FILE, 50))) + 50
    layout = tree.layout(
        tree.inner(b"", [inner, tree.raw_leaf(noise(50, 3))], tsizes=[claimed, 50])
    )
    taken = layout.leaf_with(0, 10)
    assert taken is not None
    assert (taken.stop, taken) == (50, layout.leaf_with(40, 50))
    assert layout.leaf_with(40, 51) is None, "two leaves hold it"
    layout.not_a_leaf(taken)
    assert layout.leaf_with(0, 10) is None, "the node has to be read first"
    assert [(s.start, s.stop) for s in layout.segments(0, 40)] == [(0, 30), (30, 50)]
    assert layout.leaf_with(0, 10) == (inner_leaf := layout.segments(0, 10)[0])
    assert (inner_leaf.start, inner_leaf.stop) == (0, 30)


def test_leaves_of_a_balanced_tree_are_known_without_fetching_them():
    tree = Tree()
    leaves = [tree.framed_leaf(noise(50, n)) for n in range(6)]
    middle = [tree.inner(b"", leaves[:3]), tree.inner(b"", leaves[3:])]
    layout = tree.layout(tree.inner(b"", middle))
    assert [(s.start, s.stop) for s in layout.segments(60, 140)] == [(50, 100), (100, 150)]
    assert len(tree.loads) == 2, "the root and one inner node"
    list(layout.segments(0, 300))
    list(layout.segments(0, 300))
    assert len(tree.loads) == 3, "and the other, once"


def test_an_inner_node_that_looks_like_a_leaf_is_detected():
    tree = Tree()
    child = tree.inner(b"", [tree.raw_leaf(b"abc"), tree.raw_leaf(b"def")])
    prefix, suffix = leaf_frame(NodeType.FILE, 6)
    root = tree.inner(b"", [child], tsizes=[len(prefix) + 6 + len(suffix)])
    layout = tree.layout(root)
    [segment] = layout.segments(0, 6)
    assert isinstance(segment, Leaf)
    assert read(tree, layout, 0, 6) == b"abcdef"


def test_a_child_of_another_size_than_its_parent_states_is_refused():
    tree = Tree()
    child = tree.inner(b"", [tree.raw_leaf(b"abc"), tree.raw_leaf(b"def")])
    layout = tree.layout(tree.inner(b"", [child], claimed=[5]))
    with pytest.raises(VerificationError, match="6 bytes where its parent states 5"):
        list(layout.segments(0, 5))


def test_an_endless_tree_is_refused():
    tree = Tree()
    node = tree.raw_leaf(b"x")
    for _ in range(Limits().dag_depth + 1):
        node = tree.inner(b"", [node])
    with pytest.raises(LimitError, match="deeper than"):
        list(tree.layout(node).segments(0, 1))


@given(odd_trees(), st.data())
def test_damaged_trees_raise_typed_errors(made, data):
    tree, root, _ = made
    victim = data.draw(st.sampled_from(sorted(tree.blocks, key=str)))
    block = bytearray(tree.blocks[victim])
    if not block:
        return
    block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    tree.blocks[victim] = bytes(block)
    # KeyError: the damage is in a link, and this test's dictionary has no such block.
    with suppress(IPFSDatasetError, KeyError):
        layout = tree.layout(root)
        for segment in islice(layout.segments(0, layout.size), 1000):
            assert 0 <= segment.start < segment.stop


def test_the_next_inner_node_is_prefetched_where_a_file_is_read_in_order():
    profile = Profile(
        name="t", cid_version=1, raw_leaves=True, chunk_size=100, file_links=20, hamt_size="block"
    )
    tree = Tree()
    builder = FileBuilder(profile, tree.emit)
    builder.write(noise(10_000))
    root = builder.finish().cid
    prefetched: list[CID] = []
    layout = FileLayout(root, tree.load, prefetch=prefetched.extend)
    layout.segments(0, 1)
    tree.loads.clear()
    for start in range(0, 10_000, 100):
        layout.segments(start, start + 150, nodes_ahead=1)
    assert len(set(tree.loads)) == 4, "the nodes behind the first one"
    assert list(dict.fromkeys(prefetched)) == list(dict.fromkeys(tree.loads))
    elsewhere = FileLayout(root, tree.load, prefetch=prefetched.extend)
    prefetched.clear()
    elsewhere.segments(0, 10_000)
    assert prefetched == [], "not where it is read at random"


@pytest.mark.parametrize(
    ("nodes_ahead", "expected"), [(1, 1), (2000, 1), (2001, 2), (7000, 4), (1 << 40, 8)]
)
def test_inner_nodes_of_a_number_of_bytes_are_prefetched_together(nodes_ahead, expected):
    tree, layout, batches = narrow(width=20, size=40_000)
    tree.loads.clear()
    layout.segments(0, 150, nodes_ahead=nodes_ahead)
    assert len(tree.loads) == 1, "the first node is needed now"
    nodes = layout._root.links[1 : 1 + expected]
    assert [[cid.to_bytes() for cid in some] for some in batches] == [list(nodes)]


def test_a_link_that_is_no_cid_does_not_stop_the_reading_before_it():
    tree = Tree()
    leaves = [tree.raw_leaf(noise(100, number)) for number in range(4)]
    first, second = tree.inner(b"", leaves[:2]), tree.inner(b"", leaves[2:])
    root, size, _ = tree.inner(b"", [first, second, second])
    bad = b"\x01\x70\x12\x21" + second[0].to_bytes()[4:]
    block = tree.blocks[root].replace(second[0].to_bytes(), bad)
    broken = make_cid(block, DAG_PB)
    tree.emit(broken, block)
    prefetched: list[CID] = []
    layout = FileLayout(broken, tree.load, prefetch=prefetched.extend)
    assert [one.stop for one in layout.segments(0, 200, nodes_ahead=size)] == [100, 200]
    assert prefetched == []


def test_leaves_are_not_prefetched_with_the_inner_nodes():
    tree = Tree()
    leaves = [tree.raw_leaf(noise(100, number)) for number in range(5)]
    root = tree.inner(b"", [tree.inner(b"", leaves[:2]), *leaves[2:]])
    prefetched: list[CID] = []
    layout = FileLayout(root[0], tree.load, prefetch=prefetched.extend)
    found = [layout.segments(at, at + 1, nodes_ahead=1) for at in range(0, 500, 100)]
    assert sum(map(len, found)) == 5
    assert prefetched == []


@given(odd_trees(), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8))
def test_the_leaves_of_spans_are_those_that_hold_any_of_their_bytes_each_once(made, spans):
    tree, root, _ = made
    layout = tree.layout(root)
    spans = sorted(spans)
    found = list(layout.leaves(spans))
    every = [s for s in layout.segments(0, layout.size) if isinstance(s, Leaf)]
    held = [s for s in every if any(max(s.start, a) < min(s.stop, b) for a, b in spans)]
    assert found == held


@given(odd_trees(), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8))
def test_scattered_leaves_are_those_of_sorted_spans(made, spans):
    tree, root, _ = made
    prefetched: list[CID] = []
    layout = tree.layout(root)
    layout._prefetch = prefetched.extend
    found = layout.scattered_leaves(spans)
    assert found == list(tree.layout(root).leaves(sorted(spans)))
    assert found == layout.scattered_leaves(reversed(spans)), "known by now"
    assert set(prefetched) <= set(tree.loads)


def narrow(chunk=100, width=4, size=10_000):
    """Returns a tree of three levels of nodes, its root, and the layout with what it prefetched."""
    profile = Profile(
        name="t",
        cid_version=1,
        raw_leaves=True,
        chunk_size=chunk,
        file_links=width,
        hamt_size="block",
    )
    tree = Tree()
    builder = FileBuilder(profile, tree.emit)
    builder.write(noise(size))
    batches: list[list[CID]] = []
    root = builder.finish().cid
    return (
        tree,
        FileLayout(root, tree.load, prefetch=lambda cids: batches.append(list(cids))),
        batches,
    )


def test_the_nodes_of_scattered_spans_are_loaded_level_by_level():
    tree, layout, batches = narrow()
    spans = [(at, at + 10) for at in range(5, 10_000, 1_500)]
    assert len(layout.scattered_leaves(spans)) == len(spans)
    assert len(batches) == 3, "four levels, of which the root is there and the last are leaves"
    assert sum(map(len, batches)) == len(set(tree.loads)) - 1
    batches.clear()
    layout.scattered_leaves(spans)
    assert batches == []


@pytest.mark.parametrize(
    ("chunk", "grid"),
    [(1 << 20, 1 << 20), (1 << 18, 1 << 18), (1 << 16, 1 << 18), (300_000, 0), (100, 0)],
)
def test_the_grid_of_leaves_is_derived_from_the_root(chunk, grid):
    _, layout, _ = narrow(chunk, width=5, size=26 * chunk)
    assert layout.leaf_grid == grid or (grid and layout.leaf_grid % grid == 0)
    assert layout.leaf_grid % chunk == 0


def test_the_size_of_blocks_is_known_as_soon_as_any_leaf_is():
    _, layout, _ = narrow()
    assert layout.block_bytes == LEAF_BYTES
    layout.segments(5_000, 5_001)
    assert layout.block_bytes == 100


def test_nodes_take_bounded_memory_however_many_links_they_have(monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.reading.layout._KEPT_BYTES", 100_000)
    tree = Tree()
    leaves = [tree.raw_leaf(b"%03d" % number) for number in range(200)]
    nodes = [tree.inner(b"", [*leaves, tree.raw_leaf(b"n%d" % number)]) for number in range(40)]
    layout = tree.layout(tree.inner(b"", nodes))
    assert len(list(layout.leaves([(0, layout.size)]))) == 40 * 201
    assert sum(128 * len(node.links) + len(node.data) for node in layout._nodes.values()) < 100_000
    assert len(layout._nodes) == 100_000 // (128 * 201)


def test_the_largest_node_is_kept_alone(monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.reading.layout._KEPT_BYTES", 1)
    tree = Tree()
    nodes = [tree.inner(b"data", [tree.raw_leaf(b"%d" % number)] * 3) for number in range(3)]
    layout = tree.layout(tree.inner(b"", nodes))
    assert read(tree, layout, 0, layout.size) == b"data000data111data222"
    assert len(layout._nodes) == 1
