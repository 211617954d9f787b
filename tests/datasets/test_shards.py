"""Shards: what they read ahead, where their shuffle blocks end, and all of them numbered through."""

from __future__ import annotations

from itertools import chain

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.datasets.shards import ConcatenatedShards, FolderShard, ObjectShard
from ipfs_dataset_core.errors import Location, ObjectNotFoundError
from ipfs_dataset_core.interfaces import MemberIndex, Reader
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from ipfs_dataset_core.toolkit.indexes import NameTable
from tests.support.fake_shards import FakeShard, everything, shards

NAMES = [f"{number:03}.txt" for number in range(400)]


class Names(MemberIndex):
    def __len__(self):
        return len(NAMES)

    def name(self, position):
        return NAMES[position]

    def span(self, position):
        return 0, 0


class Texts(Reader):
    cheap_index = True

    def samples(self, source):
        return (self.read(source, Names(), position) for position in range(len(NAMES)))

    def index(self, source):
        return Names()

    def read(self, source, index, position):
        return NAMES[position], source.open(NAMES[position]).read().decode()


class Hinted(MemoryDirectory):
    """Notes what is said to be read soon."""

    def __init__(self):
        super().__init__({name: name.encode() for name in NAMES})
        self.hints = []

    def prefetch(self, paths):
        self.hints.append(list(paths))


@pytest.fixture
def shard():
    directory = Hinted()
    return ObjectShard(lambda: directory, Texts(), "texts")


def test_a_batch_is_fetched_together(shard):
    shard.prefetch([7, 3])
    assert shard.source.hints == [[NAMES[7], NAMES[3]]]


def test_a_range_is_fetched_ahead(shard):
    assert shard.is_counted()
    found = shard.iterate(10, 400)
    assert next(found) == (NAMES[10], NAMES[10])
    assert shard.source.hints == [NAMES[10:26]], "the first sample waits for this"
    assert [name for name, _ in found] == NAMES[11:400]
    assert list(chain.from_iterable(shard.source.hints)) == NAMES[10:400]
    assert len(shard.source.hints) < 10
    assert max(map(len, shard.source.hints)) <= 256


class Counting(Hinted):
    """Counts how often files are read, and which."""

    def __init__(self, missing=()):
        super().__init__()
        self.calls, self.read, self.missing = 0, [], missing

    def read_each(self, paths):
        self.calls += 1
        for path in paths:
            if path in self.missing:
                raise ObjectNotFoundError(f"{path} is missing")
            self.read.append(path)
            yield path.encode()


def folder_shard(directory):
    def where(number, path):
        return Location(object="folder", sample=number, member=path)

    return FolderShard(ProcessLocal(lambda: directory), NameTable(NAMES), "folder", where)


def test_files_of_a_folder_are_fetched_in_few_runs_as_they_are_consumed():
    directory = Counting()
    found = folder_shard(directory).iterate(10, 400)
    assert next(found) == (NAMES[10], NAMES[10].encode())
    assert directory.read == NAMES[10:11]
    assert [name for name, _ in found] == NAMES[11:400]
    assert directory.read == NAMES[10:400]
    assert directory.calls < 15
    assert list(chain.from_iterable(directory.hints)) == NAMES[10:400]


@pytest.mark.parametrize("number", [10, 11, 57, 399])
def test_the_error_of_an_unreadable_file_has_its_number(number):
    found = folder_shard(Counting(missing=[NAMES[number]])).iterate(10, 400)
    for before in NAMES[10:number]:
        assert next(found)[0] == before
    with pytest.raises(ObjectNotFoundError) as caught:
        next(found)
    location = caught.value.location
    assert location is not None
    assert (location.sample, location.member) == (number, NAMES[number])


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


def object_shard(spans, source=None):
    size = max(100, *(stop for _, stop in spans), 0)
    return ObjectShard(lambda: source or MemoryFile(b"x" * size), Placed(spans), "object")


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
        [object_shard([(0, 10), (10, 20), (20, 30)]), object_shard([(0, 5)]), members(70)]
    )
    assert list(shards.block_stops(20)) == [2, 3, 4, *range(5, 75)]
    assert list(shards.block_stops(2 << 20)) == [3, 4, 36, 68, 74]


def test_a_dataset_without_samples_has_no_blocks():
    assert list(ConcatenatedShards([]).block_stops(1)) == []
    assert list(ConcatenatedShards([object_shard([])]).block_stops(1)) == []


@pytest.mark.parametrize(
    ("spans", "mixes"),
    [
        ([(0, 10), (10, 20)], True),
        ([(0, 0)] * 200 + [(0, 10)] * 200, True),
        ([(0, 0)] * 3, False),
        ([], True),
    ],
)
def test_samples_of_an_object_whose_index_has_no_byte_positions_are_not_mixed(spans, mixes):
    assert object_shard(spans).has_blocks() == mixes


def test_samples_of_a_directory_are_mixed_whatever_their_positions():
    assert object_shard([(0, 0)] * 3, MemoryDirectory({"a": b""})).has_blocks()
    assert members(3).has_blocks()


def test_samples_of_an_object_without_an_index_are_not_mixed():
    assert not FakeShard("gz", [0], 1, "stream", countable=False).has_blocks()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 90))
def test_blocks_are_of_neighbours_within_the_size(sizes, size):
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    spans = [(start, start + length) for start, length in zip(starts, sizes, strict=True)]
    stops = list(ConcatenatedShards([object_shard(spans)]).block_stops(size))
    for first, stop in zip([0, *stops], stops, strict=False):
        assert stop == first + 1 or starts[stop - 1] - starts[first] < size
