"""webdataset reads the shards of a published dataset, through a gateway and from disk."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from ipfs_dataset import IPFSDatasetExporter
from ipfs_dataset.operations.local_gateway import LocalGateway
from tests.support.cli import run
from tests.support.interop import library

wds = library("webdataset")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def made(count):
    rng = np.random.default_rng(0)
    return [
        {
            "image": Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)),
            "points": rng.random(4),
            "text": f"größe {n}" + "x" * 5000,
            "label": n % 3,
            "weights": torch.arange(n, n + 5),
        }
        for n in range(count)
    ]


def same(found, sample):
    return (
        found["image.png"].tobytes() == sample["image"].tobytes()
        and np.array_equal(found["points.npy"], sample["points"])
        and found["text.txt"] == sample["text"]
        and found["label.cls"] == sample["label"]
        and np.array_equal(found["weights.npy"], sample["weights"].numpy())
    )


@pytest.mark.parametrize("place", ["gateway", "disk"])
def test_shards_with_several_leaves_contain_equal_samples_in_order(tmp_path, place):
    samples = made(60)
    exporter = IPFSDatasetExporter(tmp_path / "store", shard_bytes=200_000)
    dataset = exporter.import_from_ipfs(cid := exporter.export_to_ipfs(samples))
    paths = [f"shards/{number:05d}.tar" for number in range(len(dataset.shards()))]
    assert len(paths) > 1
    with LocalGateway(str(tmp_path / "store"), port=0) as gateway:
        serving = threading.Thread(target=gateway.serve_forever, daemon=True)
        serving.start()
        if place == "gateway":
            urls = [f"{gateway.url}/ipfs/{cid}/{path}" for path in paths]
        else:
            got = run("get", cid, "--raw", "--from", tmp_path / "store", "-o", tmp_path / "raw")
            assert got.status == 0
            urls = [f"pipe:cat {tmp_path / 'raw' / path}" for path in paths]
        found = list(wds.WebDataset(urls, shardshuffle=False).decode("pil"))
        gateway.shutdown()
        serving.join(20)
    assert len({sample["__key__"] for sample in found}) == len(samples)
    assert len(found) == len(samples)
    assert all(map(same, found, samples))


def test_equal_samples_and_samples_with_a_structure_of_their_own_are_samples_each(tmp_path):
    samples = [(b"same", 1), (b"same", 1), (b"a" * 9000, torch.zeros(2)), (b"same", 1)]
    cid = IPFSDatasetExporter(tmp_path / "store").export_to_ipfs(samples)
    got = run("get", cid, "--raw", "--from", tmp_path / "store", "-o", tmp_path / "raw")
    assert got.status == 0
    shard = tmp_path / "raw" / "shards" / "00000.tar"
    found = list(wds.WebDataset(f"pipe:cat {shard}", shardshuffle=False))
    assert len(found) == len(samples)
    assert len({sample["__key__"] for sample in found}) == len(samples)
