"""Shuffling through a buffer: a permutation, by seed and epoch, of either kind of dataset."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
)

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject
from ipfs_dataset_core.datasets.shuffle import ShuffleDataset, shuffled
from ipfs_dataset_core.datasets.shuffle_source import MapStyleByNumber
from ipfs_dataset_core.order.dataset_blocks import blocks_of
from ipfs_dataset_core.order.shuffled_blocks import keyed_random
from tests.support.builders import zip_bytes
from tests.support.places import StorePlace
from tests.support.stores import members
from tests.support.workers import Placed

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Stream(IterableDataset[int]):
    def __init__(self, count):
        self.count = count
        self.epoch = None

    def __iter__(self):
        return iter(range(self.count))

    def set_epoch(self, epoch):
        self.epoch = epoch


class Numbers(Dataset[int]):
    """A map-style dataset."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return range(self.count)[index]


@given(st.integers(0, 100), st.integers(1, 120), st.integers())
def test_the_order_is_a_permutation_that_depends_on_the_key_alone(count, size, seed):
    found = list(shuffled(range(count), size, keyed_random(seed)))
    assert sorted(found) == list(range(count))
    assert found == list(shuffled(range(count), size, keyed_random(seed)))


@given(st.integers(0, 60), st.integers(1, 80))
def test_a_sample_comes_early_by_less_than_the_buffer(count, size):
    for position, sample in enumerate(shuffled(range(count), size, keyed_random(1))):
        assert sample - position <= size


def test_no_more_samples_are_held_than_the_buffer_allows():
    taken = 0

    def source():
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    for given_out, _ in enumerate(shuffled(source(), 10, keyed_random(1))):
        assert taken - given_out <= 11


def test_a_buffer_of_one_changes_nothing():
    assert list(ShuffleDataset(Stream(20), 1)) == list(range(20))


def test_every_order_of_a_small_dataset_is_about_as_likely_as_another():
    orders = Counter(tuple(shuffled(range(3), 3, keyed_random(seed))) for seed in range(3000))
    assert len(orders) == 6
    assert all(400 < times < 600 for times in orders.values())


@pytest.mark.parametrize("dataset", [Stream(50), Numbers(50)], ids=["iterable", "map-style"])
@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_map_style_and_iterable_datasets_are_permuted_whole(dataset, size):
    found = list(ShuffleDataset(dataset, size))
    assert sorted(found) == list(range(50))
    assert (found == list(range(50))) == (size == 1)


def test_the_order_depends_on_seed_and_epoch_only():
    first = ShuffleDataset(Stream(50), 50)
    order = list(first)
    first.set_epoch(0)
    assert list(first) == order
    assert list(ShuffleDataset(Stream(50), 50)) == order
    assert list(ShuffleDataset(Stream(50), 50, seed=1)) != order
    first.set_epoch(1)
    assert list(first) != order
    first.set_epoch(0)
    assert list(first) == order


def test_the_buffer_keeps_the_requested_size():
    below = Stream(5)
    dataset = ShuffleDataset(below, 1000)
    assert sorted(dataset) == sorted(dataset) == list(range(5))
    below.count = 500
    assert max(n - at for at, n in enumerate(dataset)) > 100


def test_the_epoch_is_passed_to_the_shuffled_dataset():
    below = Stream(3)
    ShuffleDataset(ShuffleDataset(below)).set_epoch(4)
    assert below.epoch == 4
    ShuffleDataset(Numbers(2)).set_epoch(4)


def test_the_global_random_state_is_left_alone():
    random.seed(3)
    state = random.getstate()
    list(ShuffleDataset(Stream(50), 10))
    assert random.getstate() == state


def test_the_length_is_that_of_the_shuffled_dataset_if_it_has_one():
    assert len(ShuffleDataset(Numbers(3))) == 3
    with pytest.raises(TypeError):
        len(ShuffleDataset(Stream(3)))


@pytest.mark.parametrize("size", [0, -1])
def test_a_buffer_holds_at_least_one(size):
    with pytest.raises(ValueError, match="at least 1"):
        ShuffleDataset(Numbers(1), size)


