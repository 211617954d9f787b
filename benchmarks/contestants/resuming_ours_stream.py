"""Resumes in the middle of an epoch: a ZIP as a stream, in some order; see `resuming`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from benchmarks.contestants.resuming import BATCH, as_list
from ipfs_dataset import IPFSIterableDataset, ShuffleDataset

if TYPE_CHECKING:
    from benchmarks.contestants.resuming import Reader


def make(told: dict[str, Any]) -> Reader:
    """Returns the reader."""
    options = dict(told["options"])
    buffer = options.pop("buffer", 0)
    if isinstance(options.get("lanes"), list):
        options["lanes"] = tuple(options["lanes"])
    gateway = f"gateway+{told['gateway']}"
    stream: Any = IPFSIterableDataset(told["cid"], gateway, batch_size=BATCH, **options)
    stream = ShuffleDataset(stream, buffer) if buffer else stream
    loader = DataLoader(stream, BATCH, collate_fn=as_list)
    return lambda: iter(loader), stream.state_dict, stream.load_state_dict
