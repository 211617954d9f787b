"""Every kind of order: from every cut, every number of ranks and workers goes on with the same batches."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
from torch.utils.data import ConcatDataset, Subset

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSDatasetExporter,
    IPFSIterableDataset,
    MixedDataset,
    ShuffleDataset,
)
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.jobs import WORLDS, as_reader, global_batches
from tests.support.stores import Store, members

GLOBAL_BATCH = 8
EPOCH = 2


class Sampled:
    """A map-style dataset in the order of a sampler, as a loader reads it: like a stream."""

    def __init__(self, dataset: Any, batch: int) -> None:
        self._dataset = dataset
        self._sampler = BlockShuffleSampler(
            dataset, batch_size=batch, lanes=(2, 2), distribution="uneven"
        )
        self.set_epoch = self._sampler.set_epoch
        self.state_dict = self._sampler.state_dict
        self.load_state_dict = self._sampler.load_state_dict

    def __iter__(self):
        return (self._dataset[number] for number in self._sampler)


class Made:
    """Makes the datasets of one kind."""

    def __init__(self, folder):
        store = Store(folder)
        self._address = store.address
        self._archive = store.file(zip_bytes(members(11, "z")))
        self._tar = store.file(tar_bytes(members(7, "t")))
        self._packed = store.file(tar_bytes(members(5, "p"), "w:gz"))
        self._exporter = IPFSDatasetExporter(store.address, progress=False)
        self._published = self._exporter.export_to_ipfs([(f"s{n}", n) for n in range(19)])

    def stream(self, batch, *, packed=False, **options):
        files = [self._archive, *([self._packed] if packed else []), self._tar]
        return IPFSIterableDataset(
            files, self._address, batch_size=batch, distribution="uneven", **options
        )

    def files(self):
        return IPFSDataset([self._archive, self._tar], self._address)

    def published(self):
        return self._exporter.import_from_ipfs(self._published)

    def buffered(self, dataset, batch):
        return ShuffleDataset(dataset, 5, batch_size=batch, lanes=(2, 2), distribution="uneven")

    def mixed(self, first, second, batch, **options):
        sources = {"first": (first, 0.7), "second": (second, 0.3)}
        return MixedDataset(sources, batch_size=batch, distribution="uneven", **options)


KINDS: dict[str, Any] = {
    "in order": lambda made, batch: made.stream(batch),
    "in lanes": lambda made, batch: made.stream(batch, lanes=(4, 2)),
    "in lanes that do not divide": lambda made, batch: made.stream(batch, lanes=(3, 5)),
    "shuffled objects": lambda made, batch: made.stream(batch, shuffle_urls=True),
    "shuffled blocks": lambda made, batch: made.stream(batch, shuffle_blocks=True),
    "buffer of a stream": lambda made, batch: made.buffered(made.stream(batch), batch),
    "buffer of files": lambda made, batch: made.buffered(made.files(), batch),
    "buffer of a published dataset": lambda made, batch: made.buffered(made.published(), batch),
    "buffer of numbers": lambda made, batch: made.buffered(range(21), batch),
    "sampler": lambda made, batch: Sampled(made.files(), batch),
    "sampler of a published dataset": lambda made, batch: Sampled(made.published(), batch),
    "sampler of a subset of a subset": lambda made, batch: Sampled(
        Subset(Subset(made.published(), range(18, 0, -1)), range(1, 18)), batch
    ),
    "sampler of a concatenation": lambda made, batch: Sampled(
        ConcatDataset([made.published(), Subset(made.files(), [3, 1])]), batch
    ),
    "compressed, in order": lambda made, batch: made.stream(batch, packed=True),
    "compressed, in lanes": lambda made, batch: made.stream(batch, packed=True, lanes=(2, 2)),
    "compressed, shuffled blocks": lambda made, batch: made.stream(
        batch, packed=True, shuffle_blocks=True
    ),
    "mixture": lambda made, batch: made.mixed(made.files(), made.published(), batch),
    "mixture of streams": lambda made, batch: made.mixed(
        made.stream(None, packed=True), made.published(), batch, stop="all"
    ),
}


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
def test_from_every_cut_every_world_goes_on_with_the_same_batches(made, kind):
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