def test_workers_divide_a_map_style_dataset():
    dataset = ShuffleDataset(Numbers(23), 10)
    loader = DataLoader(dataset, batch_size=None, num_workers=3, multiprocessing_context="fork")
    assert sorted(loader) == list(range(23))
    assert len(loader) == 23


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_divide_a_map_style_dataset(monkeypatch, world):
    seen = []
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))
        dataset = ShuffleDataset(Numbers(23), 10)
        found = list(dataset)
        assert len(dataset) == len(found)
        seen += found
    assert sorted(seen) == list(range(23))


class Closed(Numbers):
    closed = 0

    def close(self):
        self.closed += 1


def test_close_and_set_epoch_reach_datasets_inside_those_of_torch():
    parts = [Closed(3), Closed(4)]
    shuffled_parts = ShuffleDataset(
        ConcatDataset([parts[0], Subset(Subset(parts[1], [1, 2]), [0])])
    )
    assert len(list(shuffled_parts)) == 4
    shuffled_parts.close()
    assert [part.closed for part in parts] == [1, 1]
    streams = [Stream(3), Stream(4)]
    ShuffleDataset(ChainDataset(streams)).set_epoch(5)
    assert [stream.epoch for stream in streams] == [5, 5]
    ShuffleDataset(Numbers(3)).close()  # which has nothing to close
    ShuffleDataset(ChainDataset(iter([]))).set_epoch(1)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_two_hundred_datasets_opened_and_closed_leave_nothing(tmp_path):
    with StorePlace(tmp_path / "store") as place:
        cid = place.file(zip_bytes(members(40)))
        url = f"{place.gateway}/ipfs/{cid}"
        kinds: list[Any] = [
            lambda: IPFSDataset(url),
            lambda: IPFSIterableDataset(url, shuffle_blocks=True),
            lambda: ShuffleDataset(IPFSDataset(url), 5),
            lambda: ShuffleDataset(IPFSIterableDataset(url), 5),
            lambda: ShuffleDataset(Subset(ConcatDataset([IPFSDataset(url)]), range(20)), 5),
        ]

        def open_and_close(count):
            for number in range(count):
                dataset = kinds[number % len(kinds)]()
                next(iter(dataset))
                dataset.close()
            gc.collect()
            return len(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))

        def left():
            # Servers end a connection's thread a little after the client has closed it.
            deadline = time.monotonic() + 20
            while (found := open_and_close(5)) > before and time.monotonic() < deadline:
                time.sleep(0.2)
            return found

        before = open_and_close(10)
        open_and_close(200)
        threads, files = left()
    assert threads <= before[0] + 2
    assert files <= before[1] + 4


def test_blocks_have_the_size_that_is_given():
    dataset = Placed(100)
    source = MapStyleByNumber(dataset, blocks_of(dataset))
    assert list(source.block_stops(30)) == [30, 60, 90, 100]
    assert list(source.block_stops(50)) == [50, 100]
    assert list(source.block_stops(source.block)) == [100]


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("ipfs://CID", "not a str. Give the dataset that reads it"),
        (b"bytes", "not a bytes. Give the dataset that reads it"),
        (IPFSObject("ipfs://CID"), "not a IPFSObject. Give the dataset that reads it"),
        (7, "not a int$"),
        (iter([1]), "not a list_iterator$"),
        (IPFSDataset, r"This is a class: give a dataset, IPFSDataset\(…\)"),
        (DataLoader(range(3)), "loader.dataset"),  # type: ignore[arg-type]
        ({"train": [1, 2]}, "one of the datasets in it"),
        ([IPFSIterableDataset([])], "ConcatDataset, ChainDataset or"),
    ],
)
def test_anything_but_a_dataset_is_refused_with_advice(dataset, words):
    with pytest.raises(TypeError, match=f"a ShuffleDataset takes a stream.*{words}"):
        ShuffleDataset(dataset)


def test_lists_ranges_and_numbered_dicts_are_datasets():
    for dataset in ([], [5, 6], range(2), {0: "a", 1: "b"}, torch.arange(2)):
        assert len(list(ShuffleDataset(dataset))) == len(dataset)  # type: ignore[arg-type]
