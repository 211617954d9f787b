"""Samples of workers through shared memory: the same values, however workers start and end."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core.datasets import worker_samples
from ipfs_dataset_core.datasets.worker_samples import LARGE_SAMPLE, WorkerBatch, WorkerSample
from ipfs_dataset_core.runtime import shared_ring
from tests.support.builders import noise, zip_bytes
from tests.support.stores import Store
from tests.support.workers import as_it_is

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="rings need memfd_create"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

COUNT = 24


def large(count=COUNT, size=40_000):
    return {f"{number:03}.bin": noise(size + number, number) for number in range(count)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def archive(store):
    return IPFSObject(store.file(zip_bytes(large())), RemoteFileType.ZIP)


@pytest.fixture(scope="module")
def small(store):
    return IPFSObject(store.file(zip_bytes(large(size=6_000))), RemoteFileType.ZIP)


class Counted:
    """Reads messages of rings and counts their parts."""

    def __init__(self, monkeypatch):
        self.parts = 0
        read = shared_ring.read_message

        def counted(address, start, sizes):
            self.parts += len(sizes)
            return read(address, start, sizes)

        monkeypatch.setattr(worker_samples, "read_message", counted)


@pytest.fixture
def through_rings(monkeypatch):
    return Counted(monkeypatch)


def samples(loader):
    return [sample for batch in loader for sample in batch]


def loader(dataset, workers=1, **options):
    options.setdefault("collate_fn", as_it_is)
    return DataLoader(dataset, batch_size=4, num_workers=workers, **options)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_large_samples_go_through_rings(archive, store, through_rings, method):
    dataset = IPFSDataset(archive, store.address)
    found = samples(loader(dataset, 2, multiprocessing_context=method))
    assert found == list(large().items())
    assert through_rings.parts > 0
    assert {type(sample) for sample in found} == {tuple}


def test_batches_of_small_samples_go_through_rings(small, store, through_rings):
    dataset = IPFSDataset(small, store.address)
    batches = list(
        DataLoader(dataset, batch_size=12, num_workers=1, prefetch_factor=1, collate_fn=as_it_is)
    )
    assert [type(batch) for batch in batches] == [list, list]
    assert [sample for batch in batches for sample in batch] == list(large(size=6_000).items())
    assert through_rings.parts == 12  # the first batch offers the ring


def test_streams_go_through_rings(archive, store, through_rings):
    dataset = IPFSIterableDataset(archive, store.address)
    assert samples(loader(dataset, 1)) == list(large().items())
    assert through_rings.parts > 0


def test_single_samples_go_through_rings(archive, store, through_rings):
    dataset = IPFSDataset(archive, store.address)
    found = list(DataLoader(dataset, batch_size=None, num_workers=1, collate_fn=as_it_is))
    assert found == list(large().items())
    assert through_rings.parts > 0


def test_a_ring_can_be_switched_off(archive, store, through_rings):
    dataset = IPFSDataset(archive, store.address, worker_memory=0)
    assert samples(loader(dataset)) == list(large().items())
    assert through_rings.parts == 0


def test_samples_too_large_for_a_ring_are_sent_through_the_pipe(archive, store, through_rings):
    dataset = IPFSDataset(archive, store.address, worker_memory=100_000)
    assert samples(loader(dataset, prefetch_factor=1)) == list(large().items())
    assert 0 < through_rings.parts < COUNT


def test_without_such_memory_the_pipe_is_used(archive, store, through_rings, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    dataset = IPFSDataset(archive, store.address)
    assert samples(loader(dataset)) == list(large().items())
    assert through_rings.parts == 0


def test_a_ring_that_cannot_be_opened_is_not_used(archive, store, through_rings, monkeypatch):
    monkeypatch.setattr(worker_samples, "open_ring", lambda _: False)
    dataset = IPFSDataset(archive, store.address)
    assert samples(loader(dataset)) == list(large().items())
    assert through_rings.parts == 0


def test_default_collation_and_persistent_workers(archive, store):
    dataset = IPFSDataset(archive, store.address)
    batches = DataLoader(dataset, batch_size=4, num_workers=1, persistent_workers=True)
    for _ in range(2):
        found = [pair for names, data in batches for pair in zip(names, data, strict=True)]
        assert found == list(large().items())


def test_samples_stay_valid_after_the_ring_is_reused(archive, store):
    dataset = IPFSDataset(archive, store.address, worker_memory=200_000)
    kept = samples(loader(dataset, 2, prefetch_factor=3))
    assert sorted(kept) == sorted(large().items())


def test_rings_of_ended_workers_are_closed(archive, store):
    dataset = IPFSDataset(archive, store.address)
    before = len(shared_ring._files)
    for _ in range(3):
        samples(loader(dataset))
    assert len(shared_ring._files) <= before + 1


def test_an_abandoned_loader_leaves_no_ring(archive, store):
    rings = len(shared_ring._files)
    for _ in loader(IPFSDataset(archive, store.address), 2):
        break
    samples(loader(IPFSDataset(archive, store.address)))
    assert len(shared_ring._files) <= rings + 1


class KillsItself(IterableDataset[Any]):
    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        for number, sample in enumerate(self.dataset):
            if number == 13:
                os.kill(os.getpid(), signal.SIGKILL)
            yield sample


def test_a_killed_worker_is_an_error(archive, store):
    dataset = KillsItself(IPFSIterableDataset(archive, store.address))
    found = []
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        found += loader(dataset)
    assert all(dict(large())[name] == data for batch in found for name, data in batch)


SAMPLE = ("name", bytes(LARGE_SAMPLE))


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
@pytest.mark.parametrize("value", [WorkerSample(SAMPLE), WorkerBatch([WorkerSample(SAMPLE)] * 2)])
def test_copies_and_other_pickles_use_no_ring(value, again, through_rings):
    found = again(value)
    assert found == value
    assert through_rings.parts == 0


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [1, 2],
        [SAMPLE, ("name", "text")],
        [SAMPLE, ("name", b"", 3)],
        [SAMPLE, None],
        [WorkerSample(SAMPLE), SAMPLE],
    ],
    ids=["empty", "numbers", "text", "three parts", "none", "both kinds"],
)
def test_batches_of_anything_arrive(batch):
    assert ForkingPickler.loads(ForkingPickler.dumps(WorkerBatch(batch))) == batch


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
@pytest.mark.parametrize("factor", [1, 4])
def test_pinned_loaders_and_any_number_of_batches_ahead(archive, store, through_rings, factor):
    dataset = IPFSDataset(archive, store.address)
    pinned = loader(dataset, 2, pin_memory=True, prefetch_factor=factor)
    assert samples(pinned) == list(large().items())
    assert through_rings.parts > 0
