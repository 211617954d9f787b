"""A directory that a format reads by number: its files are fetched ahead, by their paths."""

from __future__ import annotations

from itertools import chain

import pytest

from ipfs_dataset_core.datasets.shards import ObjectShard
from ipfs_dataset_core.interfaces import MemberIndex, Reader
from ipfs_dataset_core.testing import MemoryDirectory

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
