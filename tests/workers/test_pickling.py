"""What travels to workers: values alone, before and after use, by every way of copying."""

from __future__ import annotations

import copy
import io
import pickle
import socket
import threading
from multiprocessing.reduction import ForkingPickler

import pytest

import ipfs_dataset_core.errors
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import IPFSDatasetError
from ipfs_dataset_core.interfaces import ObjectFile, Transport
from ipfs_dataset_core.order.epoch_progress import EpochProgress
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.runtime.pool import DaemonPool
from ipfs_dataset_core.toolkit.indexes import NameTable
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members
from tests.support.workers import Lines, Transformed, TransformedStream, upper

BELONGS_TO_A_PROCESS = (
    Transport,
    Fetcher,
    DaemonPool,
    ObjectFile,
    socket.socket,
    threading.Thread,
    io.IOBase,
    type(threading.Lock()),
    type(threading.RLock()),
)


class Watching(pickle.Pickler):
    """Refuses what belongs to one process, which pickle itself might let pass."""

    def reducer_override(self, value):
        assert not isinstance(value, BELONGS_TO_A_PROCESS), value
        return NotImplemented


def travel(value):
    buffer = io.BytesIO()
    Watching(buffer).dump(value)
    return pickle.loads(buffer.getvalue())


COPIES = [travel, copy.deepcopy, copy.copy]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def objects(store):
    nested = {"one.txt": b"1", "a.zip": zip_bytes(members(2, "n"))}
    return [
        IPFSObject(store.file(zip_bytes(members(4, "z"))), RemoteFileType.ZIP),
        IPFSObject(store.folder(nested)),
        IPFSObject(store.file(tar_bytes(members(3, "t")))),
        IPFSObject(store.file(b"line"), Lines()),
    ]


def make(kind, objects, store):
    if kind is ShuffleDataset:
        return ShuffleDataset(IPFSIterableDataset(objects, store.address), 1)
    return kind(objects, store.address)


@pytest.mark.parametrize("again", COPIES)
@pytest.mark.parametrize("kind", [IPFSIterableDataset, ShuffleDataset, TransformedStream])
def test_iterable_datasets_can_be_pickled_before_during_and_after_use(store, objects, kind, again):
    dataset = make(kind, objects, store)
    expected = list(again(dataset))
    assert len(expected) == 11
    begun = iter(dataset)
    next(begun)
    assert list(again(dataset)) == expected
    assert [*expected[:1], *begun] == expected
    assert list(again(dataset)) == expected


@pytest.mark.parametrize("again", COPIES)
@pytest.mark.parametrize("kind", [IPFSDataset, Transformed])
def test_map_style_datasets_can_be_pickled_before_and_after_use(store, objects, kind, again):
    dataset = make(kind, objects[:3], store)
    expected = [again(dataset)[index] for index in range(10)]
    assert len(dataset) == 10
    copied = again(dataset)
    assert copied.__getitems__(range(10)) == expected == dataset.__getitems__(range(10))
    assert again(dataset)[-1] == expected[-1]


def test_pickled_datasets_are_small(store):
    many = store.file(zip_bytes({f"{n:05}": b"x" for n in range(5000)}, 0))
    dataset = IPFSDataset(many, store.address)
    before = len(pickle.dumps(dataset))
    assert len(dataset) == 5000
    assert before < 3000
    assert len(pickle.dumps(dataset)) < 5000 * 80, "the index is arrays, not objects"


def test_a_transform_is_pickled_with_its_dataset(store, objects):
    dataset = Transformed(objects[:1], store.address, transform=upper)
    assert travel(dataset)[0] == (b"Z 0", "z000.txt")


@pytest.mark.parametrize("again", [travel, copy.deepcopy])
def test_a_copy_has_an_epoch_of_its_own_that_its_workers_share(again):
    epoch = EpochProgress()
    epoch.set_epoch(3)
    copied = again(epoch)
    epoch.set_epoch(4)
    assert (copied.epoch, epoch.epoch) == (3, 4)
    assert copied._numbers.is_shared()


def test_copies_in_workers_share_the_epoch():
    epoch = EpochProgress()
    sent = pickle.loads(bytes(ForkingPickler.dumps(epoch)))
    epoch.set_epoch(7)
    assert sent.epoch == 7


def test_a_copy_is_independent_of_the_job_in_which_it_was_made(store, monkeypatch):
    dataset = IPFSIterableDataset(store.file(zip_bytes(members(4))), store.address)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert len(list(dataset)) == 2
    data = pickle.dumps(dataset)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert len(list(pickle.loads(data))) == 4


def error_classes():
    found = [IPFSDatasetError]
    for kind in found:
        found += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == ipfs_dataset_core.errors.__name__]


@pytest.mark.parametrize("kind", error_classes())
def test_errors_are_complete_after_pickling(kind):
    error = kind("block bafy… of 'a.zip': no source delivered; check the gateway")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


def test_a_string_table_can_be_pickled():
    names = NameTable(["a", "größe", "b\udcff"])
    assert list(pickle.loads(pickle.dumps(names))) == list(names)
