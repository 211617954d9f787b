"""Libraries that share samples out are noticed by what stands on the stack, and by nothing else."""

from __future__ import annotations

import sys
from itertools import chain
from types import ModuleType

import pytest
from torch.utils.data import DataLoader, IterableDataset

from ipfs_dataset import BlockShuffleSampler, ShuffleDataset
from ipfs_dataset_core.order.outer_sharding import OuterSharding, outer_sharding
from ipfs_dataset_core.order.reader_rank import Job, current_job
from tests.support.workers import Placed, as_it_is

LOADERS = """
class Iterated:
    split_batches = False

    def __init__(self, read, split_batches=False):
        self.read = read
        self.split_batches = split_batches

    def __iter__(self):
        yield from self.read()

    def __len__(self):
        return len(self.read())

class DataLoaderShard(Iterated): pass
class DataLoaderDispatcher(Iterated): pass
class BatchSamplerShard(Iterated): pass
class IterableDatasetShard(Iterated): pass
class SkipDataLoader(Iterated): pass
"""
STREAMS = """
class IterableDataset:
    def __init__(self, read, distributed=None):
        self.read = read
        self._distributed = distributed

    def __iter__(self):
        yield from self.read()
"""
BUILDERS = """
class DatasetBuilder:
    def __init__(self, read):
        self.read = read

    def __iter__(self):
        yield from self.read()
"""


@pytest.fixture
def module(monkeypatch):
    """Makes modules with the classes of other libraries."""

    def make(name, source):
        made = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, made)
        exec(source, made.__dict__)
        return made

    return make


def noticed():
    yield outer_sharding()


@pytest.mark.parametrize("name", ["DataLoaderShard", "BatchSamplerShard", "IterableDatasetShard"])
def test_accelerate_distributes_samples_to_ranks(module, name):
    loaders = module("accelerate.data_loader", LOADERS)
    assert list(getattr(loaders, name)(noticed)) == [OuterSharding(ranks=True)]


def test_accelerate_distributes_batches_of_the_main_process_and_slices_of_batches(module):
    loaders = module("accelerate.data_loader", LOADERS)
    assert list(loaders.DataLoaderDispatcher(noticed)) == [
        OuterSharding(ranks=True, dispatched=True)
    ]
    sharded = loaders.BatchSamplerShard(noticed, split_batches=True)
    assert list(loaders.DataLoaderShard(lambda: sharded)) == [
        OuterSharding(ranks=True, split_batches=True)
    ]


def test_parts_of_accelerate_that_do_not_distribute_have_no_effect(module):
    loaders = module("accelerate.data_loader", LOADERS)
    assert list(loaders.SkipDataLoader(noticed)) == [OuterSharding()]
    assert outer_sharding() == OuterSharding()


@pytest.mark.parametrize("distributed", [None, "rank 1 of 2"])
def test_hugging_face_distributes_samples_to_workers_and_if_requested_to_ranks(module, distributed):
    streams = module("datasets.iterable_dataset", STREAMS)
    ranks = distributed is not None
    assert list(streams.IterableDataset(noticed, distributed)) == [
        OuterSharding(ranks=ranks, workers=True)
    ]


def test_files_that_hugging_face_writes_have_all_samples(module):
    builders = module("datasets.builder", BUILDERS)
    assert list(builders.DatasetBuilder(noticed)) == [OuterSharding(ranks=True, workers=True)]


def test_a_package_of_the_user_with_the_same_name_is_ignored(module):
    mine = module("datasets.iterable_dataset", STREAMS.replace("IterableDataset", "Mine"))
    assert list(mine.Mine(noticed)) == [OuterSharding()]


def test_a_job_has_one_rank_if_another_library_distributes_samples(module):
    loaders = module("accelerate.data_loader", LOADERS)
    environment = {"RANK": "1", "WORLD_SIZE": "2"}

    def job():
        yield current_job(environment=environment)

    assert next(job()) == Job(1, 2)
    assert list(loaders.DataLoaderShard(job)) == [Job()]
    assert current_job(environment=environment, split="workers") == Job()
    assert current_job(environment=environment, split="none") == Job()


@pytest.mark.parametrize(("batch", "world"), [(3, 2), (4, 3), (1, 4)])
def test_batches_in_turns_are_equal_to_those_of_separate_ranks(module, batch, world):
    loaders = module("accelerate.data_loader", LOADERS)

    def sampler(rank):
        return BlockShuffleSampler(
            Placed(48),
            batch_size=batch,
            num_replicas=world,
            rank=rank,
            block_bytes=5,
            window_bytes=20,
        )

    every = list(loaders.BatchSamplerShard(lambda: sampler(0)))
    assert len(loaders.BatchSamplerShard(lambda: sampler(0))) == 48
    batches = [every[first : first + batch] for first in range(0, 48, batch)]
    for rank in range(world):
        assert list(chain.from_iterable(batches[rank::world])) == list(sampler(rank))


def test_resuming_in_a_prepared_loader_reads_the_rest(module):
    loaders = module("accelerate.data_loader", LOADERS)
    first = BlockShuffleSampler(Placed(48), batch_size=4, num_replicas=2, rank=0, block_bytes=5)
    every = list(loaders.BatchSamplerShard(lambda: first))
    state = first.state_dict(batches=2)
    rest = BlockShuffleSampler(Placed(48), batch_size=2, num_replicas=4, rank=0, block_bytes=5)
    rest.load_state_dict(state)
    assert sorted(every[:16] + list(loaders.BatchSamplerShard(lambda: rest))) == list(range(48))
    # Slices of batches: two of them are eight samples, not sixteen.
    sliced = BlockShuffleSampler(Placed(48), batch_size=4, num_replicas=2, rank=0, block_bytes=5)
    list(loaders.BatchSamplerShard(lambda: sliced, split_batches=True))
    assert sliced.state_dict(batches=2)["position"] == 8


class Foreign(IterableDataset[int]):
    def __iter__(self):
        yield from range(3)


def test_split_selects_the_processes_that_share_samples(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def read(split, workers=0):
        shuffled = ShuffleDataset(Placed(8), 1, split=split)
        loader = DataLoader(
            shuffled,
            batch_size=None,
            collate_fn=as_it_is,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        assert len(shuffled) == (4 if split == "auto" else 8)
        return sorted(loader)

    assert read("auto") == [1, 3, 5, 7]  # ranks take turns
    assert read("workers") == list(range(8))
    assert read("none") == list(range(8))


def test_split_has_three_values_and_does_not_apply_to_streams_of_other_libraries():
    with pytest.raises(ValueError, match=r"split must be one of .*'workers'.*, not 'ranks'"):
        ShuffleDataset(Placed(8), split="ranks")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="Foreign splits its samples itself: split='none' has no effect"
    ):
        ShuffleDataset(Foreign(), split="none")
