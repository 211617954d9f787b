"""Jobs of several ranks and workers, simulated one after the other in this process."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import islice
from unittest import mock

from torch.utils.data._utils import worker as torch_worker

from tests.support.workers import Placed

WORLDS = [(world, workers) for world in (1, 2, 4) for workers in (0, 1, 2)]


@contextmanager
def as_reader(rank, world, worker=None, workers=0, seed=0):
    """Simulates a rank of a job, or a worker of its loader, in this process."""
    info, dataset = None, Placed(0)
    if worker is not None:
        info = torch_worker.WorkerInfo(
            id=worker, num_workers=workers, seed=seed + worker, dataset=dataset
        )
    environment = {"RANK": str(rank), "WORLD_SIZE": str(world)}
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(torch_worker, "_worker_info", info),
    ):
        yield


def in_batches(samples, batch):
    samples = iter(samples)
    return list(iter(lambda: list(islice(samples, batch)), []))


def batches_of_rank(dataset, rank, world, *, workers, batch, seed=0):
    """Returns the batches that a loader of one rank returns, in their order."""
    if not workers:
        with as_reader(rank, world):
            return in_batches(dataset, batch)
    each = []
    for worker in range(workers):
        with as_reader(rank, world, worker, workers, seed):
            each.append(in_batches(dataset, batch))
    return [
        own[number] for number in range(max(map(len, each))) for own in each if number < len(own)
    ]


def global_batches(datasets, workers, batch, seed=0):
    """Returns the samples that the ranks of a job read together, for each global batch.

    Args:
        datasets: The dataset of each rank.
        workers: Number of workers of each loader.
        batch: Batch size of the loaders.
        seed: Seed of the iteration of the loaders.
    """
    ranks = [
        batches_of_rank(dataset, rank, len(datasets), workers=workers, batch=batch, seed=seed)
        for rank, dataset in enumerate(datasets)
    ]
    return [
        [sample for rank in ranks for sample in (rank[number] if number < len(rank) else [])]
        for number in range(max(map(len, ranks)))
    ]
