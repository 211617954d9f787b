"""Sources that fail or send wrong bytes: the right bytes are read, or an error is raised."""

from __future__ import annotations

import json
import pickle
import threading
from itertools import count

import attrs
import pytest

from ipfs_dataset_core import CID, TransportError, VerificationError
from ipfs_dataset_core.ipld import get_profile, node_kind
from tests.support import builders
from tests.support.builders import noise
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan, redirect
from tests.support.stores import SMALL_LEAVES

DATA = noise(3_000_000)
FILES = {f"chunks/{number:02}": noise(2000, seed=number) for number in range(40)}


def cut(_, plan):
    return attrs.evolve(plan, cut_at=len(plan.body) // 2) if isinstance(plan.body, bytes) else plan


def flip(_, plan):
    return attrs.evolve(plan, flip_at=len(plan.body) // 2) if isinstance(plan.body, bytes) else plan


def away(url):
    return lambda request, _: redirect(f"{url}{request.path}")


def failing(_, __):
    return Plan(status=500, body=b"out of order")


@pytest.fixture
def blocks():
    return {}


@pytest.fixture
def file(blocks):
    cid, made = builders.one_file(DATA, SMALL_LEAVES)
    blocks.update(made)
    return str(cid)


@pytest.fixture
def folder(blocks):
    cid, made = builders.tree({**FILES, "other": b"file"}, SMALL_LEAVES)
    blocks.update(made)
    return str(cid)


@pytest.mark.parametrize("fault", [cut, flip, failing])
def test_a_failing_source_is_replaced_by_an_honest_one(at, blocks, file, fault):
    with GatewayServer(blocks, fault=fault) as bad, GatewayServer(blocks) as good:
        fs = at(bad, good)
        with fs.open(file) as opened:
            assert opened.read() == DATA
        assert fs.cat_file(file, 1_000_000, 1_000_100) == DATA[1_000_000:1_000_100]
        assert bad.requests
        fs.close()


@pytest.mark.parametrize("lies", ["ranges", "everything"])
def test_wrong_bytes_of_the_only_source_raise_an_error(at, blocks, file, tmp_path, lies):
    def lie(request, plan):
        return flip(request, plan) if lies == "everything" or "range" in request.headers else plan

    with GatewayServer(blocks, fault=lie) as server:
        fs = at(server)
        if lies == "ranges":  # blocks prove what is right
            assert fs.cat_file(file) == DATA
        else:
            for ask in (fs.cat_file, fs.info, fs.exists, fs.isfile):
                with pytest.raises(VerificationError, match="not that block"):
                    ask(file)
            with pytest.raises(VerificationError):
                fs.get_file(file, tmp_path / "got")
            assert not (tmp_path / "got").exists()
        fs.close()


def test_a_redirect_to_a_private_address_is_not_followed(at, blocks, file):
    with GatewayServer(blocks) as inner, GatewayServer(blocks, fault=away(inner.url)) as outer:
        fs = at(outer, headers={"X-Api-Key": "hidden-key"})
        with pytest.raises(TransportError) as caught:
            fs.cat_file(file)
        assert inner.requests == []
        assert not isinstance(caught.value, FileNotFoundError)
        assert "hidden-key" not in str(caught.value)
        fs.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda fs, root: fs.find(root),
        lambda fs, root: fs.glob(f"{root}/**"),
        lambda fs, root: fs.du(root),
        lambda fs, root: list(fs.walk(root)),
        lambda fs, root: fs.exists(f"{root}/chunks/00"),
        lambda fs, root: fs.isdir(f"{root}/chunks"),
        lambda fs, root: fs.isfile(f"{root}/chunks/00"),
        lambda fs, root: fs.get_mapper(root)["chunks/00"],
        lambda fs, root: fs.cat(f"{root}/chunks/*"),
        lambda fs, root: "chunks/00" in fs.get_mapper(root),
    ],
)
def test_a_failing_source_does_not_make_a_file_missing(at, blocks, folder, ask):
    with GatewayServer(blocks) as server:
        fs = at(server)
        lost = fs.info(f"{folder}/chunks")["CID"]
        fs.close()
        server.fault = lambda request, plan: failing(0, 0) if lost in request.path else plan
        with pytest.raises(TransportError, match="out of order") as caught:
            ask(fs, folder)
        assert not isinstance(caught.value, FileNotFoundError)
        fs.close()


def test_walk_can_ignore_directories_that_fail(at, blocks, folder):
    with GatewayServer(blocks) as server:
        fs = at(server)
        lost = fs.info(f"{folder}/chunks")["CID"]
        fs.close()
        server.fault = lambda request, plan: failing(0, 0) if lost in request.path else plan
        told = []
        with pytest.raises(TransportError):
            fs.find(folder, on_error="raise")
        assert list(fs.walk(f"{folder}/chunks", on_error=told.append)) == []
        assert [type(error) for error in told] == [TransportError]
        fs.close()


