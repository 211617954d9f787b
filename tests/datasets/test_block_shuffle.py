"""Shuffled blocks of real archives: what is read, how often blocks are fetched, and who falls back."""

from __future__ import annotations

import zipfile
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSIterableDataset,
    ShuffleDataset,
)
from ipfs_dataset_core.errors import FormatError, StateError
from tests.support.builders import noise, one_file, tar_bytes, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.stores import SMALL_LEAVES, Store, members
from tests.support.workers import as_it_is

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

COUNT, SIZE = 1500, 10_000
LEAF = 256 << 10
FILES = {f"{number:04}": noise(SIZE, number) for number in range(COUNT)}
# More than is kept in memory, so that what is needed again is fetched again.
MEMORY = 4 << 20
SIZES: dict[str, Any] = {"block_bytes": 2 * LEAF, "window_bytes": "1.5M"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module", params=["zip", "tar"])
def archive(request):
    packed = {"zip": lambda: zip_bytes(FILES, zipfile.ZIP_STORED), "tar": lambda: tar_bytes(FILES)}
    return one_file(packed[request.param](), SMALL_LEAVES)


@pytest.fixture
def gateway(archive):
    """A gateway that serves blocks alone, so that its answers are counted in leaves."""
    root, blocks = archive
    with GatewayServer(blocks, serve_plain=False, serve_car=False) as server:
        server.object = str(root)  # type: ignore[attr-defined]
        yield server


def opened(gateway, kind=IPFSDataset, **options):
    return kind(gateway.object, f"gateway+{gateway.url}", memory=MEMORY, **options)


def fetched(gateway, loader):
    """Returns how often each leaf came, on the average; every sample has to."""
    before = gateway.served["raw"]
    found = [sample for batch in loader for sample in batch]
    assert dict(found) == FILES
    assert len(found) == COUNT
    assert [name for name, _ in found] != sorted(FILES)
    return (gateway.served["raw"] - before) / (COUNT * SIZE / LEAF)


def test_an_epoch_fetches_each_block_about_once(gateway):
    dataset = opened(gateway)
    len(dataset)
    sampler = BlockShuffleSampler(dataset, **SIZES)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        loader = DataLoader(dataset, batch_size=50, sampler=sampler, collate_fn=as_it_is)
        assert fetched(gateway, loader) < 1.7
    full = DataLoader(
        dataset,
        batch_size=50,
        shuffle=True,
        generator=torch.Generator().manual_seed(1),
        collate_fn=as_it_is,
    )
    assert fetched(gateway, full) > 4
    dataset.close()


def test_workers_whose_number_the_sampler_has_fetch_no_blocks_of_others(gateway):
    dataset = opened(gateway)
    len(dataset)

    def times(**known):
        sampler = BlockShuffleSampler(dataset, **SIZES, **known)
        loader = DataLoader(
            dataset,
            batch_size=50,
            sampler=sampler,
            num_workers=3,
            collate_fn=as_it_is,
            multiprocessing_context="fork",
        )
        return fetched(gateway, loader)

    assert times(batch_size=50, num_workers=3, lanes=(1, 3)) < 2 < times()
    dataset.close()


def test_a_resumed_epoch_fetches_little_more_than_the_remaining_samples(gateway):
    dataset = opened(gateway)
    sampler = BlockShuffleSampler(dataset, batch_size=50, **SIZES)
    whole = [sample for batch in DataLoader(dataset, 50, sampler=sampler) for sample in batch[0]]
    state = sampler.state_dict(batches=27)
    dataset.close()
    dataset = opened(gateway)
    len(dataset)
    before = gateway.served["raw"]
    sampler = BlockShuffleSampler(dataset, batch_size=50, **SIZES)
    sampler.load_state_dict(state)
    rest = [sample for batch in DataLoader(dataset, 50, sampler=sampler) for sample in batch[0]]
    assert rest == whole[27 * 50 :]
    assert gateway.served["raw"] - before < 0.35 * COUNT * SIZE / LEAF
    dataset.close()


def test_a_state_is_refused_for_other_data(store, tmp_path):
    one, other = (store.file(zip_bytes(members(count))) for count in (10, 11))
    state = BlockShuffleSampler(IPFSDataset(one, store.address)).state_dict()
    with pytest.raises(StateError, match=f"of data '{one}', but the dataset has '{other}'"):
        BlockShuffleSampler(IPFSDataset(other, store.address)).load_state_dict(state)
    both = IPFSDataset([one, other], store.address)
    assert BlockShuffleSampler(both).state_dict()["data"] == f"{one} {other}"
    exporter = IPFSDatasetExporter(str(tmp_path), progress=False)
    published = exporter.export_to_ipfs([1, 2, 3])
    imported = exporter.import_from_ipfs(published)
    assert BlockShuffleSampler(imported).state_dict()["data"] == published


@pytest.mark.parametrize("workers", [1, 2])
def test_the_next_samples_of_a_worker_are_fetched_in_ranges_while_it_reads(archive, workers):
    root, blocks = archive
    with GatewayServer(blocks) as server:
        dataset = IPFSDataset(str(root), f"gateway+{server.url}", memory=4 * MEMORY)
        len(dataset)
        before = dict(server.served)
        sampler = BlockShuffleSampler(
            dataset, batch_size=50, num_workers=workers, block_bytes=4 * LEAF
        )
        loader = DataLoader(
            dataset,
            batch_size=50,
            sampler=sampler,
            num_workers=workers,
            collate_fn=as_it_is,
            multiprocessing_context="fork",
        )
        assert dict(sample for batch in loader for sample in batch) == FILES
        dataset.close()
        raw, ranges = (server.served[kind] - before.get(kind, 0) for kind in ("raw", "range"))
    assert ranges >= 5
    assert raw < COUNT * SIZE / LEAF / 2


@pytest.mark.parametrize("wrap", [lambda d: d, ShuffleDataset])
def test_a_stream_of_shuffled_blocks_fetches_each_about_once(gateway, wrap):
    stream = opened(gateway, IPFSIterableDataset, shuffle_blocks=True)
    next(iter(stream))
    loader = DataLoader(wrap(stream), batch_size=50, collate_fn=as_it_is)
    assert fetched(gateway, loader) < 1.6
    stream.close()


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_share_a_stream_of_shuffled_blocks(store, method):
    objects = [store.file(zip_bytes(members(40, "z"))), store.file(tar_bytes(members(30, "t")))]
    stream = IPFSIterableDataset(objects, store.address, shuffle_blocks=True)
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=2,
        collate_fn=as_it_is,
        persistent_workers=True,
        multiprocessing_context=method,
    )
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append(list(loader))
    assert orders[0] == orders[2] != orders[1]
    assert dict(orders[1]) == members(40, "z") | members(30, "t")
    assert len(orders[1]) == 70


