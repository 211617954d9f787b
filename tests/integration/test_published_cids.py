"""A published dataset has the CIDs that a node gives its files, for the same chunker and profile."""

from __future__ import annotations

import pytest
import torch

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset_core import Connections, ObjectDirectory, Options
from ipfs_dataset_core.reading.objects import open_object
from tests.integration.offline_kubo import OfflineKubo

pytestmark = pytest.mark.kubo

SAMPLES = [
    (torch.randn(size, generator=torch.Generator().manual_seed(size)), size)
    for size in (*range(3000, 3400), 900_000, 10, 5, 200_000)
]
FLAGS = {
    "unixfs-v0-2015": ["--cid-version=0"],
    "kubo-cidv1": ["--cid-version=1"],
    "unixfs-v1-2025": ["--cid-version=1", "--raw-leaves", "--max-file-links=1024"],
}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repositories")
    plain = OfflineKubo(folder / "plain")
    newest = OfflineKubo(folder / "newest", "unixfs-v1-2025")
    return {"unixfs-v0-2015": plain, "kubo-cidv1": plain, "unixfs-v1-2025": newest}


@pytest.mark.parametrize("profile", FLAGS)
@pytest.mark.parametrize("chunker", ["buzhash", "size-1048576", "size-262144"])
def test_a_node_adds_the_files_with_the_same_cid(repositories, tmp_path, profile, chunker):
    store = tmp_path / "store"
    exporter = IPFSDatasetExporter(store, profile=profile, chunker=chunker, shard_bytes=4 << 20)
    cid = exporter.export_to_ipfs(SAMPLES)
    directory = open_object(f"ipfs://{cid}", Connections(str(store), Options()))
    assert isinstance(directory, ObjectDirectory)
    for path in directory.walk():
        target = tmp_path / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(directory.open(path).read())
    flags = ["--only-hash", f"--chunker={chunker}", *FLAGS[profile]]
    assert repositories[profile].add(tmp_path / "files", *flags) == cid
