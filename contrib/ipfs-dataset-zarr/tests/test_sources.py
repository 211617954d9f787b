"""A chunk that does not arrive raises an error. Only chunks that are proven absent have the fill value."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from ipfs_dataset_zarr.reader import ZarrReader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import CID, IPFSDatasetError, ObjectNotFoundError, TransportError
from ipfs_dataset_core.ipld import RAW, lookup
from ipfs_dataset_core.testing import MemoryDirectory
from tests.support.builders import noise, tree
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan

FIELD = np.frombuffer(noise(12 * 60 * 50), "u1").reshape(12, 60, 50)
FILL = 7
LAYOUTS = {
    "version 2": {"zarr_format": 2, "chunks": (1, 30, 50)},
    "version 3": {"chunks": (1, 30, 50)},
    "shards": {"chunks": (1, 30, 50), "shards": (4, 60, 50)},
}


@pytest.fixture(params=LAYOUTS, ids=str)
def store(request, array):
    files = array(FIELD, fill_value=FILL, **LAYOUTS[request.param])
    return files, *tree(files)


def chunk_of(files, position):
    """Returns the path of the file with the upper half of a row."""
    names = [f"{position}.0.0", f"c/{position}/0/0", f"c/{position // 4}/0/0"]
    return next(name for name in names if name in files)


def cid_of(root, blocks, path):
    cid = root
    for name in path.split("/"):
        cid = lookup(cid, name, lambda cid: blocks[cid.multihash]).cid
    return cid


def opened(root, *servers, kind=IPFSDataset, **options):
    gateways = [server.url for server in servers]
    options = {"retries": 0, "timeout": 2, **options}
    return kind(IPFSObject(f"ipfs://{root}", "zarr"), gateways=gateways, **options)


def test_rows_are_read_from_a_gateway(store):
    _, root, blocks = store
    with GatewayServer(blocks) as server:
        dataset = opened(root, server)
        batch = dataset.__getitems__([11, 3, 0, 4])
        assert np.array_equal([row for _, row in batch], FIELD[[11, 3, 0, 4]])
        assert np.array_equal([row for _, row in dataset], FIELD)
        dataset.close()


def test_an_absent_chunk_has_the_fill_value(store):
    files, _, _ = store
    path = chunk_of(files, 5)
    root, blocks = tree({name: data for name, data in files.items() if name != path})
    with GatewayServer(blocks) as server:
        dataset = opened(root, server)
        row = dataset[5][1]
        assert np.all(row[:30] == FILL)
        assert np.array_equal(dataset[11][1], FIELD[11])
        dataset.close()


def test_the_chunks_of_a_batch_are_fetched_together(array):
    root, blocks = tree(array(FIELD, chunks=(1, 60, 50)))
    with GatewayServer(blocks, fault=lambda _, plan: attrs.evolve(plan, delay=0.1)) as server:
        dataset = opened(root, server)
        assert len(dataset) == len(FIELD)
        batch = dataset.__getitems__(range(8))
        assert np.array_equal([row for _, row in batch], FIELD[:8])
        assert server.most_at_once >= 4
        dataset.close()


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_a_chunk_that_no_source_has_raises_an_error(store, kind):
    files, root, blocks = store
    missing = cid_of(root, blocks, chunk_of(files, 5))
    kept = {
        multihash: block for multihash, block in blocks.items() if multihash != missing.multihash
    }
    with GatewayServer(kept) as server:
        dataset = opened(root, server, kind=kind)
        with pytest.raises(TransportError, match=str(missing)) as caught:
            list(dataset)
        assert not isinstance(caught.value, ObjectNotFoundError)
        dataset.close()


def test_a_directory_that_no_source_has_raises_an_error(array):
    root, blocks = tree(array(FIELD, fill_value=FILL, chunks=(1, 30, 50)))
    missing = cid_of(root, blocks, "c/5")
    del blocks[missing.multihash]
    with GatewayServer(blocks) as server:
        dataset = opened(root, server)
        assert np.array_equal(dataset[4][1], FIELD[4])
        with pytest.raises(TransportError, match=str(missing)):
            dataset.__getitems__([4, 5])
        dataset.close()


def test_a_block_of_a_large_directory_that_no_source_has_raises_an_error(array):
    values = np.arange(6000, dtype="i4")
    files = array(values, zarr_format=2, chunks=(1,), fill_value=-1, compressors=None)
    del files["77"]
    root, blocks = tree(files)  # a HAMT

    def walked(name):
        loaded = []
        lookup(root, name, lambda cid: loaded.append(cid) or blocks[cid.multihash])
        return loaded

    needed = {
        cid
        for name in ("zarr.json", ".zmetadata", ".zarray", ".zattrs", "77")
        for cid in walked(name)
    }
    missing = next(cid for n in range(6000) for cid in walked(str(n)) if cid not in needed)
    behind = [n for n in range(6000) if missing in walked(str(n))]
    assert behind
    del blocks[missing.multihash]
    with GatewayServer(blocks) as server:
        dataset = opened(root, server)
        assert dataset[77][1] == -1
        for position in behind[:3]:
            with pytest.raises(TransportError, match=str(missing)):
                dataset[position]
        dataset.close()


@pytest.mark.parametrize("shards", [None, (3, 1 << 20)])
def test_a_block_of_a_chunk_that_no_source_has_raises_an_error(array, shards):
    values = np.frombuffer(noise(3 << 20), "u1").reshape(3, 1 << 20)
    files = array(values, chunks=(1, 1 << 20), shards=shards, compressors=None, fill_value=FILL)
    root, blocks = tree(files, "kubo-cidv1")
    leaf = [cid for cid, block in blocks.items() if block in values[1].tobytes()][1]
    del blocks[leaf]
    with GatewayServer(blocks) as server:
        dataset = opened(root, server)
        assert np.array_equal(dataset[0][1], values[0])
        with pytest.raises(TransportError, match=str(CID(1, RAW, leaf))):
            dataset[1]
        dataset.close()


FAULTS = {
    "not found": lambda plan: Plan(status=404),
    "gone": lambda plan: Plan(status=410),
    "busy": lambda plan: Plan(status=503),
    "empty": lambda plan: attrs.evolve(plan, body=b""),
    "cut": lambda plan: attrs.evolve(plan, cut_at=99),
    "flipped": lambda plan: attrs.evolve(plan, flip_at=99),
    "stalled": lambda plan: attrs.evolve(plan, stall_at=99),
    "a page": lambda plan: Plan(headers={"Content-Type": "text/html"}, body=b"<html>"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_that_fails_raises_an_error_unless_there_is_another_source(store, fault):
    files, root, blocks = store
    chunk = cid_of(root, blocks, chunk_of(files, 5))

    def faulty(request, plan):
        return FAULTS[fault](plan) if str(chunk) in request.path else plan

    with GatewayServer(blocks, fault=faulty) as bad, GatewayServer(blocks) as good:
        dataset = opened(root, bad, timeout=2)
        assert np.array_equal(dataset[0][1], FIELD[0])
        with pytest.raises(IPFSDatasetError, match=str(chunk)):
            dataset[5]
        with pytest.raises(IPFSDatasetError, match=str(chunk)):
            dataset.__getitems__([0, 5])
        dataset.close()
        helped = opened(root, bad, good, timeout=2)
        assert np.array_equal(helped[5][1], FIELD[5])
        helped.close()


def test_a_read_after_an_error_tries_again(store):
    files, root, blocks = store
    chunk, failing = cid_of(root, blocks, chunk_of(files, 5)), [True]

    def faulty(request, plan):
        return Plan(status=500) if failing and str(chunk) in request.path else plan

    with GatewayServer(blocks, fault=faulty) as server:
        dataset = opened(root, server)
        with pytest.raises(TransportError):
            dataset[5]
        failing.clear()
        assert np.array_equal(dataset[5][1], FIELD[5])
        dataset.close()


class Losing(MemoryDirectory):
    """A directory whose chunks can be opened but not read: reading raises the error for absent files."""

    def open(self, path):
        file = super().open(path)
        if path.startswith("c/"):
            file.read_at = self._lost  # type: ignore[method-assign]
        return file

    def _lost(self, start, size):
        raise ObjectNotFoundError("no source has the block")


def test_a_block_that_is_not_found_is_not_an_absent_chunk(array):
    directory = Losing(array(FIELD, chunks=(1, 30, 50)))
    with pytest.raises(TransportError, match="no source has the block") as caught:
        list(ZarrReader().samples(directory))
    assert not isinstance(caught.value, ObjectNotFoundError)


def test_an_absent_chunk_raises_an_error_without_verification(array):
    files = array(FIELD, fill_value=FILL, chunks=(1, 60, 50))
    del files["c/5/0/0"]
    root, blocks = tree(files)
    with GatewayServer(blocks, serve_raw=False, serve_car=False) as server:
        dataset = opened(root, server, verify=False)
        assert np.array_equal(dataset[4][1], FIELD[4])
        with pytest.raises(TransportError, match="c/5/0/0"):
            dataset[5]
        dataset.close()
