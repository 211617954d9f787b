"""What the doctor finds out about sources of every kind."""

from __future__ import annotations

import json

import pytest

from ipfs_dataset.cli import main
from ipfs_dataset.cli.diagnosis import diagnose
from ipfs_dataset_core import (
    ObjectNotFoundError,
    Transport,
    TransportError,
    TransportPlugin,
    TransportTimeoutError,
    register,
)
from ipfs_dataset_core.ipld import CID, RAW, make_cid
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import car_bytes, depth_first, noise, one_file, tree
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan

FILE = noise(5 << 20)
ROOT, BLOCKS = one_file(FILE)
URL = f"ipfs://{ROOT}"


def look(*servers, url=URL, blocks=100):
    options = Options(gateways=tuple(server.url for server in servers), timeout=2)
    return diagnose(url, None, options, blocks=blocks)


def test_a_gateway_that_does_everything_needs_no_advice():
    with GatewayServer(BLOCKS) as server:
        found = look(server)
    (source,) = found.sources
    assert found.readable
    assert found.advice == []
    assert found.cid == str(ROOT)
    assert source.trustless
    assert source.ranges is True
    assert source.cars is True
    assert source.blocks_checked == len(BLOCKS)
    assert source.first_missing is None
    assert source.problems == []
    assert source.latency_ms > 0
    assert source.mb_per_second > 0


def test_each_source_is_diagnosed_separately():
    missing = next(multihash for multihash in BLOCKS if multihash != ROOT.multihash)
    part = {multihash: block for multihash, block in BLOCKS.items() if multihash != missing}
    with GatewayServer(part) as one, GatewayServer({}) as none, GatewayServer(BLOCKS) as whole:
        found = look(one, none, whole)
    first, second, third = found.sources
    assert first.has_root
    assert first.first_missing == str(CID(1, RAW, missing))
    assert not second.has_root
    assert third.first_missing is None
    assert found.readable
    assert any(first.first_missing in line and "second source" in line for line in found.advice)
    assert first.missing_at == [third.name]
    assert second.missing_at == [first.name, third.name]
    assert third.missing_at is None


class Peers(Transport):
    """Blocks in batches, from parts that tell what they are."""

    batches = True

    def __init__(self, name, blocks, parts=(), failure=None):
        self.name, self.blocks, self._parts, self.failure = name, blocks, parts, failure

    def get_block(self, cid):
        for one in (self, *self._parts):
            if cid.multihash in one.blocks:
                return one.blocks[cid.multihash]
        raise ObjectNotFoundError(f"{self.name} lacks {cid}")

    def parts(self):
        return self._parts

    def facts(self):
        if self.failure:
            raise TransportError(self.failure)
        return {} if self._parts else {"program": f"program of {self.name}"}


