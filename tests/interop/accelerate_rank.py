"""One rank that reads the archive through accelerate in every way."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import BatchSampler, DataLoader, Subset

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSIterableDataset,
    MixedDataset,
    ShuffleDataset,
)
from tests.support.interop import BATCH, choose_start_method, numbers


def main(report: str, address: str, url: str) -> None:
    def sampled(**options: Any) -> DataLoader[Any]:
        dataset = IPFSDataset(url, address)
        sampler = BlockShuffleSampler(dataset, batch_size=BATCH)
        return DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=numbers, **options)

    def by_batch_sampler() -> DataLoader[Any]:
        dataset = IPFSDataset(url, address)
        chosen = Subset(Subset(dataset, range(len(dataset))), range(len(dataset)))
        sampler = BatchSampler(
            BlockShuffleSampler(chosen, batch_size=BATCH), BATCH, drop_last=False
        )
        return DataLoader(chosen, batch_size=None, sampler=sampler, collate_fn=numbers)

    def streamed(stream: Any = None, **options: Any) -> DataLoader[Any]:
        stream = stream or IPFSIterableDataset(url, address)
        return DataLoader(stream, batch_size=BATCH, collate_fn=numbers, **options)

    spawned = {
        "num_workers": 2,
        "multiprocessing_context": "spawn",
        "persistent_workers": True,
    }
    cases = {
        "sampler": (sampled(), {}),
        "sampler, 2 workers": (sampled(num_workers=2), {}),
        "sampler, dispatched": (sampled(), {"dispatch_batches": True}),
        "sampler, split batches": (sampled(), {"split_batches": True}),
        "batch sampler": (by_batch_sampler(), {}),
        "stream": (streamed(), {}),
        "stream, 2 workers": (streamed(num_workers=2), {}),
        "stream, 2 spawned workers": (streamed(**spawned), {}),
        "stream, not dispatched": (streamed(), {"dispatch_batches": False}),
        "stream, not dispatched, 2 workers": (streamed(num_workers=2), {"dispatch_batches": False}),
        "shuffled": (streamed(ShuffleDataset(IPFSIterableDataset(url, address), 20)), {}),
        "shuffled map-style, not dispatched": (
            streamed(ShuffleDataset(IPFSDataset(url, address), 20)),
            {"dispatch_batches": False},
        ),
        "mixed, not dispatched": (
            streamed(MixedDataset({"one": (IPFSDataset(url, address), 1)}, batch_size=BATCH)),
            {"dispatch_batches": False},
        ),
        "not prepared": (streamed(), None),
    }
    found = {}
    for name, (loader, options) in cases.items():
        prepared: Any = loader
        if options is not None:
            accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(**options))
            prepared = accelerator.prepare(loader)
        epochs = [[batch.tolist() for batch in prepared] for _ in range(2)]
        found[name] = {"length": len(prepared), "epochs": epochs}
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    choose_start_method()
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
