"""Resumes in the middle of an epoch: MDS shards, copied to an empty folder; see `resuming`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

import benchmarks.contestants.mosaicml  # noqa: F401 - adds an HTTP client
from benchmarks.contestants.resuming import BATCH, as_list

if TYPE_CHECKING:
    from benchmarks.contestants.resuming import Reader


def make(told: dict[str, Any]) -> Reader:
    """Returns the reader."""
    dataset = StreamingDataset(
        remote=f"{told['gateway']}/ipfs/{told['cid']}",
        local=f"{told['scratch']}/copy",
        batch_size=BATCH,
        **told["options"],
    )
    loader = DataLoader(dataset, BATCH, collate_fn=as_list)
    return (
        lambda: iter(loader),
        lambda batches: dict(dataset.state_dict(batches * BATCH, from_beginning=True)),
        dataset.load_state_dict,
    )


def write(told: dict[str, Any]) -> None:
    """Writes shards."""
    columns, size = {"data": "bytes"}, told["shard"]
    with MDSWriter(out=told["folder"], columns=columns, size_limit=size) as writer:
        for path in sorted(Path(told["samples"]).iterdir()):
            writer.write({"data": path.read_bytes()})
