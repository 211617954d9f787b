"""Concatenated shards: where their shuffle blocks end, and which of them may be mixed."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.datasets.shards import ConcatenatedShards, FolderShard, ObjectShard
from ipfs_dataset_core.errors import Location
from ipfs_dataset_core.interfaces import MemberIndex, Reader
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from ipfs_dataset_core.toolkit.indexes import NameTable
from tests.support.fake_shards import FakeShard, everything, shards


@attrs.frozen
class Spans(MemberIndex):
    spans: list[tuple[int, int]]

    def __len__(self):
        return len(self.spans)

    def name(self, position):
        return str(position)

    def span(self, position):
        return self.spans[position]


@attrs.frozen
class Placed(Reader):
    """Has samples at given places."""

    spans: list[tuple[int, int]]

    def samples(self, source):
        return iter(())

    def index(self, source):
        return Spans(self.spans)


def shard(spans, source=None):
    return ObjectShard(lambda: source or MemoryFile(b"x" * 100), Placed(spans), "object")


def members(count):
    return FolderShard(
        ProcessLocal(lambda: MemoryDirectory({})),
        NameTable(str(number) for number in range(count)),
        "folder",
        lambda _, path: Location(object="folder", file=path),
    )


@given(shards(kinds=("counted", "sliceable")))
def test_samples_are_numbered_through(shards):
    joined = ConcatenatedShards(shards)
    assert [joined.read(number) for number in range(len(joined))] == everything(shards)


def test_blocks_end_where_shards_do():
    shards = ConcatenatedShards(
        [shard([(0, 10), (10, 20), (20, 30)]), shard([(0, 5)]), members(70)]
    )
    assert list(shards.block_stops(20)) == [2, 3, 4, *range(5, 75)]
    assert list(shards.block_stops(2 << 20)) == [3, 4, 36, 68, 74]


def test_no_samples_have_no_blocks():
    assert list(ConcatenatedShards([]).block_stops(1)) == []
    assert list(ConcatenatedShards([shard([])]).block_stops(1)) == []


@pytest.mark.parametrize(
    ("spans", "mixes"),
    [
        ([(0, 10), (10, 20)], True),
        ([(0, 0)] * 200 + [(0, 10)] * 200, True),
        ([(0, 0)] * 3, False),
        ([], True),
    ],
)
def test_an_object_whose_index_names_no_bytes_is_not_mixed(spans, mixes):
    assert shard(spans).has_blocks() == mixes


def test_files_of_a_directory_are_mixed_whatever_their_spans():
    assert shard([(0, 0)] * 3, MemoryDirectory({"a": b""})).has_blocks()
    assert members(3).has_blocks()


def test_what_cannot_be_counted_is_not_mixed():
    assert not FakeShard("gz", [0], 1, "stream", countable=False).has_blocks()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 90))
def test_blocks_are_of_neighbours_within_the_size(sizes, size):
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    spans = [(start, start + length) for start, length in zip(starts, sizes, strict=True)]
    stops = list(ConcatenatedShards([shard(spans)]).block_stops(size))
    for first, stop in zip([0, *stops], stops, strict=False):
        assert stop == first + 1 or starts[stop - 1] - starts[first] < size
