"""Batches: what is fetched together, in which groups, and what was announced before."""

from __future__ import annotations

import random
import zipfile
from contextlib import closing
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import BlockShuffleSampler, IPFSDataset
from ipfs_dataset_core import IPFSObject
from ipfs_dataset_core.datasets.batch_fetch import BatchReader, fetched_ahead, in_groups
from ipfs_dataset_core.datasets.shards import ConcatenatedShards
from ipfs_dataset_core.errors import FormatError, TransportError
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_plugins.tar.reader import TarReader
from ipfs_dataset_plugins.zip.reader import ZipReader
from tests.support.builders import noise, one_file, tar_bytes, zip_bytes
from tests.support.fake_shards import FakeShard
from tests.support.gateway_server import GatewayServer
from tests.support.stores import SMALL_LEAVES, Store, blocks_in
from tests.support.workers import as_it_is

LEAF = 256 << 10
FILES = {f"{number:03}": noise(10_000, number) for number in range(600)}
# An order in which nearly each sample is in another block than those before it.
HOPPING = random.Random(1).sample(range(600), 600)


class Noting(FakeShard):
    """Samples of one byte, of which it is noted when they were asked for."""

    def __attrs_post_init__(self):
        super().__attrs_post_init__()
        self.asked = []

    def prefetch(self, positions):
        self.asked.append(list(positions))


def noting(count):
    shard = Noting("zip", list(range(count)), count, "counted")
    return shard, ConcatenatedShards([shard])


def test_a_group_is_fetched_while_the_one_before_is_read():
    shard, joined = noting(9)
    groups = fetched_ahead(iter([[2, 0], [4, 3], [8]]), joined, lambda group: [group])
    assert next(groups) == [2, 0]
    assert shard.asked == [[0, 2], [3, 4]]
    assert list(groups) == [[4, 3], [8]]
    assert shard.asked == [[0, 2], [3, 4], [8]]
    assert list(fetched_ahead([], joined, lambda group: [group])) == []
    assert list(fetched_ahead(["ab"], joined, lambda group: [[7, 6], [1]])) == ["ab"]
    assert shard.asked[3:] == [[6, 7], [1]], "in the parts that memory holds"


def test_where_memory_holds_one_group_the_next_is_not_fetched_ahead():
    shard, joined = noting(9)
    groups = fetched_ahead(iter([[2, 0], [4, 3]]), joined, lambda group: [group], ahead=0)
    assert next(groups) == [2, 0]
    assert shard.asked == [[0, 2]]
    assert list(groups) == [[4, 3]]
    assert shard.asked == [[0, 2], [3, 4]]


