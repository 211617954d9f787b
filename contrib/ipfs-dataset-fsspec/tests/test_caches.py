"""Caches that fsspec puts in front of a filesystem, and the times by which they find files changed."""

from __future__ import annotations

import json
import pickle
import random
from datetime import datetime, timezone

import fsspec
import pytest

from ipfs_dataset_core import CID
from tests.support import builders
from tests.support.http_server import FaultServer, Plan

DATA = random.Random(0).randbytes(3_000_000)
# fsspec's block cache leaves it to the garbage collector to close the file that it maps.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedRandom:ResourceWarning")

CACHES = ("blockcache", "filecache", "simplecache")


@pytest.fixture
def cached(store, tmp_path):
    """Opens a file through one of the caches."""
    cid = store.tree({"a/data.bin": DATA})

    def opened(cache, **options):
        return fsspec.open(
            f"{cache}::ipfsdataset://{cid}/a/data.bin",
            ipfsdataset={"ipfs_api_address": store.address},
            **{cache: {"cache_storage": str(tmp_path / cache), **options}},
        )

    return opened


@pytest.mark.parametrize("cache", CACHES)
def test_a_file_is_the_same_through_a_cache_filled_or_not(cached, cache):
    for _ in range(2):
        with cached(cache) as file:
            file.seek(2_000_001)
            assert file.read(70_000) == DATA[2_000_001:2_070_001]
            file.seek(-5, 2)
            assert file.read() == DATA[-5:]
            assert file.read(1) == b""
            file.seek(0)
            assert file.read() == DATA
        assert file.closed


def test_a_block_cache_fetches_only_the_blocks_that_are_read(cached, tmp_path):
    opened = cached("blockcache")
    fs, path = opened.fs, opened.path
    with fs.open(path, block_size=100_000) as file:
        assert file.blocksize == 100_000
        file.seek(1_250_000)
        assert file.read(10) == DATA[1_250_000:1_250_010]
        assert file.cache.blocks == {12}
    with fs.open(path, block_size=100_000) as file:
        assert file.cache.blocks == {12}
        assert file.read(5) == DATA[:5]


def test_an_open_file_tells_its_block_size_also_when_it_was_pickled(store, fs):
    path = f"{store.tree({'x': DATA})}/x"
    with fs.open(path) as file, fs.open(path, block_size=1000) as other:
        assert (file.blocksize, other.blocksize) == (fs.blocksize, 1000)
        assert pickle.loads(pickle.dumps(other)).blocksize == 1000


def test_what_a_cid_names_was_never_modified(store, fs):
    root = store.tree({"x": b"1"})
    never = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for path in (f"{root}/x", f"ipfsdataset://{root}/x", root):
        assert fs.modified(path) == never
    with pytest.raises(FileNotFoundError):
        fs.modified(f"{root}/none")


class Node(FaultServer):
    """A node's API with one name."""

    def __init__(self, blocks):
        super().__init__(self._answer)
        self.blocks = blocks
        self.target = ""

    def _answer(self, request):
        if request.path == "/api/v0/resolve":
            return Plan(body=json.dumps({"Path": f"/ipfs/{self.target}"}).encode())
        if request.path == "/api/v0/block/get":
            return Plan(body=self.blocks[CID.parse(request.query["arg"]).multihash])
        return Plan(status=404)


def test_what_a_name_points_to_was_modified_when_it_was_first_seen_there():
    first, blocks = builders.tree({"x": b"first"})
    second, more = builders.tree({"x": b"second"})
    with Node({**blocks, **more}) as node:
        fs = fsspec.filesystem("ipfsdataset", ipfs_api_address=node.url, retries=0)
        node.target = first
        before = datetime.now(timezone.utc)
        seen = fs.modified("ipns://data.example/x")
        assert before <= seen <= datetime.now(timezone.utc)
        fs.invalidate_cache()
        assert fs.modified("ipns://data.example/x") == seen
        node.target = second
        assert fs.modified("ipns://data.example/x") == seen
        fs.invalidate_cache()
        assert fs.modified("ipns://data.example/x") > seen
        assert fs.cat_file("ipns://data.example/x") == b"second"
