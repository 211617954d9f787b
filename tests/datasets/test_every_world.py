"""Every kind of order: from every cut, every number of ranks and workers goes on with the same batches."""

from __future__ import annotations

import json
from itertools import chain

import pytest

from tests.support.jobs import WORLDS, as_reader, global_batches
from tests.support.orders import KINDS, Made, Sampled

GLOBAL_BATCH = 8
EPOCH = 2


DISTINCT = {
    "buffer of a published dataset": 19,
    "buffer of numbers": 21,
    "sampler of a published dataset": 19,
    "sampler of a subset of a subset": 17,
    "sampler of a concatenation": 21,
    "compressed, in order": 23,
    "compressed, in lanes": 23,
    "compressed, shuffled blocks": 23,
    "mixture": 31,
    "mixture of streams": 42,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("store"))


def job(made, kind, world, state=None):
    """Returns the datasets of the ranks, in one epoch."""
    datasets = [KINDS[kind](made, GLOBAL_BATCH // world) for _ in range(world)]
    for rank, dataset in enumerate(datasets):
        with as_reader(rank, world):
            if state is not None:
                dataset.load_state_dict(json.loads(state))
            dataset.set_epoch(EPOCH)
    return datasets


def read(datasets, workers):
    """Returns the global batches, each as a set: ranks may have any part of it."""
    if isinstance(datasets[0], Sampled):
        workers = 0  # numbers come from the main process
    batches = global_batches(datasets, workers, GLOBAL_BATCH // len(datasets), seed=workers)
    return [sorted(map(repr, batch)) for batch in batches]


@pytest.mark.parametrize("kind", KINDS)
def test_from_every_position_any_number_of_ranks_resumes_with_the_same_batches(made, kind):
    whole = read(job(made, kind, 1), 0)
    assert len(set(chain.from_iterable(whole))) == DISTINCT.get(kind, 18)
    assert len(whole) > 2
    # A mixture plans ahead whenever it is opened, which takes long where all numbers are tried.
    worlds = WORLDS[::4] if kind.startswith("mixture") else WORLDS
    states: list[set[str]] = [set() for _ in range(len(whole) + 1)]
    for world, workers in worlds:
        datasets = job(made, kind, world)
        assert read(datasets, workers) == whole
        for rank, dataset in enumerate(job(made, kind, world)):
            with as_reader(rank, world):
                next(iter(dataset), None)
                for cut, found in enumerate(states):
                    found.add(json.dumps(dataset.state_dict(batches=cut)))
    for cut, found in enumerate(states):
        (state,) = found  # that of every rank in every world
        assert len(state) < 1000
        for world, workers in worlds:
            assert read(job(made, kind, world, state), workers) == whole[cut:]
