"""The block shuffle as a sampler: everything once over ranks and workers, each in blocks of its own."""

from __future__ import annotations

import json
import pickle
import random
import warnings
from collections import Counter
from itertools import chain, groupby
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from ipfs_dataset.ipfs_dataset import BlockShuffleSampler, IPFSIterableDataset
from ipfs_dataset_core import IPFSDatasetWarning, StateError
from ipfs_dataset_core.order.prefetch_hints import read_soon
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
    options.setdefault("lanes", 1)
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
        mine.set_epoch(epoch)
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
        made.set_epoch(0)
        mine = list(made)
        assert len(made) == len(mine)
        seen += mine
    assert sorted(seen) == list(range(50))


def test_the_order_depends_on_seed_and_epoch_only():
    first = sampler(100)
    order = list(first)
    assert list(sampler(100)) == order
    first.set_epoch(0)
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
    mine = sampler(300, batch_size=4, num_workers=workers, lanes=(1, workers))
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
def test_a_worker_gets_prefetch_hints_for_nearly_all_samples_before_it_reads_them(workers):
    lanes = (1, max(1, workers))
    numbers = list(sampler(3000, batch_size=5, num_workers=workers, lanes=lanes))
    # What is told changes nothing about the order; of a subset's numbers nothing is told.
    same = Subset(Placed(3000), range(3000))
    silent = list(
        BlockShuffleSampler(
            same,
            block_bytes=10,
            window_bytes=30,
            batch_size=5,
            num_workers=workers,
            lanes=lanes,
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


def test_no_prefetch_hints_are_given_if_memory_is_too_small():
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
    made = list(BlockShuffleSampler(subset, block_bytes=10, window_bytes=20, lanes=1))
    assert sorted(made) == list(range(len(indices)))
    alone = list(BlockShuffleSampler(subset, block_bytes=10, window_bytes=10, lanes=1))
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


def test_a_dataset_without_blocks_is_refused_with_advice():
    for dataset in (Unknown(), [1, 2], Subset(Unknown(), [1])):
        with pytest.raises(
            TypeError, match="does not define which of its samples are stored together"
        ):
            BlockShuffleSampler(dataset)


def test_a_stream_is_refused_with_how_it_is_shuffled():
    stream = IPFSIterableDataset([])
    for dataset in (stream, Subset(stream, [0])):
        with pytest.raises(TypeError, match=r"read in order.*shuffle_blocks=True.*ShuffleDataset"):
            BlockShuffleSampler(dataset)


def test_numbers_that_differ_from_those_of_the_blocks_are_refused():
    dataset = Placed(10)
    made = BlockShuffleSampler(dataset)
    dataset.count = 20
    dataset.block_stops = lambda size: [10]  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match="Placed has 20 samples, but its block_stops end elsewhere"
    ):
        next(iter(made))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_bytes": 0}, "block_bytes must be at least 1, not 0"),
        ({"window_bytes": -1}, "window_bytes must be at least 1, not -1"),
        ({"block_bytes": "much"}, "'much' is not a size"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, not -1"),
        ({"num_workers": 2}, "num_workers needs batch_size"),
        ({"num_replicas": 2}, "rank=None and num_replicas=2"),
        ({"num_replicas": 2, "rank": 2}, "rank=2 and num_replicas=2"),
        ({"rank": 0}, "both must be given or neither"),
        ({"distribution": "even"}, "distribution must be one of"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BlockShuffleSampler(Placed(10), **options)


WORLDS = [(world, workers) for world in (1, 2, 4) for workers in (0, 1, 2)]


def global_batches(samplers, batch, skipped=0):
    """Returns what all ranks of a job read together, batch by batch."""
    ranks = [list(one) for one in samplers]
    longest = max(map(len, ranks))
    cuts = range(skipped, longest, batch)
    return [[sample for rank in ranks for sample in rank[at : at + batch]] for at in cuts]


def job(count, world, workers, batch, *, state=None, **options):
    """Returns the samplers of all ranks of a job, as each of its processes makes its own."""
    options.setdefault("distribution", "uneven")
    made = [
        BlockShuffleSampler(
            Placed(count, memory=8 << 20),
            **{"block_bytes": 7, "lanes": (2, 2), **options},
            batch_size=batch,
            num_workers=workers,
            num_replicas=world,
            rank=rank,
        )
        for rank in range(world)
    ]
    for one in made:
        if state is not None:
            one.load_state_dict(json.loads(json.dumps(state)))
    return made


@settings(max_examples=40)
@given(st.integers(1, 150), st.integers(0, 3), st.data())
def test_a_job_resumes_with_any_number_of_ranks_and_workers(count, epoch, data):
    (world, workers), (later, more) = (data.draw(st.sampled_from(WORLDS)) for _ in range(2))
    batch = data.draw(st.sampled_from([1, 3, 4]))
    first = job(count, world, workers, batch)
    for one in first:
        one.set_epoch(epoch)
    whole = global_batches(first, batch)
    done = data.draw(st.integers(0, len(whole)))
    state = first[-1].state_dict(batches=done)
    assert all(one.state_dict(batches=done) == state for one in first)
    rest = job(count, later, more, data.draw(st.sampled_from([1, 2, 4])), state=state)
    left = [sample for one in rest for sample in one]
    seen = [sample for each in whole[:done] for sample in each]
    assert sorted(seen + left) == list(range(count))


@settings(max_examples=40)
@given(st.integers(1, 150), st.integers(0, 5), st.booleans())
def test_the_same_global_batch_size_gives_the_same_global_batches(count, done, resumed):
    def batches(world, workers, state=None):
        made = job(count, world, workers, 8 // world, state=state)
        return [sorted(each) for each in global_batches(made, 8 // world)]

    whole = batches(1, 0)
    first = job(count, 2, 1, 4)
    for one in first:
        list(one)
    done = min(done, len(whole)) if resumed else 0
    state = first[0].state_dict(batches=done) if resumed else None
    for world, workers in WORLDS:
        assert batches(world, workers, state) == whole[done:]


@pytest.mark.parametrize("distribution", ["pad", "drop"])
@given(count=st.integers(1, 99), done=st.integers(0, 4), world=st.integers(1, 5))
def test_ranks_get_equally_many_after_a_resume_too(distribution, count, done, world):
    first = job(count, 2, 0, 3)
    state = first[0].state_dict(batches=min(done, count // 6))
    rest = job(count, world, 0, 3, state=state, distribution=distribution)
    assert len({len(one) for one in rest}) == 1
    assert len({len(list(one)) for one in rest}) == 1


def test_a_state_counts_batches_trained_on_and_not_batches_read_ahead_by_workers():
    mine = sampler(100, batch_size=4, num_workers=2)
    mine.set_epoch(3)
    loader = DataLoader(
        Placed(100),
        batch_size=4,
        sampler=mine,
        num_workers=2,
        collate_fn=as_it_is,
        multiprocessing_context="fork",
    )
    trained = [batch for batch, _ in zip(loader, range(7), strict=False)]
    other = sampler(100, batch_size=5, seed=9)
    with pytest.warns(UserWarning, match=r"seed=0 \(here 9\)"):
        other.load_state_dict(mine.state_dict(batches=7))
    left = list(other)
    assert sorted([*left, *(sample for batch in trained for sample in batch)]) == list(range(100))


def test_a_state_resumes_its_epoch_and_the_next_epoch_is_complete():
    mine = sampler(20, batch_size=4)
    mine.set_epoch(5)
    whole = list(mine)
    other = sampler(20, batch_size=4)
    other.load_state_dict(mine.state_dict(batches=3))
    other.set_epoch(5)
    assert len(other) == 8
    assert list(other) == whole[12:]
    other.set_epoch(6)
    assert len(other) == 20
    assert sorted(other) == list(range(20))


def test_a_second_state_counts_from_where_the_first_was_taken():
    mine = sampler(40, batch_size=4)
    whole = list(mine)
    for done in (2, 3, 1):
        state = mine.state_dict(batches=done)
        mine = sampler(40, batch_size=4)
        mine.load_state_dict(state)
        assert mine.state_dict() == state
        left = list(mine)
    assert left == whole[24:]


def test_a_state_of_a_sampler_without_a_batch_size_counts_no_batches():
    with pytest.raises(ValueError, match="give the sampler batch_size"):
        sampler(10).state_dict(batches=1)
    assert sampler(10).state_dict()["position"] == 0


class Named(Placed):
    """Samples whose content is known."""

    def content_id(self):
        return "bafk"


def test_a_state_for_other_data_is_refused():
    subset = Subset(Named(20), range(10))
    state = BlockShuffleSampler(subset).state_dict()
    with pytest.raises(StateError, match="of which"):
        BlockShuffleSampler(Subset(Named(20), range(1, 11))).load_state_dict(state)
    with pytest.raises(StateError, match="unknown data, of which"):
        BlockShuffleSampler(Subset(Placed(20), range(1, 11))).load_state_dict(
            BlockShuffleSampler(Subset(Placed(20), range(10))).state_dict()
        )
    with pytest.raises(StateError, match="of 10 samples, but this one has 20"):
        BlockShuffleSampler(Placed(20)).load_state_dict({**state, "data": ""})


def test_an_iterator_has_a_state_of_its_own_as_torchdata_keeps_it():
    mine = sampler(30, batch_size=3)
    numbers = iter(mine)
    first = [next(numbers) for _ in range(12)]
    with pytest.warns(
        UserWarning, match="the state of its start"
    ):  # torchdata's own has both states
        start = mine.state_dict()
    state = json.loads(json.dumps([start, numbers.state_dict()]))
    other = sampler(30, batch_size=3)
    other.load_state_dict(state[0])
    again = iter(other)
    again.load_state_dict(state[1])
    assert sorted([*first, *again]) == list(range(30))


def test_a_state_in_the_middle_without_the_number_of_batches_is_warned_of():
    mine = sampler(30, batch_size=3)
    state = mine.state_dict()
    loader = DataLoader(Placed(30), 3, sampler=mine)
    for batches, _ in enumerate(loader, 1):
        if batches == 2:
            with pytest.warns(IPFSDatasetWarning, match=r"give state_dict\(batches=…\)") as caught:
                assert mine.state_dict() == state
            assert caught[0].filename == __file__
            assert mine.state_dict(batches=2)["position"] == 6
    mine.state_dict()  # at the end of an epoch


def test_reading_an_epoch_again_in_the_same_order_warns_once():
    mine = sampler(10)
    list(mine)
    with pytest.warns(UserWarning, match="Epoch 0 is read again in the same order: call set_epoch"):
        list(mine)
    list(mine)
    mine.set_epoch(1)
    list(mine)


def composed(draw, depth):
    """Returns a composition of datasets, and the sample of each of its numbers as (dataset, number)."""
    kind = draw(st.sampled_from(["whole", "subset", "concat"])) if depth else "whole"
    if kind == "subset":
        dataset, samples = composed(draw, depth - 1)
        count = len(samples)
        chosen = draw(st.lists(st.integers(-count, count - 1), max_size=60)) if count else []
        return Subset(dataset, chosen), [samples[index] for index in chosen]
    if kind == "concat":
        found = [composed(draw, depth - 1) for _ in range(draw(st.integers(1, 3)))]
        joined: ConcatDataset[Any] = ConcatDataset([dataset for dataset, _ in found])
        return joined, [sample for _, samples in found for sample in samples]
    dataset = Placed(draw(st.integers(0, 50)))
    return dataset, [(dataset, number) for number in range(len(dataset))]


@given(st.data(), st.integers(1, 3), st.integers(1, 2))
def test_subsets_and_concatenations_however_nested_are_read_once_in_blocks(data, depth, world):
    dataset, samples = composed(data.draw, depth)
    seen = []
    for rank in range(world):
        mine = BlockShuffleSampler(
            dataset,
            num_replicas=world,
            rank=rank,
            distribution="uneven",
            block_bytes=10,
            window_bytes=1,
            lanes=1,
        )
        if not isinstance(
            dataset, Placed
        ):  # it hands numbers of its own on, so hints are of no use
            assert all(type(number) is int for number in mine)
        mine.set_epoch(1)
        seen.append(list(mine))
    assert sorted(chain.from_iterable(seen)) == list(range(len(samples)))
    if world == 1:
        lie = [(id(samples[number][0]), samples[number][1] // 10) for number in seen[0]]
        # A block is left before the next is entered.
        assert len(list(groupby(lie))) == len(set(lie))


def test_prefetch_hints_reach_the_parts_of_a_composition():
    class Hinted(Placed):
        def __init__(self, count):
            super().__init__(count)
            self.hints = []

        def prefetch(self, indices):
            self.hints += indices

    parts = [Hinted(40), Hinted(40)]
    dataset: ConcatDataset[Any] = ConcatDataset(
        [parts[0], Subset(Subset(parts[1], range(39, -1, -1)), range(20))]
    )
    sampler = BlockShuffleSampler(dataset, block_bytes=10, window_bytes=10, lanes=1)
    assert sorted(sampler) == list(range(60))
    assert sorted(parts[0].hints) == list(range(40))
    assert sorted(parts[1].hints) == list(range(20, 40))


def test_a_composition_is_identified_by_what_it_is_made_of():
    def data(dataset):
        return BlockShuffleSampler(dataset).state_dict()["data"]

    one = Subset(Named(20), [5, 6, 7])
    assert (
        data(Subset(one, [2, 0])) == data(Subset(Named(20), [7, 5])) == data(Subset(one, [-1, 0]))
    )
    assert data(Subset(one, [2, 0])) != data(Subset(one, [0, 2]))
    assert data(ConcatDataset([Named(20), one])) == f"bafk {data(one)}"
    # What is known of a part counts, whatever is not known of others.
    assert data(ConcatDataset([Named(20), Placed(3)])) == "bafk unknown data"
    assert data(ConcatDataset([Placed(20), Placed(3)])) == ""
    chosen = data(Subset(Placed(20), [1, 2]))
    assert chosen.startswith("unknown data, of which ")
    assert chosen != data(Subset(Placed(20), [2, 1]))
    assert data(Subset(Subset(Placed(20), [1, 2]), [0, 1])) == chosen
    assert data(ConcatDataset([Named(20), Subset(Placed(20), [1, 2])])) == f"bafk {chosen}"


def test_a_subset_of_missing_samples_is_an_error():
    with pytest.raises(IndexError, match="a Subset has the index 9 of a dataset of 3 samples"):
        list(BlockShuffleSampler(Subset(Subset(Placed(20), [1, 2, 3]), [0, 9])))


def test_an_unused_iterator_does_not_start_an_epoch():
    mine = sampler(30, batch_size=3)
    mine.load_state_dict(sampler(30, batch_size=3).state_dict() | {"position": 12})
    unread = iter(mine)
    assert unread.state_dict()["position"] == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(mine)) == 18


@pytest.mark.parametrize("lanes", [0, (1, 0), (0, 2)])
def test_there_is_at_least_one_lane(lanes):
    with pytest.raises(ValueError, match="lanes must be at least 1, not 0"):
        BlockShuffleSampler(Placed(10), lanes=lanes)
