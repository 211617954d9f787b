"""Caches of fsspec in front of the filesystem, and the times with which they detect changed files."""

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
def test_a_file_reads_the_same_through_an_empty_and_a_full_cache(cached, cache):
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


@pytest.fixture
def through(store, tmp_path):
    """Makes one of the caches over the store."""

    def made(cache, **options):
        return fsspec.filesystem(
            cache,
            target_protocol="ipfsdataset",
            target_options={"ipfs_api_address": store.address},
            cache_storage=str(tmp_path / cache),
            **options,
        )

    return made


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_returns_the_same_as_the_filesystem(store, fs, through, cache):
    root, cached = store.tree({"a/data.bin": DATA, "b.txt": b"text"}), through(cache)
    file = f"{root}/a/data.bin"
    for _ in range(2):
        for path in (root, f"{root}/a", file, store.file(DATA), f"{root}/none"):
            for method in ("exists", "isdir", "isfile"):
                assert getattr(cached, method)(path) == getattr(fs, method)(path), (method, path)
        assert cached.info(root)["type"] == "directory"
        assert cached.info(file) == fs.info(file)
        assert cached.ls(root) == fs.ls(root)
        assert cached.find(root, detail=True) == fs.find(root, detail=True)
        assert cached.glob(f"{root}/**/*.bin") == [file]
        assert list(cached.walk(root)) == list(fs.walk(root))
        assert cached.du(root) == fs.du(root)
        assert cached.cat([file, f"{root}/b.txt"]) == {file: DATA, f"{root}/b.txt": b"text"}
        assert cached.cat_ranges([file, file], [0, 2_999_999], [3, None]) == [DATA[:3], DATA[-1:]]
        with cached.open(f"{root}/b.txt", "rt") as lines:
            assert lines.readlines() == ["text"]
        cached = pickle.loads(pickle.dumps(cached))
    with pytest.raises(FileNotFoundError):
        cached.open(f"{root}/none")


def test_a_dir_filesystem_reads_and_compares_paths(store, fs):
    root = store.tree({"a/b.txt": b"text", "c/b.txt": b"text"})
    below = fsspec.filesystem("dir", path=f"{root}/a", fs=fs)
    assert below.find("") == ["b.txt"]
    assert below.cat_file("b.txt") == b"text"
    assert below.ukey("b.txt") == fs.ukey(f"{root}/c/b.txt") == fs.info(f"{root}/a/b.txt")["CID"]
    assert below.checksum("b.txt") == fs.checksum(f"{root}/c/b.txt") != fs.checksum(root)
    assert below.modified("b.txt") == below.created("b.txt") == fs.modified(root)
    with pytest.raises(OSError, match="read-only"):
        below.open("new", "wb")


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        ("CID/a/b", "CID/a"),
        ("CID/a", "CID"),
        ("CID", "CID"),
        ("", ""),
        ("ipns/name/a", "ipns/name"),
        ("ipns/name", "ipns/name"),
        ("ipns://name/a/", "ipns/name"),
    ],
)
def test_a_cid_or_name_is_its_own_parent(fs, path, parent):
    assert fs._parent(path) == parent


def test_an_open_file_keeps_its_block_size_when_pickled(store, fs):
    path = f"{store.tree({'x': DATA})}/x"
    with fs.open(path) as file, fs.open(path, block_size=1000) as other:
        assert (file.blocksize, other.blocksize) == (fs.blocksize, 1000)
        assert pickle.loads(pickle.dumps(other)).blocksize == 1000


def test_a_path_below_a_cid_was_modified_in_1970(store, fs):
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


@pytest.mark.parametrize("cache", ["filecache", "blockcache"])
def test_a_cache_that_compares_files_detects_a_new_target_of_a_name(tmp_path, cache):
    # Of one size, as fsspec's block cache fails where a file has grown.
    first, blocks = builders.tree({"x": b"first"})
    second, more = builders.tree({"x": b"other"})
    with Node({**blocks, **more}) as node:
        fs = fsspec.filesystem(
            cache,
            target_protocol="ipfsdataset",
            target_options={"ipfs_api_address": node.url, "listings_expiry_time": 0, "retries": 0},
            cache_storage=str(tmp_path / cache),
            check_files=True,
        )
        for node.target, content in ((first, b"first"), (second, b"other"), (first, b"first")):
            for _ in range(2):
                with fs.open("ipns://data.example/x") as file:
                    assert file.read() == content


def test_a_path_below_a_name_was_modified_when_its_target_was_first_seen():
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
