"""A store in a real Kubo node, read from its API and its gateway. Chunks that the node lost raise errors."""

from __future__ import annotations

import numpy as np
import pytest

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import TransportError
from tests.support.builders import noise
from tests.support.kubo import KuboNode, why_no_kubo

pytestmark = [
    pytest.mark.kubo,
    pytest.mark.skipif(why_no_kubo() is not None, reason=str(why_no_kubo())),
]

FIELD = np.frombuffer(noise(30 * 200 * 150), "u1").reshape(30, 200, 150)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with KuboNode(tmp_path_factory.mktemp("kubo") / "repo") as node:
        yield node


@pytest.fixture
def add(node, tmp_path):
    """Publishes files as a folder."""

    def add(files):
        for name, data in files.items():
            path = tmp_path / "store.zarr" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return node.add(tmp_path / "store.zarr", "--hidden", "--cid-version=1", "--pin=false")

    return add


@pytest.fixture(params=["api", "gateway"])
def sources(request, node):
    if request.param == "api":
        return {"ipfs_api_address": node.api, "retries": 0}
    return {"gateways": [node.gateway], "retries": 0}


@pytest.mark.parametrize("options", [{"zarr_format": 2}, {}, {"shards": (10, 200, 150)}], ids=str)
def test_samples_are_read_in_order_and_by_number(add, array, sources, options):
    files = array(FIELD, chunks=(1, 100, 150), fill_value=7, **options)
    obj = IPFSObject(f"ipfs://{add(files)}", "zarr")
    by_number, in_order = IPFSDataset(obj, **sources), IPFSIterableDataset(obj, **sources)
    batch = [29, 0, 15]
    assert np.array_equal([row for _, row in by_number.__getitems__(batch)], FIELD[batch])
    assert np.array_equal([row for _, row in in_order], FIELD)
    by_number.close()
    in_order.close()


def test_an_absent_chunk_is_filled_and_one_that_the_node_lost_raises_an_error(
    node, add, array, sources
):
    files = array(FIELD, chunks=(1, 200, 150), fill_value=7, compressors=None)
    del files["c/3/0/0"]
    root = add(files)
    lost = node.cli("resolve", f"/ipfs/{root}/c/5/0/0").decode().strip().removeprefix("/ipfs/")
    node.cli("block", "rm", "--force", lost)
    dataset = IPFSDataset(IPFSObject(f"ipfs://{root}", "zarr"), timeout=5, **sources)
    assert np.all(dataset[3][1] == 7)
    assert np.array_equal(dataset[4][1], FIELD[4])
    with pytest.raises(TransportError, match=lost):
        dataset[5]
    dataset.close()
