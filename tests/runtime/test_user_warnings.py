"""Warnings name the line of the user's code, not one of this library or of PyTorch."""

from __future__ import annotations

import concurrent.futures.thread
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset import BlockShuffleSampler, IPFSDataset, IPFSDatasetExporter
from ipfs_dataset_core import IPFSDatasetWarning
from ipfs_dataset_core.runtime.user_warnings import warn_user
from tests.support.builders import zip_bytes
from tests.support.stores import Store, members


def test_a_warning_below_a_loader_is_at_the_line_that_iterates_it(tmp_path):
    store = Store(tmp_path)
    dataset = IPFSDataset(store.file(zip_bytes(members(4))), store.address)
    loader = DataLoader(dataset, 2, sampler=BlockShuffleSampler(dataset))
    assert len(list(loader)) == 2
    with pytest.warns(IPFSDatasetWarning, match="is read again") as caught:
        list(loader)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_warning_deep_in_this_library_is_at_the_line_that_calls_it(tmp_path):
    cid = IPFSDatasetExporter(tmp_path / "store").export_to_ipfs([1, 2])
    dataset = IPFSDataset(cid, tmp_path / "store")
    with pytest.warns(UserWarning, match="is a published dataset") as caught:
        assert dataset[0]
    assert [warning.filename for warning in caught] == [__file__]


def test_a_warning_in_a_thread_of_its_own_has_a_line_too():
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.warns(IPFSDatasetWarning, match="late") as caught,
    ):
        pool.submit(warn_user, "late", IPFSDatasetWarning).result()
    assert caught[0].filename == concurrent.futures.thread.__file__