@pytest.mark.parametrize("how", ["cat", "cat_ranges", "get"])
def test_many_files_are_fetched_at_once(at, blocks, folder, tmp_path, how):
    together, asked = threading.Barrier(8), count()

    def wait_for_others(request, plan):
        # The last of all may well be fewer: what comes next is asked for as files are read.
        if any(cid in request.path for cid in leaves) and next(asked) < 8:
            together.wait(timeout=20)
        return plan

    with GatewayServer(blocks) as server:
        fs = at(server, timeout=30, deadline=60)
        leaves = [info["CID"] for info in fs.ls(f"{folder}/chunks")]
        paths = [f"{folder}/{name}" for name in FILES]
        fs.close()
        server.fault = wait_for_others
        if how == "cat":
            assert fs.cat(paths) == {f"{folder}/{name}": data for name, data in FILES.items()}
        elif how == "cat_ranges":
            assert fs.cat_ranges(paths, 10, 20) == [data[10:20] for data in FILES.values()]
        else:
            fs.get(f"{folder}/chunks", str(tmp_path / "got"), recursive=True)
            got = {f"chunks/{p.name}": p.read_bytes() for p in (tmp_path / "got").iterdir()}
            assert got == FILES
        assert server.most_at_once >= 8
        fs.close()


def test_ranges_of_one_file_are_fetched_at_once(at, blocks, file):
    together = threading.Barrier(6)

    def wait_for_others(request, plan):
        if file not in request.path:
            together.wait(timeout=20)
        return plan

    starts = list(range(0, 3_000_000, 500_000))
    with GatewayServer(blocks, fault=wait_for_others) as server:
        fs = at(server, timeout=30, deadline=60)
        found = fs.cat_ranges([file] * 6, starts, [start + 9 for start in starts])
        assert found == [DATA[start : start + 9] for start in starts]
        fs.close()


def test_listings_are_cached(at, blocks, folder):
    with GatewayServer(blocks) as server:
        for remember, fewest, most in ((True, 0, 4), (False, len(FILES), 100)):
            fs = at(server, memory=1, use_listings_cache=remember)
            listing = fs.ls(f"{folder}/chunks")
            asked = len(server.requests)
            assert fs.ls(f"{folder}/chunks") == listing
            assert fewest <= len(server.requests) - asked <= most
            fs.close()


def test_a_sharded_directory_is_listed_in_few_requests(at):
    profile = attrs.evolve(get_profile("unixfs-v1-2025"), hamt_threshold=200)
    names = [f"{number:05}" for number in range(2000)]
    root, blocks = builders.tree(dict.fromkeys(names, b"data"), profile)
    assert node_kind(root, blocks[root.multihash]) == "hamt"
    with GatewayServer(blocks) as server:
        fs = at(server)
        assert [info["name"].rpartition("/")[2] for info in fs.ls(str(root))] == names
        assert len(server.requests) < 10
        fs.close()


def test_ranges_of_one_block_fetch_it_once(at, blocks, file):
    with GatewayServer(blocks, serve_plain=False, serve_car=False) as server:
        fs = at(server)
        starts = [1_000_000 + 100 * number for number in range(50)]
        found = fs.cat_ranges([file] * 50, starts, [start + 50 for start in starts])
        assert found == [DATA[start : start + 50] for start in starts]
        asked = [request.path for request in server.requests if request.method == "GET"]
        assert len(asked) == len(set(asked)) <= 3
        fs.close()


def test_listings_are_fetched_once_and_names_are_resolved_again(at, blocks, folder):
    names = {"data.example": f"/ipfs/{folder}"}
    cid, made = builders.tree({"new": b"content"})
    blocks.update(made)
    with GatewayServer(blocks, names=names) as server, Node(server) as node:
        path = "ipns://data.example"
        fs = at(ipfs_api_address=node.url)
        assert [i["name"] for i in fs.ls(path)] == [
            "ipns/data.example/chunks",
            "ipns/data.example/other",
        ]
        assert fs.info(path)["CID"] == folder
        opened = fs.open(f"{path}/other")
        server.names["data.example"] = f"/ipfs/{cid}"
        assert fs.exists(f"{path}/other")
        assert node.resolved == 1
        assert [i["name"] for i in fs.ls(path, refresh=True)] == ["ipns/data.example/new"]
        assert not fs.exists(f"{path}/other")
        assert pickle.loads(pickle.dumps(opened)).read() == opened.read() == b"file"
        assert opened.info()["name"] == "ipns/data.example/other"
        server.names["data.example"] = f"/ipfs/{folder}"
        fs.invalidate_cache()
        assert fs.exists(f"{path}/other")
        before = node.resolved
        fs.close()
        always = at(ipfs_api_address=node.url, use_listings_cache=False)
        assert always.exists(f"{path}/other")
        assert always.exists(f"{path}/other")
        assert node.resolved >= before + 2


class Node(FaultServer):
    """A node's API over what a gateway has, names included."""

    def __init__(self, gateway):
        super().__init__(self._answer)
        self._gateway = gateway
        self.resolved = 0

    def _answer(self, request):
        if request.path == "/api/v0/resolve":
            self.resolved += 1
            name = request.query["arg"].rpartition("/")[2]
            return Plan(body=json.dumps({"Path": self._gateway.names[name]}).encode())
        if request.path == "/api/v0/block/get":
            return Plan(body=self._gateway.blocks[CID.parse(request.query["arg"]).multihash])
        return Plan(status=404)


def test_unverified_files_are_read_only_with_verify_false(at, blocks, folder):
    with GatewayServer(blocks, serve_raw=False, serve_car=False) as server:
        with pytest.raises(TransportError):
            at(server).cat_file(f"{folder}/other")
        fs = at(server, verify=False)
        assert fs.cat_file(f"{folder}/other") == b"file"
        assert fs.info(f"{folder}/other")["CID"] is None
        with fs.open(f"{folder}/chunks/07") as opened:
            assert opened.read() == FILES["chunks/07"]
        with pytest.raises(TransportError, match="cannot be listed"):
            fs.ls(folder)
