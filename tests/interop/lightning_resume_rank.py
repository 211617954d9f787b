"""One rank that Lightning stops in the middle of an epoch, and that goes on from its checkpoint."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torchdata.stateful_dataloader import StatefulDataLoader

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSIterableDataset,
    ShuffleDataset,
)
from tests.support.interop import BATCH, choose_start_method, numbers

# In the first epoch, and in the second.
CUTS = (3, 10)


class Recording(LightningModule):
    """Trains a weight and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch.tolist()))
        return (self.weight - batch.float().mean()) ** 2

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Save(Callback):
    """Writes a checkpoint after a step."""

    def __init__(self, step: int, path: str) -> None:
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def main(report: str, address: str, url: str) -> None:
    world = int(os.environ["WORLD_SIZE"])
    checkpoint = str(Path(report).parent / "middle.ckpt")

    def loader(dataset: Any, sampler: Any = None, workers: int = 0) -> Any:
        return StatefulDataLoader(
            dataset,
            batch_size=BATCH,
            sampler=sampler,
            collate_fn=numbers,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )

    def sampled(workers: int) -> Any:
        dataset = IPFSDataset(url, address)
        return loader(dataset, BlockShuffleSampler(dataset, batch_size=BATCH), workers)

    def streamed(workers: int) -> Any:
        stream = IPFSIterableDataset(url, address, shuffle_blocks=True, batch_size=BATCH)
        return loader(stream, workers=workers)

    def buffered(workers: int) -> Any:
        return loader(
            ShuffleDataset(IPFSDataset(url, address), 20, batch_size=BATCH), workers=workers
        )

    def train(made: Any, cut: int = -1, **options: Any) -> list[Any]:
        module = Recording()
        trainer = Trainer(
            accelerator="cpu",
            devices=world,
            strategy="ddp" if world > 1 else "auto",
            max_epochs=2,
            max_steps=cut,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Save(cut, checkpoint)],
            default_root_dir=Path(report).parent,
        )
        trainer.fit(module, made, **options)
        return module.seen

    cases = [
        (sampled, 0),
        (sampled, 2),
        (streamed, 0),
        (streamed, 2),
        (buffered, 2),
    ]
    found: dict[str, Any] = {}
    for make, workers in cases:
        whole = train(make(workers))
        for cut in CUTS if make is streamed and workers else CUTS[:1]:
            begun = train(make(workers), cut)
            rest = train(make(workers), ckpt_path=checkpoint)
            found[f"{make.__name__}, {workers} workers, {cut}"] = [whole, begun, rest]
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    choose_start_method()
    warnings.simplefilter("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    main(*sys.argv[1:])
