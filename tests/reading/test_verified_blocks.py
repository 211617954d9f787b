"""What was verified is not read again, in trees of every shape, and takes bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import ObjectNotFoundError
from ipfs_dataset_core.ipld import CID, FileNode
from ipfs_dataset_core.reading.layout import FileLayout
from ipfs_dataset_core.reading.verified_blocks import VerifiedBlocks
from tests.reading.test_layout import Tree, odd_trees


def walk(layout, verified, *, start=0, reads=lambda _: True):
    """Verifies a file as a run does, one span after the other; returns the leaves that were read."""
    found = []
    for begin, stop in layout.unverified(verified, start):
        for leaf in layout.leaves([(begin, stop)]):
            found.append(leaf)
            if reads(leaf):
                verified.add(leaf.cid, leaf.stop - leaf.start)
    return found


@given(odd_trees())
def test_each_leaf_is_read_once_and_none_is_left_out(made):
    tree, root, data = made
    verified = VerifiedBlocks()
    read = {(leaf.cid, leaf.stop - leaf.start) for leaf in walk(tree.layout(root), verified)}
    expected = {
        (leaf.cid, leaf.stop - leaf.start) for leaf in tree.layout(root).leaves([(0, len(data))])
    }
    assert read == expected
    assert walk(tree.layout(root), verified) == []


@given(odd_trees(), st.integers(0, 40))
def test_parts_before_the_start_are_neither_read_nor_counted_as_verified(made, start):
    tree, root, data = made
    verified = VerifiedBlocks()
    walk(tree.layout(root), verified, start=start)
    left = {leaf.cid for leaf in walk(tree.layout(root), verified)}
    before = {leaf.cid for leaf in tree.layout(root).leaves([(0, start)])}
    behind = {leaf.cid for leaf in tree.layout(root).leaves([(start, len(data))])}
    assert left == before - behind


def nested(levels, width):
    """Returns a tree of one block at each level, which stands for ``width ** levels`` leaves."""
    tree = Tree()
    node = tree.raw_leaf(b"leaf")
    for _ in range(levels):
        node = tree.inner(b"", [node] * width)
    return tree, node


def test_a_tree_of_few_blocks_with_petabytes_is_walked_at_once():
    tree, root = nested(12, 20)
    layout = tree.layout(root)
    assert layout.size > 10**15
    verified = VerifiedBlocks()
    assert len(walk(layout, verified)) == 1
    assert len(verified) == 13
    assert len(tree.loads) < 50


def test_an_unreadable_leaf_is_read_again_at_each_occurrence():
    tree, root = nested(3, 5)
    assert len(walk(tree.layout(root), VerifiedBlocks(), reads=lambda _: False)) == 5**3


def test_a_node_that_cannot_be_loaded_is_one_span():
    tree, root = nested(2, 5)
    below = tree.inner(b"", [tree.raw_leaf(b"leaf")] * 5)
    del tree.blocks[below[0]]

    def load(cid):
        if cid == below[0]:
            raise ObjectNotFoundError(str(cid))
        return tree.blocks[cid]

    layout = FileLayout(root[0], load)
    assert list(layout.unverified(VerifiedBlocks())) == [(at, at + 20) for at in range(0, 100, 20)]


def node_of(*children):
    sizes = [size for _, size in children]
    offsets = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    return FileNode(b"", sum(sizes), [cid for cid, _ in children], offsets, sizes)


def test_the_same_block_of_another_size_was_not_verified():
    verified = VerifiedBlocks()
    verified.add(b"leaf", 5)
    assert verified.has(b"leaf", 5)
    assert not verified.has(b"leaf", 6)
    verified.add_node(b"node", node_of((b"leaf", 6)))
    assert not verified.has(b"node", 6)


def test_a_node_is_known_once_its_last_leaf_is():
    verified = VerifiedBlocks()
    verified.add(b"1", 1)
    verified.add_node(b"node", node_of((b"1", 1), (b"2", 1)))
    assert not verified.has(b"node", 2)
    verified.add(b"2", 1)
    verified.add_node(b"other", node_of((b"node", 2), (b"3", 1)))
    assert verified.has(b"node", 2)
    assert not verified.has(b"other", 3)


@pytest.mark.parametrize("most", [1, 10, 100])
def test_memory_is_bounded_and_what_is_used_stays(most):
    verified = VerifiedBlocks(most)
    verified.add(b"used", 1)
    for number in range(1000):
        verified.add(b"%d" % number, 1)
        assert verified.has(b"used", 1) == (most > 1)
    assert len(verified) == most


def test_nodes_that_are_never_completed_are_evicted_eventually(monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.reading.verified_blocks._MOST_WAITING", 100)
    verified = VerifiedBlocks()
    verified.add_node(b"bad", node_of((b"missing", 1)))
    verified.add(b"1", 1)
    for number in range(100):
        verified.add_node(b"%d" % number, node_of((b"1", 1)))
    assert verified.has(b"99", 1)
    assert not verified.has(b"bad", 1)


def test_a_cid_is_that_of_the_link():
    tree, root = nested(1, 2)
    verified = VerifiedBlocks()
    walk(tree.layout(root), verified)
    leaf = next(cid for cid in tree.blocks if cid != root[0])
    assert isinstance(leaf, CID)
    assert verified.has(leaf.to_bytes(), 4)
    assert verified.has(root[0].to_bytes(), 8)
