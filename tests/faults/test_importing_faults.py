"""Published datasets to and from sources that fail, cannot prove, or do not have everything."""

from __future__ import annotations

import io
import itertools
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from ipfs_dataset_core.errors import TransportError
from ipfs_dataset_core.ipld import CID, CarReader
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import noise
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan
from tests.support.stores import blocks_in

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = [(noise(30_000, n), n) for n in range(60)]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    cid = IPFSDatasetExporter(str(folder), shard_bytes=600_000).export_to_ipfs(SAMPLES)
    return cid, {cid.multihash: block for cid, block in blocks_in(folder)}


def test_a_gateway_of_plain_bytes_is_refused_by_default_and_read_on_trust_by_name(published):
    cid, blocks = published
    with GatewayServer(blocks, serve_raw=False, serve_car=False) as server:
        address = f"gateway+{server.url}"
        with pytest.raises(TransportError, match="verify=False"):
            IPFSDatasetExporter(address, retries=0).import_from_ipfs(cid)
        dataset = IPFSDatasetExporter(address, verify=False).import_from_ipfs(f"ipfs://{cid}")
        assert [dataset[n] for n in (0, 31, 59)] == [SAMPLES[n] for n in (0, 31, 59)]
        assert list(dataset) == SAMPLES
        dataset.close()


@pytest.fixture
def incomplete(published):
    """All blocks but the largest leaf, and which samples are still whole."""
    cid, blocks = published
    leaf = max(blocks, key=lambda multihash: len(blocks[multihash]))
    with GatewayServer({m: b for m, b in blocks.items() if m != leaf}) as server:
        yield cid, server


def test_missing_samples_raise_an_error_or_are_skipped_and_counted(incomplete):
    cid, server = incomplete
    options: dict[str, Any] = {"retries": 0, "timeout": 5, "max_failures": 1000}
    exporter = IPFSDatasetExporter(f"gateway+{server.url}", **options)
    with pytest.raises(TransportError, match="No source delivered block"):
        list(exporter.import_from_ipfs(cid))

    exporter = IPFSDatasetExporter(f"gateway+{server.url}", handler="skip", **options)
    dataset = exporter.import_from_ipfs(cid)
    found = list(dataset)
    assert 0 < len(found) < len(SAMPLES)
    assert [sample for sample in SAMPLES if sample in found] == found
    assert dataset.skipped == len(SAMPLES) - len(found)
    batch = dataset.__getitems__(range(len(SAMPLES)))
    assert batch == found
    dataset.close()


def test_an_export_succeeds_although_the_node_is_sometimes_busy(tmp_path):
    folder = tmp_path / "store"
    store = FolderStore(folder)
    turns: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)

    def node(request):
        if next(turns[request.path]) % 2 == 0:
            return Plan(status=503, body=b"busy")
        if request.path == "/api/v0/pin/ls":
            return Plan(status=500, body=b'{"Message": "path is not pinned"}')
        if request.path == "/api/v0/dag/import":
            part = request.body.partition(b"\r\n\r\n")[2]
            store.put_blocks(CarReader(io.BytesIO(part[: part.rindex(b"\r\n--")])))
            return Plan(body=b"")
        if request.path == "/api/v0/pin/add":
            store.pin(CID.parse(request.query["arg"]))
            return Plan(body=json.dumps({"Pins": [request.query["arg"]]}).encode())
        return Plan(status=404)

    with FaultServer(node) as server:
        cid = IPFSDatasetExporter(server.url, shard_bytes=600_000).export_to_ipfs(SAMPLES)
        with pytest.raises(TransportError, match="503"):
            # Of each kind of request, every second one fails.
            IPFSDatasetExporter(server.url, retries=0).export_to_ipfs(SAMPLES)
    assert list(IPFSDatasetExporter(str(folder)).import_from_ipfs(cid)) == SAMPLES
