"""Two processes under accelerate: each sample is read, in both ways of dealing batches out."""

from __future__ import annotations

from itertools import chain

import pytest

from ipfs_dataset import BlockShuffleSampler, IPFSDataset
from tests.support.interop import BATCH, batches_of, check_coverage, library, run_ranks

library("accelerate")

WORLD = 2
BATCHES = 7  # of 103 samples, 8 for each rank


@pytest.fixture(scope="module")
def found(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("accelerate")
    return run_ranks("tests.interop.accelerate_rank", WORLD, folder, *archive)


def of(found, case):
    """Returns the batches of each rank, by epoch."""
    return [[rank[case]["epochs"][epoch] for rank in found] for epoch in range(2)]


def global_batches(ranks):
    return [sorted(chain.from_iterable(together)) for together in zip(*ranks, strict=True)]


@pytest.mark.parametrize(
    "case",
    ["sampler", "sampler, 2 workers", "sampler, dispatched", "batch sampler"],
)
def test_ranks_get_the_batches_of_the_sampler(found, archive, case):
    dataset = IPFSDataset(archive[1], archive[0])
    for epoch, ranks in enumerate(of(found, case)):
        check_coverage(ranks, BATCHES)
        for rank, batches in enumerate(ranks):
            alone = BlockShuffleSampler(dataset, batch_size=BATCH, num_replicas=WORLD, rank=rank)
            # set_epoch reaches no sampler in a batch sampler that stands in for the sampler.
            alone.set_epoch(0 if case == "batch sampler" else epoch)
            assert batches[: BATCHES - 1] == batches_of(alone)[: BATCHES - 1]
    assert [rank[case]["length"] for rank in found] == [BATCHES] * WORLD


def test_batches_that_are_split_are_the_global_ones(found, archive):
    dataset = IPFSDataset(archive[1], archive[0])
    for epoch, ranks in enumerate(of(found, "sampler, split batches")):
        check_coverage(ranks, 13)
        alone = BlockShuffleSampler(dataset, batch_size=BATCH, num_replicas=1, rank=0)
        alone.set_epoch(epoch)
        assert global_batches(ranks)[:12] == [sorted(batch) for batch in batches_of(alone)[:12]]


@pytest.mark.parametrize(
    ("case", "readers"),
    [
        ("stream", 1),
        ("stream, not dispatched", 1),
        ("shuffled", 1),
        ("shuffled map-style, not dispatched", 1),
        ("mixed, not dispatched", 1),
        ("not prepared", 1),
    ],
)
def test_ranks_read_a_whole_stream(found, case, readers):
    for ranks in of(found, case):
        check_coverage(ranks, BATCHES, readers)
    assert [rank[case]["length"] for rank in found] == [BATCHES] * WORLD


@pytest.mark.parametrize(
    "case",
    [
        "stream, 2 workers",
        "stream, 2 spawned workers",
        "stream, not dispatched, 2 workers",
    ],
)
def test_ranks_read_a_whole_stream_with_workers(found, case):
    for ranks in of(found, case):
        check_coverage(ranks, len(ranks[0]), readers=2)


def test_every_epoch_has_another_order(found):
    for case in (
        "sampler",
        "sampler, dispatched",
        "shuffled",
        "shuffled map-style, not dispatched",
    ):
        first, second = of(found, case)
        assert first != second
