"""Epochs of streams: all workers of an iteration have the same one, however large its number is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.order.epoch_progress import EpochProgress
from tests.support.jobs import as_reader


@pytest.mark.parametrize(
    "epoch", [0, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, 1 << 40, (1 << 53) - 2]
)
def test_workers_of_an_iteration_agree_on_its_epoch(epoch):
    progress = EpochProgress()
    # Workers that were started for the first iteration have copies, and the same numbers.
    copies = [EpochProgress.__new__(EpochProgress) for _ in range(3)]
    for copy in copies:
        copy.__setstate__(progress.__getstate__())
    progress.set_epoch(epoch)

    def iteration(seed):
        found = []
        for worker, copy in enumerate(copies):
            with as_reader(0, 1, worker, 3, seed):
                found.append(copy.begin(None).epoch)
                copy.finish(found[-1])
        return found

    assert iteration(seed=10) == [epoch] * 3
    assert iteration(seed=20) == [epoch] * 3  # set, so it is not counted
    progress._numbers[2] = 0  # nobody sets epochs
    assert iteration(seed=30) == [epoch + 1] * 3
    assert progress.epoch == epoch + 1


@given(st.integers(0, 1 << 53), st.integers(0, 1 << 53))
def test_an_epoch_is_followed_by_any_other(first, second):
    progress = EpochProgress()
    for epoch in (first, second):
        progress.set_epoch(epoch)
        for seed, worker in ((1, 0), (1, 1)):
            with as_reader(0, 1, worker, 2, seed):
                assert progress.begin(None).epoch == epoch
