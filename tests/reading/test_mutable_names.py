"""A mutable name is followed once, before workers start, and never again."""

from __future__ import annotations

import itertools
import json
import logging
from typing import Any

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.ipld import CID
from tests.support.builders import one_file, zip_bytes
from tests.support.http_server import FaultServer, Plan

VERSIONS = [
    {f"{n}.txt": f"version {version} {n}".encode() for n in range(20)} for version in (1, 2, 3)
]


class MovingNode(FaultServer):
    """A node's API where a name points somewhere else whenever it is asked."""

    def __init__(self):
        super().__init__(self._answer)
        files = [one_file(zip_bytes(members)) for members in VERSIONS]
        self._blocks = {key: block for _, blocks in files for key, block in blocks.items()}
        self._targets = itertools.cycle([str(root) for root, _ in files])
        self.resolved = 0

    def _answer(self, request):
        if request.path == "/api/v0/resolve":
            self.resolved += 1
            return Plan(body=json.dumps({"Path": f"/ipfs/{next(self._targets)}"}).encode())
        if request.path == "/api/v0/block/get":
            block = self._blocks[CID.parse(request.query["arg"]).multihash]
            return Plan(body=block)
        return Plan(status=404)


@pytest.mark.parametrize("method", ["fork", "forkserver", None])
def test_all_workers_and_epochs_read_what_the_name_pointed_to_first(method, caplog):
    caplog.set_level(logging.INFO, "ipfs_dataset_core.datasets.objects")
    with MovingNode() as node:
        dataset = IPFSIterableDataset(
            IPFSObject("ipns://data.example/", RemoteFileType.ZIP), node.url, timeout=10
        )
        parallel = {"num_workers": 2, "multiprocessing_context": method}
        workers: dict[str, Any] = {} if method is None else parallel
        loader = DataLoader(dataset, batch_size=None, collate_fn=tuple, **workers)
        for _ in range(2):
            assert sorted(loader) == sorted(VERSIONS[0].items())
        assert node.resolved == 1
        dataset.close()
    assert "ipns://data.example/ is bafy" in caplog.text or "is bafk" in caplog.text


def test_a_name_that_cannot_be_followed_is_an_error_where_it_is_read():
    with FaultServer(
        lambda _: Plan(status=500, body=b'{"Message": "could not resolve name"}')
    ) as node:
        dataset = IPFSIterableDataset("ipns://nowhere.example", node.url, retries=0, timeout=5)
        forked: dict[str, Any] = {"num_workers": 1, "multiprocessing_context": "fork"}
        loader = DataLoader(dataset, batch_size=None, collate_fn=tuple, **forked)
        with pytest.raises(OSError, match="could not resolve name"):
            list(loader)
        dataset.close()
