"""The declaration of the format: detection, workers, and no heavy imports."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from ipfs_dataset_mat import MatReader
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from tests.support.stores import Store


@pytest.fixture
def published(tmp_path, write_v73):
    store = Store(tmp_path / "store")
    rows = np.arange(40.0).reshape(2, 20)
    return store.file(write_v73({"rows": rows}, chunks=(3, 2), compression="gzip")), store.address


@pytest.mark.parametrize("filetype", ["mat", None])
def test_a_file_is_read_by_the_name_of_the_format_and_by_its_first_bytes(published, filetype):
    cid, address = published
    dataset = IPFSDataset(IPFSObject(cid, filetype), address)
    assert dataset[0][1]["rows"].shape == (2, 20)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_workers_share_the_rows_of_a_file(published, kind, workers):
    cid, address = published
    dataset = kind(IPFSObject(cid, MatReader(sample_axis="last")), address)
    found = [name for name, _ in DataLoader(dataset, batch_size=None, num_workers=workers)]
    assert sorted(found) == sorted(f"{cid}:{number}" for number in range(20))


def test_the_declaration_imports_neither_scipy_nor_h5py():
    program = """
import sys
from ipfs_dataset_mat import ipfs_dataset_readers
assert ipfs_dataset_readers()[0].name == "mat"
print(sorted({"scipy", "h5py", "numpy", "torch"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
