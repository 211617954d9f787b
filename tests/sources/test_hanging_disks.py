"""Stores and `.car` files on a disk that hangs: reads end in time, and other sources are used."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import pytest

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject
from ipfs_dataset_core import TransportTimeoutError
from ipfs_dataset_core.ipld import RAW, car_header, car_section_head, make_cid
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.sources.failover import SourcePool
from ipfs_dataset_core.toolkit.block_files import BlockFiles
from ipfs_dataset_plugins.store import CarStore, FolderStore
from tests.support.builders import PROFILE, noise, one_file, zip_bytes
from tests.support.fetching import Recorder
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store

BLOCK = b"block"
CID = make_cid(BLOCK, RAW)


class Hanging:
    """Calls of a function wait until `release` is set.

    Args:
        monkeypatch: Of the test.
        owner: The class that has the function.
        name: Of the function.
        where: The only object for which it waits; all by default.
    """

    def __init__(self, monkeypatch, owner, name, where=None):
        self.release = threading.Event()
        function = getattr(owner, name)

        def hang(this, *arguments, **options):
            if where is None or this == where:
                assert self.release.wait(60)
            return function(this, *arguments, **options)

        monkeypatch.setattr(owner, name, hang)


@pytest.fixture
def store(tmp_path):
    store = FolderStore(tmp_path / "store")
    store.put_blocks([(CID, BLOCK)])
    return store


def pool(*transports, **options):
    return SourcePool(transports, Options(**{"timeout": 0.2, "retries": 0, **options}))


def test_a_read_from_a_store_on_a_disk_that_hangs_ends_with_an_error_that_names_it(
    store, monkeypatch
):
    disk = Hanging(monkeypatch, BlockFiles, "read")
    sources = pool(store)
    with pytest.raises(TransportTimeoutError) as caught:
        sources.get_block(CID)
    assert f"{store.name} has not answered for 0.2 s: check its disk" in str(caught.value)
    assert str(CID) in str(caught.value)
    with pytest.raises(TransportTimeoutError, match="does not answer"):
        sources.get_block(CID)
    disk.release.set()
    end = time.monotonic() + 20
    while True:
        try:
            assert sources.get_block(CID) == BLOCK
        except TransportTimeoutError:
            assert time.monotonic() < end
        else:
            break
    sources.close()


def test_other_sources_are_used_while_the_disk_of_one_hangs(store, monkeypatch):
    disk = Hanging(monkeypatch, BlockFiles, "read")
    other = Recorder({CID.multihash: BLOCK})
    sources = pool(store, other)
    for _ in range(3):
        assert sources.get_block(CID) == BLOCK
    assert other.asked["block"] == 3
    sources.close()
    disk.release.set()


def test_a_batch_ends_where_the_disk_of_a_store_hangs(store, monkeypatch):
    class Batches(Recorder):
        batches = True

        def get_blocks(self, cids):
            return ((cid, self.get_block(cid)) for cid in cids)

    disk = Hanging(monkeypatch, BlockFiles, "read")
    found: dict[object, bytes] = {}
    sources = pool(store, Batches({CID.multihash: BLOCK}))
    sources.get_blocks([CID], found.__setitem__)
    assert found == {CID: BLOCK}
    sources.close()
    disk.release.set()


def test_closing_does_not_wait_for_a_disk_that_hangs(store, monkeypatch):
    disk = Hanging(monkeypatch, FolderStore, "close")
    pool(store).close()
    assert not disk.release.is_set()
    disk.release.set()


def test_threads_end_when_the_sources_are_closed(store):
    before = set(threading.enumerate())
    sources = pool(store)
    assert sources.get_block(CID) == BLOCK
    sources.close()
    end = time.monotonic() + 20
    while set(threading.enumerate()) - before:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_car_that_is_being_read_is_not_closed_by_the_collector(tmp_path):
    path = tmp_path / "one.car"
    path.write_bytes(car_header([CID]) + car_section_head(CID, len(BLOCK)) + BLOCK)
    car = CarStore(path)
    file, lock = car._file, car._lock
    with lock:  # as a thread that waits for the disk
        del car
        gc.collect()
        assert not file.closed
    file.close()


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_a_dataset_is_read_from_a_gateway_while_the_disk_of_its_store_hangs(
    tmp_path, monkeypatch, kind
):
    members = {f"{number:03}": noise(5000, number) for number in range(200)}
    root, blocks = one_file(zip_bytes(members), PROFILE)
    store = Store(tmp_path)
    store.file(zip_bytes(members))
    disk = Hanging(monkeypatch, BlockFiles, "read")
    with GatewayServer(blocks) as server:
        dataset = kind(IPFSObject(str(root), "zip"), store.address, gateways=server.url, timeout=1)
        assert dict(dataset) == members
        dataset.close()
    disk.release.set()


def test_a_store_whose_disk_hangs_when_it_is_opened_is_left_out_with_a_warning(
    tmp_path, monkeypatch
):
    root, blocks = one_file(b"data", PROFILE)
    hanging = Hanging(monkeypatch, Path, "exists", tmp_path)
    with GatewayServer(blocks) as server:
        url = IPFSObject(str(root), "plain")
        dataset = IPFSDataset(url, str(tmp_path), gateways=server.url, timeout=0.2)
        with pytest.warns(UserWarning, match=f"disk of '{tmp_path}' has not answered .* so only"):
            assert dataset[0][1] == b"data"
        dataset.close()
        alone = IPFSDataset(url, str(tmp_path), timeout=0.2)
        with pytest.raises(TransportTimeoutError, match=f"disk of '{tmp_path}' has not answered"):
            alone[0]
    hanging.release.set()
