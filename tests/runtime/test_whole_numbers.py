"""Numbers that users give: integers of any library, and nothing else, so that a state is JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from ipfs_dataset import BlockShuffleSampler, IPFSIterableDataset, MixedDataset, ShuffleDataset
from ipfs_dataset_core.runtime.whole_numbers import whole_number
from tests.support.workers import Placed

MAKERS: dict[str, Any] = {
    "sampler": lambda **options: BlockShuffleSampler(Placed(40), **options),
    "buffer": lambda **options: ShuffleDataset(range(40), **options),  # type: ignore[arg-type]
    "mixture": lambda **options: MixedDataset({"all": (Placed(40), 1)}, **options),
    "stream": lambda **options: IPFSIterableDataset([], **options),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_integers_of_numpy_and_torch_make_a_state_that_json_holds(kind):
    numbers = {"seed": np.int64(3), "batch_size": torch.tensor(4), "lanes": (np.int32(2), 1)}
    dataset, same = MAKERS[kind](**numbers), MAKERS[kind](seed=3, batch_size=4, lanes=(2, 1))
    for each, epoch in ((dataset, np.int64(2)), (same, 2)):
        each.set_epoch(epoch)
    state = dataset.state_dict(batches=np.int64(0))
    assert json.loads(json.dumps(state)) == same.state_dict(batches=0)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("value", [1.0, True, "1", None, [1]])
def test_values_that_are_not_integers_are_refused(kind, value):
    with pytest.raises(TypeError, match="seed must be a whole number"):
        MAKERS[kind](seed=value)
    if value is not None:
        with pytest.raises(TypeError, match="batch_size must be a whole number"):
            MAKERS[kind](batch_size=value)
    dataset = MAKERS[kind](batch_size=4)
    with pytest.raises(TypeError, match="epoch must be a whole number"):
        dataset.set_epoch(value)
    if value is not None:
        with pytest.raises(TypeError, match="batches must be a whole number"):
            dataset.state_dict(batches=value)


@pytest.mark.parametrize("kind", MAKERS)
def test_an_epoch_that_does_not_fit_a_state_is_refused(kind):
    dataset = MAKERS[kind]()
    for epoch, message in ((-1, "at least 0, not -1"), ((1 << 53) + 1, "at most 9007199254740992")):
        with pytest.raises(ValueError, match=f"epoch must be {message}"):
            dataset.set_epoch(epoch)
    dataset.set_epoch(1 << 53)
    assert dataset.state_dict()["epoch"] == 1 << 53


@pytest.mark.parametrize(
    ("lanes", "error", "message"),
    [
        ((1, 2, 3), ValueError, "one number, or a pair for ranks and workers"),
        ((2,), ValueError, "one number, or a pair"),
        ("ab", TypeError, "lanes must be a whole number, not 'ab'"),
        ((2, 1.5), TypeError, r"lanes must be a whole number, not 1\.5"),
        (True, TypeError, "lanes must be a whole number, not True"),
        ((0, 1), ValueError, "lanes must be at least 1, not 0"),
    ],
)
def test_lanes_are_one_number_or_two(lanes, error, message):
    with pytest.raises(error, match=message):
        BlockShuffleSampler(Placed(4), lanes=lanes)


def test_a_long_value_is_shown_in_part():
    with pytest.raises(TypeError) as caught:
        whole_number("seed", "x" * 10_000, least=0)
    assert len(str(caught.value)) < 200
