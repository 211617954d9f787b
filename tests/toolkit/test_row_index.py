"""Indexes of files that are one sample or rows of arrays."""

from __future__ import annotations

import pickle
from array import array

import pytest

from ipfs_dataset_core import Extents, RowsIndex, WholeFileIndex

CHUNKED = Extents(array("Q", [100, 300]), array("Q", [200, 350]), step=4)
FOLLOWING = Extents(array("Q", [1000]), array("Q", [1008]), width=8)


def test_a_whole_file():
    index = WholeFileIndex("a.h5", 77)
    assert (len(index), index.name(0), index.span(0)) == (1, "a.h5", (0, 77))
    with pytest.raises(IndexError):
        index.name(1)


def test_rows_that_share_a_chunk_that_follow_each_other_and_that_lie_anywhere():
    assert [CHUNKED.span(row) for row in (0, 3, 4, 7, 9)] == [(100, 200)] * 2 + [(300, 350)] * 3
    assert [FOLLOWING.span(row) for row in (0, 5)] == [(1000, 1008), (1040, 1048)]
    assert Extents().span(12) == (0, 0)


def test_rows_of_several_arrays():
    made = RowsIndex("a.h5", 9, {"x": FOLLOWING, "y": CHUNKED, "z": Extents()}, step=4)
    for index in (made, pickle.loads(pickle.dumps(made))):
        assert (len(index), index.step, index.arrays) == (9, 4, ["x", "y", "z"])
        assert index.name(8) == "a.h5:8"
        assert index.span(8) == (300, 350)
        with pytest.raises(IndexError):
            index.name(9)
    assert RowsIndex("a.h5", 0, {}, step=1).span(0) == (0, 0)