@pytest.mark.parametrize("distribution", ["pad", "drop", "uneven"])
def test_ranks_share_a_stream_of_shuffled_blocks(monkeypatch, store, distribution):
    objects = [store.file(zip_bytes(members(20, "z"))), store.file(tar_bytes(members(9, "t")))]
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        stream = IPFSIterableDataset(
            objects, store.address, shuffle_blocks=True, distribution=distribution
        )
        shares.append([name for name, _ in stream])
    lengths = {"pad": [10, 10, 10], "drop": [9, 9, 9], "uneven": [10, 10, 9]}
    assert [len(share) for share in shares] == lengths[distribution]
    distinct = {name for share in shares for name in share}
    assert len(distinct) == (27 if distribution == "drop" else 29)


def test_shuffling_a_stream_shuffles_its_blocks(store):
    names = list(members(60))
    stream = IPFSIterableDataset(store.file(tar_bytes(members(60))), store.address)
    shuffled = ShuffleDataset(stream, 1)
    order = [name for name, _ in shuffled]
    assert sorted(order) == names != order
    shuffled.set_epoch(0)
    assert order == [name for name, _ in shuffled]
    assert order != [name for name, _ in ShuffleDataset(stream, 1, seed=1)]
    shuffled.set_epoch(1)
    assert order != [name for name, _ in shuffled]
    assert [name for name, _ in stream] == names


def test_a_subclass_that_pairs_neighbours_is_shuffled_in_a_buffer(store):
    class Pairs(IPFSIterableDataset):
        def __iter__(self):
            samples = super().__iter__()
            return iter(list(zip(samples, samples, strict=True)))

    pairs = list(ShuffleDataset(Pairs(store.file(tar_bytes(members(40))), store.address), 5))
    assert len(pairs) == 20
    assert all(int(b[1:4]) - int(a[1:4]) == 1 for (a, _), (b, _) in pairs)