def test_the_parts_of_a_source_are_diagnosed_separately(request, capsys, monkeypatch):
    # What is registered goes with every dataset to its workers, and this cannot be pickled.
    monkeypatch.setattr(default_registry(), "_registered", [])
    missing = [*BLOCKS][3]
    part = {multihash: block for multihash, block in BLOCKS.items() if multihash != missing}
    peers = Peers(
        "swarm", {}, [Peers("one", part), Peers("two", BLOCKS), Peers("gone", {}, (), "is off")]
    )
    scheme = request.node.name.replace("_", "-")
    register(
        TransportPlugin(
            name=scheme, summary="peers", schemes=(scheme,), factory=lambda address, options: peers
        )
    )
    assert main(["doctor", URL, "--from", f"{scheme}://x"]) == 0
    out = capsys.readouterr().out
    assert "\nswarm\n" in out
    assert "\n  one\n    program        program of one\n" in out
    assert "    is at          two\n" in out
    assert "one lacks block" in out
    assert "such as two, which has it" in out
    found = diagnose(URL, f"{scheme}://x", Options(), blocks=100)
    (swarm,) = found.sources
    assert found.readable
    one, two, gone = swarm.parts
    assert swarm.batches
    assert two.batches
    assert one.batches is False
    assert (two.mb_per_second or 0) > 0
    assert "is off" in gone.problems[-1]
    json.dumps(found.as_dict())

    assert main(["bench", URL, "--from", f"{scheme}://x", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "swarm: batches" in out
    assert "two: program program of two" in out
    assert "is off" in out


def test_a_gateway_of_blocks_and_one_of_plain_bytes_are_distinguished():
    with GatewayServer(BLOCKS, serve_plain=False, serve_car=False) as blocks:
        found = look(blocks)
    (source,) = found.sources
    assert (source.trustless, source.ranges, source.cars) == (True, False, False)
    assert "single blocks" in found.advice[0]

    with GatewayServer(BLOCKS, serve_raw=False, serve_car=False) as plain:
        found = look(plain)
    assert not found.readable
    assert not found.sources[0].trustless


def test_a_source_of_wrong_bytes_is_reported():
    def lie(request, plan):
        if request.query.get("format") == "raw":
            return Plan(headers=plan.headers, body=noise(300, 9))
        return plan

    with GatewayServer(BLOCKS, fault=lie) as liar, GatewayServer(BLOCKS) as honest:
        found = look(liar, honest)
    assert found.sources[0].has_root
    assert not found.sources[0].trustless
    assert found.sources[1].trustless
    assert any("bytes other than" in line for line in found.advice)


def test_a_path_is_resolved_and_a_directory_is_walked():
    root, blocks = tree({"a/b.txt": b"text", "c.bin": FILE})
    with GatewayServer(blocks) as server:
        inner = look(server, url=f"ipfs://{root}/a/b.txt")
        whole = look(server, url=f"ipfs://{root}")
    assert inner.cid != str(root)
    assert inner.readable
    assert whole.sources[0].blocks_checked == len(blocks)
    assert whole.readable


def test_a_server_that_is_down_is_reported():
    options = Options(gateways=("http://127.0.0.1:1",), timeout=2)
    found = diagnose(URL, None, options, blocks=10)
    assert not found.readable
    assert "add gateways=" in found.advice[0]


def test_a_missing_path_is_not_readable(capsys):
    with GatewayServer(BLOCKS) as server:
        assert main(["doctor", f"{URL}/nothing", "--gateway", server.url]) == 1
    assert "cannot be resolved" in capsys.readouterr().out


def test_for_a_cid_that_no_source_has_the_advice_is_to_check_it(tmp_path):
    store = FolderStore(tmp_path / "store")
    store.put_blocks(depth_first(ROOT, BLOCKS))
    found = diagnose(
        f"ipfs://{make_cid(b'other', RAW)}", str(tmp_path / "store"), Options(), blocks=10
    )
    assert not found.readable
    assert "check its CID" in found.advice[0]


@pytest.mark.parametrize(
    "name", ["example.com", "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"]
)
def test_for_a_name_that_a_store_cannot_resolve_the_advice_is_a_node_or_a_cid(tmp_path, name):
    found = diagnose(f"ipns://{name}", str(tmp_path / "store"), Options(), blocks=10)
    assert not found.readable
    assert "give the API address of a node, or use an ipfs:// CID" in found.advice[0]


def test_a_car_file_is_a_source(tmp_path):
    path = tmp_path / "it.car"
    path.write_bytes(car_bytes(ROOT, BLOCKS))
    found = diagnose(URL, str(path), Options(), blocks=100)
    assert found.readable
    assert found.sources[0].name == f"CAR {path}"
    assert not diagnose(
        f"ipfs://{make_cid(b'other', RAW)}", str(path), Options(), blocks=9
    ).readable


@pytest.mark.parametrize("json_too", [False, True])
def test_the_command_prints_the_diagnosis_and_its_status_follows_it(capsys, json_too):
    arguments = ["doctor", URL, "--timeout", "2", *(["--json"] if json_too else [])]
    with GatewayServer(BLOCKS) as server, GatewayServer({}) as empty:
        assert main([*arguments, "--gateway", server.url]) == 0
        printed = capsys.readouterr().out
        assert main([*arguments, "--gateway", empty.url]) == 1
    assert server.url in printed
    if json_too:
        assert json.loads(printed)["sources"][0]["trustless"] is True


@pytest.mark.parametrize("command", ["doctor", "bench"])
def test_without_an_address_the_sources_are_those_of_other_commands(
    command, tmp_path, monkeypatch, capsys
):
    """The store that `publish` writes to, also where the environment names a gateway."""
    store = FolderStore(tmp_path / "store")
    store.put_blocks(depth_first(ROOT, BLOCKS))
    monkeypatch.setenv("IPFS_DATASET_STORE", str(tmp_path / "store"))
    with GatewayServer({}) as empty:
        monkeypatch.setenv("IPFS_GATEWAY", empty.url)
        assert main([command, URL]) == 0
        assert str(tmp_path / "store") in capsys.readouterr().out
        assert main([command, URL, "--gateway", "http://127.0.0.1:1"]) == (command == "bench")


class Late(Transport):
    """A node that searches the network for a block that nobody has."""

    name = "late"

    def get_block(self, cid):
        raise TransportTimeoutError("nothing came in time")


def test_for_a_slow_source_the_advice_is_a_longer_timeout(monkeypatch):
    monkeypatch.setattr(default_registry(), "_registered", [])
    register(
        TransportPlugin(
            name="late", summary="", schemes=("late",), factory=lambda address, options: Late()
        )
    )
    found = diagnose(URL, "late://x", Options(), blocks=10)
    assert not found.readable
    assert "late: it did not deliver the object in time" in found.advice[1]
    assert "--timeout" in found.advice[1]
