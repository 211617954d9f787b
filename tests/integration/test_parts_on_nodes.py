"""Parts exported to real Kubo nodes, each to one of its own, and put together on another."""

from __future__ import annotations

import pytest
import torch

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset_core.ipld import CID
from tests.support.equality import same
from tests.support.kubo import KuboNode

pytestmark = pytest.mark.kubo

SAMPLES = [(torch.full((50_000,), float(n)), n) for n in range(12)]


def test_shards_stay_where_they_are_and_survive_garbage_collection(kubo, tmp_path):
    with KuboNode(tmp_path / "second") as second:
        parts = [
            IPFSDatasetExporter(node.api, shard_bytes=700_000).export_part(samples, part=number)
            for number, (node, samples) in enumerate(
                [(kubo, SAMPLES[:5]), (second, SAMPLES[5:9]), (kubo, SAMPLES[9:])]
            )
        ]
        root = IPFSDatasetExporter(second.api)
        for _ in range(2):
            cid = root.assemble(parts, pin="direct")
            assert root.uploaded.bytes < 100_000
        pins = second.cli("pin", "ls", "--type=direct", "-q").decode().split()
        assert str(CID.parse(cid)) in pins
        for node in (kubo, second):
            node.cli("repo", "gc")
        both = IPFSDatasetExporter(gateways=[kubo.gateway, second.gateway])
        imported = both.import_from_ipfs(f"ipfs://{cid}")
        assert same(list(imported), SAMPLES)
        # What is pinned as a whole already is not pinned again by itself.
        alone = [{**parts[1], "part": 0}]
        assert root.assemble(alone) == root.assemble(alone, pin="direct")
