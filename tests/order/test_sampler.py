"""The block shuffle as a sampler: everything once over ranks and workers, each in blocks of its own."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, Subset

from ipfs_dataset.ipfs_dataset import BlockShuffleSampler
from ipfs_dataset_core.order.sampler import read_soon
from tests.support.workers import Placed, as_it_is, with_worker

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

counts = st.integers(0, 120)


def blocks_of(samples, block=10):
    return {sample // block for sample in samples}


def sampler(count, **options):
    options.setdefault("block_bytes", 10)
    options.setdefault("window_bytes", 30)
    return BlockShuffleSampler(Placed(count), **options)


@given(counts, st.integers(1, 6), st.integers(1, 5), st.integers(0, 4), st.integers(0, 3))
def test_ranks_and_workers_read_each_sample_once(count, world, batch, workers, epoch):
    seen = []
    for rank in range(world):
        mine = sampler(
            count,
            num_replicas=world,
            rank=rank,
            distribution="uneven",
            batch_size=batch,
            num_workers=workers,
        )
        mine.set_epoch(epoch)
        found = list(mine)
        assert len(found) == len(mine)
        assert found == list(mine)
        seen += found
    assert sorted(seen) == list(range(count))


@given(st.integers(1, 120), st.integers(1, 7), st.integers(0, 3))
def test_ranks_in_step_get_equally_many(count, world, workers):
    for distribution, expected in ((None, -(-count // world)), ("drop", count // world)):
        shares = [
            list(
                sampler(
                    count,
                    num_replicas=world,
                    rank=rank,
                    distribution=distribution,
                    batch_size=4,
                    num_workers=workers,
                )
            )
            for rank in range(world)
        ]
        assert {len(share) for share in shares} == {expected}
        times = Counter(sample for share in shares for sample in share)
        assert len(times) == (count if distribution is None else expected * world)


@pytest.mark.parametrize("world", [1, 3])
def test_rank_and_world_are_those_of_the_environment_when_it_is_iterated(monkeypatch, world):
    made = sampler(50)
    seen = []
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))
        assert len(made) == len(list(made))
        seen += made
    assert sorted(seen) == list(range(50))


def test_the_order_depends_on_seed_and_epoch_only():
    first = sampler(100)
    order = list(first)
    assert list(sampler(100)) == order
    assert list(pickle.loads(pickle.dumps(first))) == order
    assert list(sampler(100, seed=1)) != order
    first.set_epoch(1)
    assert list(first) != order
    first.set_epoch(0)
    assert list(first) == order


def test_the_global_random_states_are_left_alone():
    random.seed(3)
    state, torch_state = random.getstate(), torch.get_rng_state()
    list(sampler(50))
    assert random.getstate() == state
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_neighbours_in_the_order_are_of_as_many_blocks_as_the_window():
    order = list(sampler(3000, window_bytes=60))
    for start in range(0, 3000, 20):
        assert 3 < len(blocks_of(order[start : start + 20])) <= 6 + 3


@pytest.mark.parametrize(("workers", "method"), [(2, "forkserver"), (3, "fork")])
def test_each_worker_has_blocks_of_its_own(workers, method):
    mine = sampler(300, batch_size=4, num_workers=workers)
    loader = DataLoader(
        Placed(300),
        batch_size=4,
        sampler=mine,
        num_workers=workers,
        collate_fn=with_worker,
        multiprocessing_context=method,
    )
    read: dict[int, set[int]] = {worker: set() for worker in range(workers)}
    seen = []
    for worker, batch in loader:
        read[worker] |= blocks_of(batch)
        seen += batch
    assert sorted(seen) == list(range(300))
    assert sum(map(len, read.values())) <= 30 + 2 * workers


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_worker_is_told_of_nearly_everything_before_it_reads_it(workers):
    numbers = list(sampler(3000, batch_size=5, num_workers=workers))
    # What is told changes nothing about the order; of a subset's numbers nothing is told.
    same = Subset(Placed(3000), range(3000))
    silent = list(
        BlockShuffleSampler(
            same, block_bytes=10, window_bytes=30, batch_size=5, num_workers=workers
        )
    )
    assert numbers == silent
    assert read_soon(silent) == []
    readers = max(1, workers)
    for reader in range(readers):
        mine = [number for at, number in enumerate(numbers) if at // 5 % readers == reader]
        told: set[int] = set()
        untold = 0
        for number in mine:
            untold += number not in told
            told.update(read_soon([number]))
        assert untold <= 5 * 10
        assert told <= set(range(3000))
        assert len(told - set(mine)) <= 5 * 10


def test_nobody_is_told_where_memory_does_not_hold_what_comes():
    assert read_soon(sampler(300, window_bytes=1 << 40, batch_size=5, num_workers=2)) == []


def test_persistent_workers_follow_the_epoch():
    mine = sampler(60, batch_size=5, num_workers=2)
    loader = DataLoader(
        Placed(60),
        batch_size=5,
        sampler=mine,
        num_workers=2,
        collate_fn=as_it_is,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    orders = []
    for epoch in (0, 1, 0):
        mine.set_epoch(epoch)
        orders.append([sample for batch in loader for sample in batch])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == list(range(60))


@settings(max_examples=50)
@given(st.integers(1, 100), st.randoms(use_true_random=False))
def test_a_subset_in_any_order_is_read_block_by_block(count, generator):
    indices = generator.sample(range(count), generator.randint(0, count))
    subset = Subset(Placed(count), indices)
    made = list(BlockShuffleSampler(subset, block_bytes=10, window_bytes=20))
    assert sorted(made) == list(range(len(indices)))
    alone = list(BlockShuffleSampler(subset, block_bytes=10, window_bytes=10))
    runs = [indices[place] // 10 for place in alone]
    assert sum(a != b for a, b in zip(runs, [None, *runs], strict=False)) == len({*runs})


def test_windows_follow_from_the_memory_of_the_dataset():
    small = list(BlockShuffleSampler(Placed(990, memory=80), block_bytes="10"))
    assert all(len(blocks_of(small[at : at + 30])) == 3 for at in range(0, 990, 30))


class Unknown(Dataset[int]):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index


def test_what_does_not_know_its_blocks_is_refused_with_what_to_do():
    for dataset in (Unknown(), [1, 2], Subset(Unknown(), [1])):
        with pytest.raises(TypeError, match="does not say which of its samples lie together"):
            BlockShuffleSampler(dataset)


def test_other_numbers_than_those_of_the_blocks_are_refused():
    dataset = Placed(10)
    made = BlockShuffleSampler(dataset)
    dataset.count = 20
    dataset.block_stops = lambda size: [10]  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match="Placed has 20 samples, and its block_stops end elsewhere"
    ):
        iter(made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_bytes": 0}, "block_bytes is at least 1, not 0"),
        ({"window_bytes": -1}, "window_bytes is at least 1, not -1"),
        ({"block_bytes": "much"}, "'much' is no size"),
        ({"batch_size": 0}, "batch_size is at least 1, not 0"),
        ({"num_workers": -1}, "num_workers is at least 0, not -1"),
        ({"num_workers": 2}, "num_workers needs batch_size"),
        ({"num_replicas": 2}, "rank=None and num_replicas=2"),
        ({"num_replicas": 2, "rank": 2}, "rank=2 and num_replicas=2"),
        ({"rank": 0}, "both are given or neither"),
        ({"distribution": "even"}, "distribution is one of"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BlockShuffleSampler(Placed(10), **options)