def test_archives_without_random_access_are_shuffled_in_a_buffer(store):
    zipped = store.file(zip_bytes(members(20, "z")))
    packed = store.tree({"d.tar.gz": tar_bytes(members(20, "g"), "w:gz")})
    stream = IPFSIterableDataset([f"{packed}/d.tar.gz", zipped], store.address, shuffle_blocks=True)
    names = [name for name, _ in stream]
    assert sorted(names[:20]) == list(members(20, "z")) != names[:20]
    assert names[20:] == list(members(20, "g"))
    mixed = [name for name, _ in ShuffleDataset(stream, 100)]
    assert sorted(mixed) == sorted(names) != mixed
    assert {name[0] for name in mixed[:20]} == {"g", "z"}


def test_ranks_of_such_a_stream_read_each_sample_once(monkeypatch, store):
    zipped = store.file(zip_bytes(members(20, "z")))
    packed = store.tree({"d.tar.gz": tar_bytes(members(20, "g"), "w:gz")})
    seen = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        stream = IPFSIterableDataset(
            [zipped, f"{packed}/d.tar.gz"], store.address, shuffle_blocks=True
        )
        seen += [name for name, _ in stream]
    assert sorted(seen) == sorted([*members(20, "z"), *members(20, "g")])


def test_a_damaged_archive_is_an_error_or_skipped(store):
    damaged = store.file(tar_bytes(members(9))[:8700])
    objects = [store.file(zip_bytes(members(5))), damaged]
    with pytest.raises(FormatError, match=damaged):
        list(IPFSIterableDataset(objects, store.address, shuffle_blocks=True))
    skipping = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, handler="skip")
    assert {name for name, _ in skipping} >= set(members(5))
    assert skipping.skipped == 1


def test_files_of_a_folder_are_shuffled(store):
    folder = store.folder(members(80))
    names = [name for name, _ in ShuffleDataset(IPFSIterableDataset(folder, store.address), 1)]
    assert sorted(names) == list(members(80)) != names
    dataset = IPFSDataset(folder, store.address)
    assert sorted(BlockShuffleSampler(dataset)) == list(range(80))
    assert len(dataset.block_stops(2 << 20)) == 3


def test_a_map_style_dataset_is_shuffled_by_its_blocks(gateway):
    dataset = opened(gateway)
    len(dataset)
    assert fetched(gateway, DataLoader(ShuffleDataset(dataset, 10), 50, collate_fn=as_it_is)) < 1.7
    dataset.close()


def test_a_subclass_with_its_own_numbering_is_shuffled_in_a_buffer(store):
    class Twice(IPFSDataset):
        def __len__(self):
            return 2 * super().__len__()

        def __getitem__(self, index):
            return super().__getitem__(index // 2)

    dataset = Twice(store.file(zip_bytes(members(10))), store.address)
    names = [name for name, _ in ShuffleDataset(dataset, 100)]
    assert sorted(names) == sorted([*members(10)] * 2)
    with pytest.raises(ValueError, match="Twice has 20 samples"):
        next(iter(BlockShuffleSampler(dataset)))


def test_a_published_dataset_is_shuffled_by_its_blocks(tmp_path):
    exporter = IPFSDatasetExporter(str(tmp_path), shard_bytes=60_000, progress=False)
    values = [(torch.full((100,), number), number) for number in range(300)]
    dataset = exporter.import_from_ipfs(exporter.export_to_ipfs(values))
    stops = dataset.block_stops(20_000)
    assert list(stops) == sorted(set(stops))
    assert stops[-1] == 300
    assert len(stops) > 15
    sampler = BlockShuffleSampler(dataset, block_bytes=20_000, window_bytes=60_000)
    labels = [label for _, label in map(dataset.__getitem__, sampler)]
    assert sorted(labels) == list(range(300)) != labels
    assert sorted(label for _, label in ShuffleDataset(dataset, 9)) == list(range(300))
    part = Subset(dataset, range(0, 300, 3))
    assert sorted(BlockShuffleSampler(part)) == list(range(100))
    dataset.close()
