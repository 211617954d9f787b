"""Reading with a cache on disk, and offline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.errors import TransportError
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.ipld import CID, RAW
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import noise, one_file, tar_bytes
from tests.support.gateway_server import GatewayServer

MEMBERS = {f"{n:03}.bin": noise(40_000 + n, n) for n in range(100)}
ARCHIVE = tar_bytes(MEMBERS)


def everything(root, **options):
    dataset = IPFSIterableDataset(IPFSObject(f"ipfs://{root}", RemoteFileType.TAR), **options)
    try:
        return list(dataset)
    finally:
        dataset.close()


@pytest.fixture(params=["unixfs-v1-2025", "unixfs-v0-2015"], ids=["raw leaves", "dag-pb leaves"])
def content(request):
    return one_file(ARCHIVE, request.param)


def test_the_second_epoch_needs_no_source(content, tmp_path):
    root, blocks = content
    with GatewayServer(blocks) as server:
        options = {"gateways": server.url, "cache_dir": tmp_path / "cache"}
        assert everything(root, **options) == list(MEMBERS.items())
        asked = len(server.requests)
        assert asked > 0
        assert everything(root, **options) == list(MEMBERS.items())
        assert len(server.requests) == asked


def test_offline_reading_uses_the_cache_and_the_error_names_a_missing_block(content, tmp_path):
    root, blocks = content
    cache = tmp_path / "cache"
    with GatewayServer(blocks) as server:
        everything(root, gateways=server.url, cache_dir=cache)
        asked = len(server.requests)
        offline = {"gateways": server.url, "cache_dir": cache, "offline": True}
        assert everything(root, **offline) == list(MEMBERS.items())
        other, _ = one_file(b"not in the cache")
        with pytest.raises(TransportError, match=r"offline=True") as caught:
            everything(other, **offline)
        assert str(other) in str(caught.value)
        assert len(server.requests) == asked


def test_offline_reads_from_a_store(content, tmp_path):
    root, blocks = content
    store = FolderStore(tmp_path / "store")
    store.put_blocks((CID(1, RAW, multihash), block) for multihash, block in blocks.items())
    assert everything(root, ipfs_api_address=str(tmp_path / "store"), offline=True) == list(
        MEMBERS.items()
    )


def test_damaged_files_of_the_cache_are_fetched_again(content, tmp_path):
    root, blocks = content
    cache = tmp_path / "cache"
    with GatewayServer(blocks) as server:
        options = {"gateways": server.url, "cache_dir": cache}
        everything(root, **options)
        for path in [path for path in cache.rglob("baf*") if path.is_file()][::3]:
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert everything(root, **options) == list(MEMBERS.items())
        offline = {**options, "offline": True}
        assert everything(root, **offline) == list(MEMBERS.items())


def test_unverified_blocks_are_not_kept(content, tmp_path):
    root, blocks = content
    cache = tmp_path / "cache"
    with GatewayServer(blocks) as server:
        everything(root, gateways=server.url, cache_dir=cache, verify=False)
    assert not [path for path in cache.rglob("*") if path.is_file()]


_EPOCH = """
import sys
from ipfs_dataset_core.ipld import CID, RAW
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
root, url, cache = sys.argv[1:]
dataset = IPFSDataset(IPFSObject("ipfs://" + root, RemoteFileType.TAR), gateways=url, cache_dir=cache)
for number in range(len(dataset)):
    dataset[number]
    print(number, flush=True)
"""


def test_a_reader_killed_in_the_middle_leaves_a_cache_that_works(content, tmp_path):
    root, blocks = content
    cache = tmp_path / "cache"
    with GatewayServer(blocks) as server:
        command = [sys.executable, "-c", _EPOCH, str(root), server.url, str(cache)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            for line in reader.stdout:
                if int(line) == 40:
                    os.kill(reader.pid, signal.SIGKILL)
                    break
        dataset = IPFSDataset(
            IPFSObject(f"ipfs://{root}", RemoteFileType.TAR), gateways=server.url, cache_dir=cache
        )
        assert [dataset[n] for n in range(len(dataset))] == list(MEMBERS.items())
        dataset.close()


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_a_failing_disk_does_not_stop_reading(content, tmp_path, caplog):
    root, blocks = content
    blocked = tmp_path / "a file, no folder"
    blocked.write_bytes(b"")
    with GatewayServer(blocks) as server:
        found = everything(root, gateways=server.url, cache_dir=Path(blocked))
    assert found == list(MEMBERS.items())
    assert "reading continues without it" in caplog.text
