"""One rank that trains under Lightning's and Fabric's DDP on every kind of dataset."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSIterableDataset,
    MixedDataset,
    ShuffleDataset,
)
from tests.support.interop import BATCH, choose_start_method, numbers


class Recording(LightningModule):
    """Trains a weight and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs: list[list[list[int]]] = []
        self.validated: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.epochs[-1].append(batch.tolist())
        return (self.weight - batch.float().mean()) ** 2

    def validation_step(self, batch: torch.Tensor) -> None:
        self.validated.append(batch.tolist())

    def predict_step(self, batch: torch.Tensor) -> torch.Tensor:
        return batch

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Unsized(IPFSIterableDataset):
    """A stream without a length."""

    def __iter__(self):
        yield from super().__iter__()


def main(report: str, address: str, url: str) -> None:
    def sampled(**options: Any) -> DataLoader[Any]:
        dataset = IPFSDataset(url, address)
        sampler = BlockShuffleSampler(dataset, batch_size=BATCH)
        return DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=numbers, **options)

    def streamed(stream: Any, **options: Any) -> DataLoader[Any]:
        return DataLoader(stream, batch_size=BATCH, collate_fn=numbers, **options)

    in_blocks = IPFSIterableDataset(url, address, shuffle_blocks=True, batch_size=BATCH)
    mixed = {"one": (IPFSDataset(url, address), 1)}

    cases = {
        "sampler": sampled(),
        "sampler, 2 workers": sampled(num_workers=2),
        "sized stream": streamed(IPFSIterableDataset(url, address)),
        "unsized stream": streamed(Unsized(url, address)),
        "stream, 2 workers": streamed(in_blocks, num_workers=2),
        "mixed": streamed(MixedDataset(mixed, batch_size=BATCH)),
        "shuffled": streamed(ShuffleDataset(IPFSDataset(url, address), 20)),
    }
    found: dict[str, Any] = {}
    for name, loader in cases.items():
        module = Recording()
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=Path(report).parent,
        )
        trainer.fit(module, loader, sampled())
        found[name] = {"epochs": module.epochs, "validated": module.validated}
        if name == "sampler":
            predicted: Any = trainer.predict(module, sampled())
            found["predicted"] = [batch.tolist() for batch in predicted]
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    for name in ("sampler", "sized stream"):
        prepared: Any = fabric.setup_dataloaders(cases[name])
        found[f"Fabric, {name}"] = {
            "epochs": [[batch.tolist() for batch in prepared] for _ in range(2)]
        }
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    choose_start_method()
    warnings.simplefilter("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    main(*sys.argv[1:])
