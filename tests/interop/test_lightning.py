"""Two processes under Lightning's DDP: each sample is read, with the sampler's own order and epochs."""

from __future__ import annotations

import pytest

from ipfs_dataset import BlockShuffleSampler, IPFSDataset
from tests.support.interop import BATCH, batches_of, check_coverage, library, run_ranks

library("lightning")

WORLD = 2
BATCHES = 7  # of 103 samples, 8 for each rank


@pytest.fixture(scope="module")
def found(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lightning")
    return run_ranks("tests.interop.lightning_rank", WORLD, folder, *archive)


@pytest.mark.parametrize("case", ["sampler", "sampler, 2 workers", "Fabric, sampler"])
def test_lightning_keeps_the_sampler_and_sets_its_epoch(found, archive, case):
    dataset = IPFSDataset(archive[1], archive[0])
    for epoch in range(2):
        ranks = [rank[case]["epochs"][epoch] for rank in found]
        check_coverage(ranks, BATCHES)
        for rank, batches in enumerate(ranks):
            alone = BlockShuffleSampler(dataset, batch_size=BATCH, num_replicas=WORLD, rank=rank)
            alone.set_epoch(epoch)
            assert batches[: BATCHES - 1] == batches_of(alone)


@pytest.mark.parametrize(
    "case",
    [
        "sized stream",
        "unsized stream",
        "stream, 2 workers",
        "mixed",
        "shuffled",
        "Fabric, sized stream",
    ],
)
def test_streams_split_their_samples_themselves(found, case):
    for epoch in range(2):
        check_coverage([rank[case]["epochs"][epoch] for rank in found], BATCHES)


@pytest.mark.parametrize("case", ["sampler", "stream, 2 workers", "mixed", "shuffled"])
def test_every_epoch_has_another_order(found, case):
    for rank in found:
        first, second = rank[case]["epochs"]
        assert first != second


def test_validation_and_prediction_read_each_sample(found):
    check_coverage([rank["predicted"] for rank in found], BATCHES)
    check_coverage([rank["sampler"]["validated"][:BATCHES] for rank in found], BATCHES)


def test_training_resumes_exactly_from_a_checkpoint_in_the_middle_of_an_epoch(archive, tmp_path):
    library("torchdata")
    for rank in run_ranks("tests.interop.lightning_resume_rank", WORLD, tmp_path, *archive):
        for case, (whole, begun, rest) in rank.items():
            assert begun + rest == whole, case
