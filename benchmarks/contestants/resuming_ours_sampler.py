"""Resumes in the middle of an epoch: a published dataset in the order of a sampler; see `resuming`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from benchmarks.contestants.resuming import BATCH, as_list
from ipfs_dataset import BlockShuffleSampler, load

if TYPE_CHECKING:
    from benchmarks.contestants.resuming import Reader


def make(told: dict[str, Any]) -> Reader:
    """Returns the reader."""
    dataset: Any = load(told["cid"], f"gateway+{told['gateway']}")
    sampler = BlockShuffleSampler(dataset, batch_size=BATCH)
    loader = DataLoader(dataset, BATCH, sampler=sampler, collate_fn=as_list)
    return lambda: iter(loader), sampler.state_dict, sampler.load_state_dict
