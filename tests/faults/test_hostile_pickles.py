"""Pickles that run code, in every place where bytes arrive: by default nothing runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import IPFSDatasetError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import RAW, car_header, car_section, get_profile, make_cid
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_core.testing import MemoryTransport
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from tests.support.builders import noise, one_file, tar_bytes, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan
from tests.support.stores import Store

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["x.pkl", "x.pt", "x.pth", "x.npy", "x.npz", "x.mat", "x.h5", "x.parquet", "x.json", "x"]


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self._mark),)


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def object_array(value):
    buffer = io.BytesIO()
    np.save(buffer, np.array([value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


WAYS: dict[str, Callable[[object], bytes]] = {
    "protocol 0": lambda bomb: pickle.dumps(bomb, 0),
    "protocol 2": lambda bomb: pickle.dumps(bomb, 2),
    "protocol 5": lambda bomb: pickle.dumps(bomb, 5),
    "torch.save": saved,
    "old torch.save": lambda bomb: saved(bomb, _use_new_zipfile_serialization=False),
    "array of objects": object_array,
}


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "it ran"


@pytest.fixture(params=WAYS)
def payload(request, mark):
    """Bytes that run code where they are unpickled; that they did not is checked after the test."""
    yield WAYS[request.param](Bomb(mark))
    assert not mark.exists(), "a pickle ran"


@pytest.mark.parametrize("way", WAYS)
def test_the_payloads_work(mark, way):
    data = io.BytesIO(WAYS[way](Bomb(mark)))
    with suppress(Exception):  # what they make is of no use
        if "torch" in way:
            torch.load(data, weights_only=False)
        elif way == "array of objects":
            np.load(data, allow_pickle=True)
        else:
            pickle.load(data)
    assert mark.exists()


def read_all(*arguments, **options):
    """Reads an object in all ways; errors of ours are fine."""
    stream = IPFSIterableDataset(*arguments, retries=0, timeout=2, **options)
    with closing(stream), suppress(IPFSDatasetError):
        list(stream)
    dataset = IPFSDataset(*arguments, retries=0, timeout=2, **options)
    with closing(dataset), suppress(IPFSDatasetError):
        dataset.__getitems__(range(len(dataset)))


def import_all(address, url, **options):
    """Reads a published dataset; errors of ours are fine. Returns how many samples came."""
    count = 0
    exporter = IPFSDatasetExporter(address, retries=0, timeout=2, **options)
    with suppress(IPFSDatasetError), closing(exporter.import_from_ipfs(url)) as dataset:
        for number in range(len(dataset)):
            with suppress(IPFSDatasetError):
                dataset[number]
                count += 1
    return count


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_objects_and_members_of_any_format(store, payload):
    files = dict.fromkeys(NAMES, payload)
    for kind in (None, *RemoteFileType, "mat"):
        read_all(IPFSObject(store.file(payload), kind), store.address)
        read_all(IPFSObject(store.tree(files), kind), store.address)
        read_all(IPFSObject(store.folder(files), kind), store.address)
    for pack, suffix in ((tar_bytes, "tar"), (zip_bytes, "zip")):
        inner = store.folder({f"in.{suffix}": pack(files), **files})
        read_all(IPFSObject(store.file(pack(files)), suffix), store.address)
        read_all(IPFSObject(inner, RemoteFileType.FOLDER), store.address)
    listing = store.tree({**files, "metadata.txt": payload, "manifest.json": payload})
    read_all(IPFSObject(listing, RemoteFileType.FOLDER), store.address)
    read_all(store.tree({"a.tar": payload, "a.zip": payload, "a.tar.gz": payload}), store.address)


SAMPLES = [
    (
        np.frombuffer(noise(4096, n), np.uint8),
        torch.full((800,), float(n)),
        noise(4096, n),
        "t" * 3000,
    )
    for n in range(3)
]


def published(samples, **options):
    """Returns the files of a published dataset."""
    transport = MemoryTransport()
    exporter = TarShards(ExporterOptions(shard_bytes=30_000, **options))
    root = publish(exporter.export, samples, transport, get_profile("unixfs-v1-2025"))
    return transport.directory(root).files


def with_contents(shard, payload):
    """Returns shards with a member's bytes replaced in each; sizes, and so the index, stay as they are."""
    with tarfile.open(fileobj=io.BytesIO(shard)) as archive:
        places = [(m.offset_data, m.size) for m in archive.getmembers() if m.size >= len(payload)]
    for start, size in places:
        yield shard[:start] + payload.ljust(size, b".") + shard[start + size :]


