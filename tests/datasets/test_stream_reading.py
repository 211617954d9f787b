"""One warning where readers take turns so often that each fetches most of the blocks; none elsewhere."""

from __future__ import annotations

import re
import warnings

import pytest

from ipfs_dataset_core.datasets import stream_reading
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.errors import IPFSDatasetWarning
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.jobs import as_reader
from tests.support.stores import SMALL_LEAVES, Store

# Four leaves of 256 KiB, 20 samples in each.
MEMBERS = {f"{number:02}": noise(12_500, seed=number) for number in range(80)}


@pytest.fixture(autouse=True)
def _any_size_matters(monkeypatch):
    monkeypatch.setattr(stream_reading, "_MANY_BYTES", 1)


@pytest.fixture
def archive(tmp_path):
    store = Store(tmp_path / "store")
    return store.file(zip_bytes(MEMBERS, 0), SMALL_LEAVES), store.address


def told(dataset, *, worker=None, workers=0, rank=0, world=1):
    """Returns what a reader is warned of that reads an epoch."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with as_reader(rank, world, worker, workers):
            assert list(dataset)
    return [str(one.message) for one in caught if one.category is IPFSDatasetWarning]


@pytest.mark.parametrize(
    ("batch", "reader", "advice"),
    [
        (5, {"worker": 0, "workers": 8}, r"about 5 of them .*lanes=\(1, 8\)"),
        (5, {"worker": 0, "workers": 2}, "about 2 of them"),
        (20, {"rank": 0, "world": 4}, r"lanes=\(4, 1\)"),
    ],
)
def test_readers_that_share_blocks_are_warned_once(archive, batch, reader, advice):
    dataset = IPFSIterableDataset(*archive, batch_size=batch, distribution="uneven")
    [warning] = told(dataset, **reader)
    assert warning.startswith(f"{reader.get('workers') or reader['world']} readers take turns in")
    assert re.search(advice, warning)
    assert told(dataset, **reader) == []


@pytest.mark.parametrize(
    ("options", "reader"),
    [
        ({"batch_size": 5}, {}),
        ({"batch_size": 40}, {"worker": 0, "workers": 2}),
        ({"batch_size": 5}, {"worker": 1, "workers": 2}),
        ({"batch_size": 5}, {"rank": 1, "world": 2}),
        ({}, {"worker": 0, "workers": 2}),
        ({"batch_size": 5, "lanes": (1, 2)}, {"worker": 0, "workers": 2}),
        ({"batch_size": 5, "shuffle_blocks": True}, {"worker": 0, "workers": 2}),
        ({"batch_size": 5, "split": "none"}, {"worker": 0, "workers": 2}),
    ],
)
def test_readers_that_do_not_share_blocks_are_not_warned(archive, options, reader):
    assert told(IPFSIterableDataset(*archive, distribution="uneven", **options), **reader) == []


def test_small_data_cause_no_warning(archive, monkeypatch):
    monkeypatch.setattr(stream_reading, "_MANY_BYTES", 64 << 20)
    dataset = IPFSIterableDataset(*archive, batch_size=5)
    assert told(dataset, worker=0, workers=2) == []


def test_the_warning_makes_no_index(tmp_path):
    store = Store(tmp_path / "store")
    cid = store.file(tar_bytes(MEMBERS), SMALL_LEAVES)
    dataset = IPFSIterableDataset(cid, store.address, batch_size=5)
    assert told(dataset, worker=0, workers=2) == []


def test_a_memory_in_which_blocks_do_not_stay_is_warned_of_once(tmp_path):
    store = Store(tmp_path / "store")
    archive = store.file(zip_bytes(MEMBERS, 0))

    def made(memory="128K", **options):
        return IPFSIterableDataset(archive, store.address, memory=memory, **options)

    shuffled = made(shuffle_blocks=True)
    [warning] = told(shuffled)
    assert re.search(r"fetched about \d+ times in an epoch: .* memory='\d+M'", warning)
    assert told(shuffled) == []
    assert told(made(shuffle_blocks=True), worker=1, workers=2) == []
    assert told(made("64M", shuffle_blocks=True)) == []
    assert told(made()) == []