@given(st.lists(st.none() | st.integers(0, 49), max_size=40), st.integers(0, 100))
def test_groups_cover_a_batch_and_fit_in_memory(positions, memory):
    groups = in_groups(noting(50)[1], positions, memory)
    assert sorted(place for group in groups for place in group) == list(range(len(positions)))
    needed = [{positions[place] for place in group} - {None} for group in groups]
    if len(set(positions) - {None}) <= memory // 2:
        assert groups == [list(range(len(positions)))]
    else:
        assert all(group == sorted(group) for group in groups)
        assert all(len(group) <= max(1, memory // 4) for group in needed)
        assert all(max(a) <= min(b) for a, b in pairwise(needed) if a and b)


def test_a_batch_whose_objects_cannot_be_opened_is_one_group():
    class Gone(FakeShard):
        def fetch_bytes(self, positions):
            raise TransportError("gone did not come")

    joined = ConcatenatedShards([Gone("gone", list(range(9)), 9, "counted")])
    assert in_groups(joined, [3, None, 1], 0) == [[0, 1, 2]]


@given(st.lists(st.none() | st.integers(0, 49), max_size=40), st.integers(0, 100))
def test_a_batch_has_the_order_of_its_indices(positions, memory):
    _, joined = noting(50)
    counted = count(1)

    def read(group):
        return [(place, (place, next(counted))) for place in group]

    batch = BatchReader(memory).read(joined, positions, read)
    assert [place for place, _ in batch] == list(range(len(positions)))
    assert next(counted) == len(positions) + 1


def test_prefetched_samples_are_fetched_once():
    shard, joined = noting(50)
    batches = BatchReader(100)

    def read(positions):
        batches.read(joined, positions, lambda group: [(place, None) for place in group])

    batches.prefetch(joined, [1, 2])
    assert shard.asked == [], "fetched for a process that reads nothing"
    read([9])
    batches.prefetch(joined, [7, None, 3, 5])
    assert shard.asked == [[9], [3, 5, 7]]
    read([7, 8, 3])
    assert shard.asked[2:] == [[8]]
    read([7, 5])
    assert shard.asked[3:] == [[7]], "what was read may be gone again"


def test_hints_without_reads_are_ignored_after_a_while():
    shard, joined = noting(50)
    batches = BatchReader(100)
    for turn in range(2):
        batches.read(joined, [9], lambda group: [(place, None) for place in group])
        shard.asked.clear()
        for number in range(10):
            batches.prefetch(joined, [10 * turn + number])
        assert shard.asked == [[10 * turn + number] for number in range(4)]


@pytest.fixture(scope="module")
def archive():
    return one_file(zip_bytes(FILES, zipfile.ZIP_STORED), SMALL_LEAVES)


def test_a_batch_that_needs_more_than_memory_holds_fetches_each_block_once(archive):
    root, blocks = archive
    with GatewayServer(blocks, serve_plain=False, serve_car=False) as server:
        dataset = IPFSDataset(f"ipfs://{root}", f"gateway+{server.url}", memory=6 * LEAF)
        number = len(dataset)
        before = server.served["raw"]
        batch = dataset.__getitems__(HOPPING)
        dataset.close()
    assert batch == [(f"{number:03}", FILES[f"{number:03}"]) for number in HOPPING]
    assert number == 600
    leaves = -(-number * 10_000 // LEAF)
    assert server.served["raw"] - before <= leaves + 4


class Shouting(ZipReader):
    def read(self, source, index, position):
        name, data = super().read(source, index, position)
        return name + "!", data


class Reversing(IPFSDataset):
    def __getitem__(self, index):
        name, data = super().__getitem__(index)
        return name[::-1], data


# As many as are read together, without what lies between them.
SCATTERED = HOPPING[:30]
ORDINARY = [(f"{number:03}", FILES[f"{number:03}"]) for number in SCATTERED]


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, "tar"])
def test_a_scattered_batch_is_read_together_and_in_its_order(tmp_path, kind, monkeypatch):
    data = tar_bytes(FILES) if kind == "tar" else zip_bytes(FILES, kind)
    reader = TarReader if kind == "tar" else ZipReader
    monkeypatch.delattr(reader, "read")
    store = Store(tmp_path)
    dataset = IPFSDataset(f"ipfs://{store.file(data)}", store.address)
    assert dataset.__getitems__(SCATTERED) == ORDINARY
    twice = [*SCATTERED, *SCATTERED[::-1]]
    assert dataset.__getitems__(twice) == ORDINARY + ORDINARY[::-1]


def test_a_scattered_batch_fetches_blocks_and_not_samples(archive, monkeypatch):
    asked = []
    leaf = Fetcher.leaf

    def noted(fetcher, layout, wanted):
        asked.append(wanted.start)
        return leaf(fetcher, layout, wanted)

    monkeypatch.setattr(Fetcher, "leaf", noted)
    root, blocks = archive
    with GatewayServer(blocks) as server:
        dataset = IPFSDataset(f"ipfs://{root}", f"gateway+{server.url}")
        dataset.__getitems__([0, 599])
        asked.clear()
        batch = dataset.__getitems__(HOPPING[:70])
        dataset.close()
    assert batch == [(f"{number:03}", FILES[f"{number:03}"]) for number in HOPPING[:70]]
    # Who lies across two blocks needs both, and leaves the next one to be asked for again.
    assert len(asked) < 2 * len(set(asked)) < len(batch)


def test_an_overridden_read_is_called_for_each_sample_of_a_scattered_batch(archive):
    root, blocks = archive
    with GatewayServer(blocks) as server:
        own_format = IPFSObject(f"ipfs://{root}", Shouting())
        with closing(IPFSDataset(own_format, f"gateway+{server.url}")) as dataset:
            found = dataset.__getitems__(SCATTERED)
        assert found == [(name + "!", data) for name, data in ORDINARY]
        with closing(Reversing(f"ipfs://{root}", f"gateway+{server.url}")) as dataset:
            found = dataset.__getitems__(SCATTERED)
        assert found == [(name[::-1], data) for name, data in ORDINARY]


@pytest.mark.parametrize("handler", ["raise", "skip"])
def test_only_damaged_samples_of_a_scattered_batch_are_skipped(tmp_path, handler):
    data = bytearray(zip_bytes(FILES, zipfile.ZIP_STORED))
    for number in SCATTERED[3:5]:
        data[bytes(data).index(FILES[f"{number:03}"]) + 1000] ^= 1
    store = Store(tmp_path)
    dataset = IPFSDataset(f"ipfs://{store.file(bytes(data))}", store.address, handler=handler)
    if handler == "raise":
        with pytest.raises(FormatError, match="its CRC does not match"):
            dataset.__getitems__(SCATTERED)
        return
    assert dataset.__getitems__(SCATTERED) == ORDINARY[:3] + ORDINARY[5:]
    assert dataset.skipped == 2
    with pytest.raises(IndexError, match="sample 600 of a dataset of 600"):
        dataset.__getitems__([*SCATTERED, 600])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Numbers with 10 kB each, in two shards: the CID and all blocks."""
    folder = tmp_path_factory.mktemp("published")
    exporter = IPFSDatasetExporter(str(folder), profile=SMALL_LEAVES, shard_bytes=4 << 20)
    cid = exporter.export_to_ipfs([(number, data) for number, data in enumerate(FILES.values())])
    return cid, {cid.multihash: block for cid, block in blocks_in(folder)}


@pytest.mark.parametrize("by_sampler", [False, True])
def test_an_imported_dataset_fetches_each_block_once_as_well(published, by_sampler):
    cid, blocks = published
    hopping = list(HOPPING)
    with GatewayServer(blocks, serve_plain=False, serve_car=False) as server:
        memory = 24 * LEAF if by_sampler else 6 * LEAF
        exporter = IPFSDatasetExporter(f"gateway+{server.url}", memory=memory)
        dataset = exporter.import_from_ipfs(cid)
        dataset.__getitems__([0, 599])
        before = server.served["raw"]
        if by_sampler:
            sampler = BlockShuffleSampler(dataset, block_bytes=LEAF, window_bytes=4 * LEAF)
            loader = DataLoader(dataset, batch_size=10, sampler=sampler, collate_fn=as_it_is)
            batch = [sample for samples in loader for sample in samples]
            assert [number for number, _ in batch] != sorted(number for number, _ in batch)
            batch.sort()
            hopping.sort()
        else:
            batch = dataset.__getitems__(hopping)
        dataset.close()
    assert batch == [(number, FILES[f"{number:03}"]) for number in hopping]
    # A sampler's blocks begin within leaves.
    most = 2 * len(blocks) if by_sampler else len(blocks) + 4
    assert server.served["raw"] - before <= most


def test_the_error_of_an_unusable_index_of_a_batch_gives_the_reason(published):
    cid, blocks = published
    with GatewayServer(blocks) as server:
        dataset = IPFSDatasetExporter(f"gateway+{server.url}").import_from_ipfs(cid)
        with pytest.raises(IndexError, match="sample 600 of a dataset of 600"):
            dataset.__getitems__([3, 600])
        assert dataset.__getitems__([-1]) == [(599, FILES["599"])]
        dataset.prefetch([1, 2, 600])
        dataset.close()


@pytest.mark.parametrize("part", [None, range(0, 600, 2)])
def test_a_sampler_prefetches_the_next_window(archive, part):
    root, blocks = archive
    with GatewayServer(blocks, serve_plain=False, serve_car=False) as server:
        dataset = IPFSDataset(f"ipfs://{root}", f"gateway+{server.url}")
        chosen = dataset if part is None else Subset(dataset, part)
        sampler = BlockShuffleSampler(chosen, block_bytes=LEAF, window_bytes=6 * LEAF)
        loader = DataLoader(chosen, batch_size=10, sampler=sampler, collate_fn=as_it_is)
        found, announced = [], []
        for batch in loader:
            found += batch
            assert dataset._batches is not None
            announced.append(len(dataset._batches._prefetched))
        dataset.close()
    assert dict(found) == {
        name: FILES[name] for name in list(FILES)[slice(None, None, 2 if part else 1)]
    }
    assert max(announced) > 50
    assert announced[-1] == 0
    assert server.served["raw"] < 1.2 * 600 * 10_000 / LEAF


def test_a_sampler_prefetches_nothing_where_workers_read(archive):
    root, blocks = archive
    with GatewayServer(blocks, serve_plain=False, serve_car=False) as server:
        dataset = IPFSDataset(f"ipfs://{root}", f"gateway+{server.url}")
        sampler = BlockShuffleSampler(dataset, block_bytes=LEAF, window_bytes=4 * LEAF)
        len(dataset)
        before = server.served["raw"]
        assert sorted(sampler) == list(range(600))
        assert server.served["raw"] == before
        dataset.close()


class Cached(Noting):
    """Samples of which it is known that they are in memory."""

    def is_cached(self, positions):
        assert positions == sorted(positions)
        return True


@pytest.mark.parametrize("positions", [[3, 4, 5, 6], [40, 3, 17, 3], [5, None, 2]])
def test_samples_in_memory_are_not_fetched(positions):
    shard = Cached("zip", list(range(50)), 50, "counted")
    batch = BatchReader(1).read(
        ConcatenatedShards([shard]), positions, lambda group: [(place, place) for place in group]
    )
    assert batch == list(range(len(positions)))
    assert shard.asked == []


PACKED = {
    "zip": lambda: zip_bytes(FILES, zipfile.ZIP_STORED),
    "deflated": lambda: zip_bytes(FILES, zipfile.ZIP_DEFLATED),
    "tar": lambda: tar_bytes(FILES),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("memory", [64 << 20, 6 * LEAF])
def test_any_batch_has_its_samples_in_order(tmp_path, kind, memory):
    store = Store(tmp_path)
    cid = store.file(PACKED[kind](), SMALL_LEAVES)
    batches = [*(range(at, at + 50) for at in range(0, 600, 50)), HOPPING[:40], [7, 6, 5, 5, 9]]
    with closing(IPFSDataset(f"ipfs://{cid}", store.address, memory=memory)) as dataset:
        for _ in range(2):
            for numbers in batches:
                found = dataset.__getitems__(list(numbers))
                assert found == [(f"{n:03}", FILES[f"{n:03}"]) for n in numbers]


def test_batches_in_order_are_fetched_ahead_as_ranges(archive):
    root, blocks = archive
    with GatewayServer(blocks) as server:
        memory = 12 * LEAF  # less than the file
        dataset = IPFSDataset(f"ipfs://{root}", f"gateway+{server.url}", memory=memory)
        len(dataset)
        before = sum(server.served.values())
        for at in range(0, 600, 20):
            assert len(dataset.__getitems__(list(range(at, at + 20)))) == 20
        asked = sum(server.served.values()) - before
        dataset.close()
    # There are 24 leaves: at the end of each range some come as blocks.
    assert asked < 20


def test_a_folder_is_read_in_batches(tmp_path):
    store = Store(tmp_path)
    few = {f"{letter}/{name}": data for letter in "ab" for name, data in list(FILES.items())[:40]}
    large = {"b/large": noise(3 * LEAF, 9)}
    cid = store.folder({**few, **large})
    expected = sorted({**few, **large}.items())
    numbers = random.Random(3).sample(range(81), 81)
    with closing(IPFSDataset(f"ipfs://{cid}", store.address)) as dataset:
        for _ in range(2):
            assert dataset.__getitems__(numbers) == [expected[number] for number in numbers]
            assert dataset.__getitems__([3, 4, 5]) == expected[3:6]