def test_any_file_and_member_of_a_published_dataset(store, payload):
    files = published(SAMPLES)
    url = store.tree(files)
    assert import_all(store.address, url) == len(SAMPLES)
    tried = 0
    for path, data in files.items():
        import_all(store.address, store.tree({**files, path: payload}))
        for changed in with_contents(data, payload) if path.endswith(".tar") else ():
            import_all(store.address, store.tree({**files, path: changed}))
            tried += 1
    assert tried >= len(SAMPLES)


def test_a_dataset_whose_author_chose_pickles(store, mark):
    files = published([Bomb(mark)], allow_pickle=True)
    url = store.tree(files)
    assert import_all(store.address, url) == 0
    assert not mark.exists()
    import_all(store.address, url, allow_pickle=True)
    assert mark.exists()


def test_shards_of_the_original_library(store, payload):
    for shard in (tar_bytes({"a": payload, "b": saved(torch.ones(3))}), payload):
        fields = {"identifier": "ipfs-dataset", "version": "1.0", "list": [store.file(shard)]}
        came = import_all(store.address, store.file(json.dumps(fields).encode()))
        assert came == (0 if shard is payload else 1)
    import_all(store.address, store.file(payload))


def test_files_of_the_cache(tmp_path, payload):
    files = {f"{n}.bin": noise(3000, n) for n in range(4)}
    root, blocks = one_file(zip_bytes(files))
    obj = IPFSObject(f"ipfs://{root}", RemoteFileType.ZIP)
    with GatewayServer(blocks) as server:
        for _ in range(2):
            dataset = IPFSDataset(obj, gateways=server.url, cache_dir=tmp_path / "cache")
            assert dataset.__getitems__([0, 1, 2, 3]) == list(files.items())
            dataset.close()
            kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
            # Without its mark a cache is refused, whatever else is in it.
            kept = [path for path in kept if path.name != "CACHEDIR.TAG"]
            assert kept
            for path in kept:
                path.write_bytes(payload)


def test_stores_and_cars(tmp_path, payload):
    cid = make_cid(payload, RAW)
    other = make_cid(b"something else", RAW)
    for number, data in enumerate(
        (
            payload,
            car_header([cid]) + payload,
            car_header([cid]) + car_section(cid, payload),
            car_header([other]) + car_section(other, payload),
            bytes([len(payload) % 128]) + payload,
        )
    ):
        path = tmp_path / f"{number}.car"
        path.write_bytes(data)
        for root in (cid, other):
            read_all(f"ipfs://{root}", str(path))
            import_all(str(path), f"ipfs://{root}")
    store = Store(tmp_path / "s")
    url = store.file(noise(2000))
    for path in (tmp_path / "s").rglob("*"):
        if path.is_file():
            path.write_bytes(payload)
    read_all(url, store.address)
    import_all(store.address, url)


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json", "text/html"])
def test_responses_of_servers_are_never_unpickled(payload, kind):
    cid = make_cid(b"something else", RAW)
    with FaultServer(lambda _: Plan(body=payload, headers={"Content-Type": kind})) as server:
        for verify in (True, False):
            for source in (
                {"gateways": server.url},
                {"ipfs_api_address": server.multiaddr},
                {"routers": server.url},
            ):
                for url in (
                    f"ipfs://{cid}",
                    f"ipfs://{make_cid(payload, RAW)}",
                    "ipns://a.example",
                ):
                    read_all(url, verify=verify, **source)
        import_all(server.multiaddr, f"ipfs://{cid}", verify=False)
        assert len(server.requests) > 10
