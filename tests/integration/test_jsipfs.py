"""A real js-ipfs node, whose API and gateway differ from Kubo's in what they leave out."""

from __future__ import annotations

import json
import urllib.request
from contextlib import closing

import pytest

from ipfs_dataset_core import Options, TransportError, TransportTimeoutError
from ipfs_dataset_core.datasets.objects import DatasetObject
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.reading.unverified import PlainFile
from ipfs_dataset_plugins.api.transport import ApiTransport
from tests.support.builders import depth_first, folder, noise, one_file, tree
from tests.support.fetching import open_object, read_all

pytestmark = pytest.mark.jsipfs

DATA = noise(5_000_000)
MEMBERS = {"a b.txt": b"first", "sub/b.bin": DATA}


def api(jsipfs, timeout=60):
    return ApiTransport(jsipfs.api, Options(timeout=timeout))


def rpc(jsipfs, command):
    url = f"http://127.0.0.1:{jsipfs.api.split('/')[4]}/api/v0/{command}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as response:
        return response.read()


def publish(jsipfs, root, blocks):
    transport = api(jsipfs)
    transport.put_blocks(depth_first(root, blocks))
    transport.pin(root)
    transport.close()
    return root


@pytest.fixture
def plain(jsipfs):
    connections = Connections(
        f"gateway+{jsipfs.gateway}", Options(verify=False, timeout=60, retries=0)
    )
    yield connections
    connections.close()


@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "unixfs-v1-2025"])
def test_what_is_published_is_pinned_and_read_back_verified(jsipfs, profile):
    root = publish(jsipfs, *one_file(DATA, profile))
    assert read_all(root, api(jsipfs), piece=1 << 20) == DATA
    with urllib.request.urlopen(f"{jsipfs.gateway}/ipfs/{root}", timeout=30) as response:
        assert response.read() == DATA
    assert json.loads(rpc(jsipfs, f"pin/ls?arg={root}"))["Keys"]


def test_a_missing_block_ends_with_a_timeout(jsipfs):
    transport = api(jsipfs, timeout=1)
    with pytest.raises(TransportTimeoutError):
        transport.get_block(make_cid(b"nobody has this", RAW))
    root, blocks = one_file(noise(3_000_000, seed=5))
    transport.put_blocks(list(depth_first(root, blocks))[:-1])
    with pytest.raises(TransportTimeoutError):
        transport.pin(root)
    transport.close()


def test_cars_are_exported(jsipfs):
    root, blocks = tree(MEMBERS)
    publish(jsipfs, root, blocks)
    transport = api(jsipfs)
    assert {cid.multihash: block for cid, block in transport.read_car(root)} == blocks
    transport.close()


def test_names_resolve_to_the_published_cid(jsipfs):
    root = publish(jsipfs, *one_file(b"named"))
    rpc(jsipfs, f"name/publish?arg={root}&resolve=false&allow-offline=true")
    name = json.loads(rpc(jsipfs, "id"))["ID"]
    connections = Connections(jsipfs.api, Options(timeout=60))
    assert open_object(f"ipns://{name}", connections).read() == b"named"
    connections.close()


def test_its_gateway_is_refused_as_not_trustless(jsipfs):
    root = publish(jsipfs, *one_file(DATA))
    connections = Connections(f"gateway+{jsipfs.gateway}", Options(timeout=60))
    with pytest.raises(TransportError, match=r"not a trustless gateway.*verify=False"):
        open_object(f"ipfs://{root}", connections)
    connections.close()


def test_files_of_its_gateway_are_read_with_consent(jsipfs, plain):
    root = publish(jsipfs, *one_file(DATA))
    file = open_object(f"ipfs://{root}", plain)
    assert isinstance(file, PlainFile)
    assert file.read() == DATA
    assert file.read_at(1_000_000, 50) == DATA[1_000_000:1_000_050]


def test_folders_of_its_gateway_are_read_where_they_list_their_members(jsipfs, plain):
    listed = publish(jsipfs, *folder(MEMBERS))
    shards = DatasetObject(IPFSObject(f"ipfs://{listed}"), plain).counted_shards()
    assert [sample for shard in shards for sample in shard.samples()] == list(MEMBERS.items())
    assert open_object(f"ipfs://{listed}/sub/b.bin", plain).read() == DATA
    unlisted = publish(jsipfs, *tree(MEMBERS))
    with pytest.raises(TransportError, match="cannot be listed"):
        DatasetObject(IPFSObject(f"ipfs://{unlisted}"), plain).counted_shards()


def test_an_interrupted_export_resumes(jsipfs):
    data = [noise(300_000, seed=number) for number in range(100, 160)]
    exporter = IPFSDatasetExporter(jsipfs.api, shard_bytes=1 << 20)
    exporter.export_to_ipfs(data[:40])
    sent = exporter.uploaded.sent_bytes
    cid = exporter.export_to_ipfs(data)
    assert exporter.uploaded.present_bytes > sent * 0.9
    exporter.export_to_ipfs(data)
    assert exporter.uploaded.sent_bytes == 0
    with closing(exporter.import_from_ipfs(cid)) as imported:
        assert list(imported) == data
