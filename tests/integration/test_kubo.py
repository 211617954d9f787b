"""A real Kubo node: what no server of our own can stand in for."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from ipfs_dataset.ipfs_dataset import IPFSDataset
from ipfs_dataset_core import CID, FormatError, ObjectNotFoundError, Options, TransportError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_plugins.api.transport import ApiTransport
from ipfs_dataset_plugins.store import CarStore, CarWriter
from tests.support.builders import depth_first, noise, one_file, tree
from tests.support.fetching import fetching, gateway, read_all
from tests.support.kubo import KuboNode

pytestmark = pytest.mark.kubo

DATA = noise(9_000_000)


def api(address, **options):
    return ApiTransport(address, Options(timeout=options.pop("timeout", 10), **options))


@pytest.fixture
def unix():
    """A short folder: the path of a socket has a limit."""
    folder = Path(tempfile.mkdtemp(prefix="ipfs-"))
    yield folder
    shutil.rmtree(folder)


ADD = [(), ("--cid-version=1",), ("--trickle",), ("--chunker=rabin",), ("--raw-leaves", "--inline")]


@pytest.mark.parametrize("options", ADD, ids=" ".join)
@pytest.mark.parametrize("size", [0, 20, 9_000_000])
def test_files_that_kubo_added_are_read_through_api_and_gateway(kubo, options, size):
    cid = CID.parse(kubo.add(DATA[:size], *options))
    for transport in (api(kubo.api), gateway(kubo.gateway)):
        assert read_all(cid, transport, piece=1 << 20) == DATA[:size]


def test_the_gateway_serves_runs_by_host_name_too(kubo):
    cid = CID.parse(kubo.add(DATA))
    port = kubo.gateway.rpartition(":")[2]
    for url in (f"http://*.ipfs.localhost:{port}", f"http://localhost:{port}"):
        transport = gateway(url)
        assert transport.get_block(cid)
        assert transport.path_size(f"/ipfs/{cid}") == len(DATA)
        assert read_all(cid, transport, piece=1 << 20) == DATA
        assert transport.serves_ranges


def test_cars_of_ranges_are_walked(kubo):
    cid = CID.parse(kubo.add(DATA))
    transport = gateway(kubo.gateway, timeout=60)
    transport.serves_ranges = False
    with fetching(transport) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        file.prefetch([(1_000_000, 8_000_000)])
        assert file.read_at(1_000_000, 7_000_000) == DATA[1_000_000:8_000_000]
        assert transport.serves_cars


def test_directories_have_no_size_and_paths_are_encoded(kubo, tmp_path):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "a %2F?#ü.txt").write_bytes(b"odd")
    root = kubo.add(tmp_path / "d")
    transport = gateway(kubo.gateway)
    assert transport.path_size(f"/ipfs/{root}") is None
    assert transport.path_size(f"/ipfs/{root}/sub") is None
    assert transport.path_size(f"/ipfs/{root}/a %2F?#ü.txt") == 3
    with pytest.raises(ObjectNotFoundError):
        transport.path_size(f"/ipfs/{root}/nope")
    transport.close()


@pytest.mark.parametrize("codec", ["dag-cbor", "dag-json"])
def test_a_path_through_data_to_a_file_is_resolved_as_by_ipfs_cat(kubo, tmp_path, codec):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file.txt").write_bytes(b"found")
    folder = kubo.add(tmp_path / "d", "--cid-version=1")
    value: object = {"/": folder}
    for keys in (["a", 0, "b"], ["c"]):
        for key in reversed(keys):
            value = [value, 1.5, None] if key == 0 else {key: value, "n": -1}
        (tmp_path / "value.json").write_text(json.dumps(value))
        put = ["dag", "put", f"--store-codec={codec}", str(tmp_path / "value.json")]
        root = kubo.cli(*put).decode().strip()
        value = {"/": root}
    path = f"{root}/c/a/0/b/file.txt"
    assert kubo.cli("cat", f"/ipfs/{path}") == b"found"
    for where in ({"ipfs_api_address": kubo.api}, {"gateways": kubo.gateway}):
        dataset = IPFSDataset(f"ipfs://{path}", **where)
        assert [data for _, data in dataset[:]] == [b"found"]
        with pytest.raises(ObjectNotFoundError, match="no entry named 'x'"):
            len(IPFSDataset(f"ipfs://{root}/c/x", **where))
        with pytest.raises(FormatError, match=f"is {codec}, not a file"):
            len(IPFSDataset(f"ipfs://{root}", **where))


def test_a_gateway_for_blocks_only_is_read_by_cars_and_blocks(tmp_path):
    with KuboNode(tmp_path / "repo", {"Gateway.DeserializedResponses": False}) as node:
        cid = CID.parse(node.add(DATA))
        transport = gateway(node.gateway, timeout=60)
        assert read_all(cid, transport, piece=1 << 20) == DATA
        assert not transport.serves_ranges
        assert transport.serves_cars


def test_published_blocks_are_whole_and_pinned(kubo):
    root, blocks = tree({"a.txt": b"a", "sub/b.bin": DATA})
    transport = api(kubo.api)
    transport.put_blocks(depth_first(root, blocks))
    transport.pin(root)
    transport.close()
    assert kubo.cli("cat", f"{root}/sub/b.bin") == DATA
    assert str(root) in kubo.cli("pin", "ls", "--type=recursive").decode()


def test_an_incomplete_dag_is_not_pinned(kubo):
    root, blocks = one_file(noise(5 << 20, seed=99))
    transport = api(kubo.api)
    transport.put_blocks(list(depth_first(root, blocks))[:-1])
    with pytest.raises(TransportError, match="not found locally"):
        transport.pin(root)
    with pytest.raises(ObjectNotFoundError):
        transport.get_block(make_cid(b"nobody has this", RAW))
    transport.close()


def test_a_missing_leaf_is_a_typed_error_in_every_way_of_reading(kubo):
    cid = CID.parse(kubo.add(noise(9_000_000, seed=7), "--cid-version=1", "--pin=false"))
    transport = api(kubo.api)
    leaf = [found for found, _ in transport.read_car(cid) if found.codec == RAW][20]
    kubo.cli("block", "rm", str(leaf))
    stream = transport.open_range(cid, 0, 9_000_000)
    with pytest.raises(TransportError, match=r"failed during the transfer|before its end"):
        stream.read(9_000_000)
    stream.close()
    with pytest.raises(TransportError, match="failed during the transfer"):
        list(transport.read_car(cid))
    transport.close()
    for source in (api(kubo.api), gateway(kubo.gateway)):
        with pytest.raises(TransportError, match=str(leaf)):
            read_all(cid, source, piece=1 << 20)


def test_names_resolve_to_the_published_cid(kubo):
    root = kubo.add(b"named", "--cid-version=1")
    kubo.cli("name", "publish", "--allow-offline", f"/ipfs/{root}")
    name = kubo.cli("key", "list", "-l").split()[0].decode()
    transport = api(kubo.api)
    assert transport.resolve_name(name) == f"/ipfs/{root}"
    unknown = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r"
    with pytest.raises(TransportError, match=unknown):
        transport.resolve_name(unknown)
    transport.close()


AUTHORIZED = {
    "API.Authorizations": {
        "reader": {"AuthSecret": "bearer:t0ken", "AllowedPaths": ["/api/v0"]},
        "guest": {"AuthSecret": "basic:guest:pa55", "AllowedPaths": ["/api/v0/block/get"]},
    }
}


def test_credentials_open_the_api_over_tcp_and_a_socket(tmp_path, unix):
    root, blocks = one_file(DATA)
    several = list(depth_first(root, blocks)) * 3
    config = {
        **AUTHORIZED,
        "Addresses.API": ["/ip4/127.0.0.1/tcp/0", f"/unix{unix}/api"],
    }
    with KuboNode(tmp_path / "repo", config) as node:
        for address in (node.api, f"/unix{unix}/api"):
            allowed = api(address, auth="bearer:t0ken")
            allowed.put_blocks(several)
            allowed.pin(root)
            assert read_all(root, allowed) == DATA
            guest = api(address, auth="basic:guest:pa55")
            assert guest.get_block(root) == blocks[root.multihash]
            for refused in (api(address), api(address, auth="bearer:wr0ng"), guest):
                with pytest.raises(TransportError, match="check auth=") as caught:
                    refused.pin(root)
                with pytest.raises(TransportError, match="check auth="):
                    refused.put_blocks(several)
                assert "wr0ng" not in str(caught.value)
                refused.close()


def test_a_car_that_was_written_is_imported_by_kubo_and_the_other_way_round(kubo, tmp_path):
    root, blocks = tree({"x/y.bin": DATA, "z": b""})
    writer = CarWriter(tmp_path / "out.car")
    writer.put_blocks(depth_first(root, blocks))
    writer.pin(root)
    assert str(root) in kubo.cli("dag", "import", str(tmp_path / "out.car")).decode()
    assert kubo.cli("cat", f"{root}/x/y.bin") == DATA
    (tmp_path / "kubo.car").write_bytes(kubo.cli("dag", "export", "--progress=false", str(root)))
    store = CarStore(tmp_path / "kubo.car")
    assert store.get_block(root) == blocks[root.multihash]
    store.close()
