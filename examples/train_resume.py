"""Trains on several ranks, and goes on exactly where it was killed, with another number of ranks.

    torchrun --nproc-per-node 2 examples/train_resume.py

Kill it in the middle of an epoch and start it once more, with `--nproc-per-node 4` for instance: it goes on
with the batches that are left, for as long as the global batch is as large. Nothing is read again. Without
arguments it needs no node and no network: the embedded store, a folder, takes the blocks.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ipfs_dataset import BlockShuffleSampler, IPFSDatasetExporter


def publish(out: Path) -> str:
    """Publishes points around ten centres, each with the number of its centre; returns their CID."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (1800,), generator=generator)
    centres = torch.randn(10, 64, generator=generator)
    points = centres[labels] + torch.randn(1800, 64, generator=generator)
    samples = [(point.clone(), int(label)) for point, label in zip(points, labels, strict=True)]
    return IPFSDatasetExporter(str(out / "store")).export_to_ipfs(samples)


def save(path: Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all."""
    torch.save(checkpoint, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cid", help="a published dataset of such points, if there is one")
    parser.add_argument("--address", help="where it is read from, if not from the embedded store")
    parser.add_argument("--out", type=Path, default=Path("out", "train_resume"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--global-batch", type=int, default=16, help="of all ranks together")
    parser.add_argument("--workers", type=int, default=0, help="of each rank's loader")
    parser.add_argument("--save-every", type=int, default=10, help="steps")
    return parser.parse_args()


def main() -> None:
    """Trains, from the last checkpoint if there is one."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo")  # torchrun tells each process its rank
    rank, world = dist.get_rank(), dist.get_world_size()
    print(f"rank {rank} of {world} is process {os.getpid()}", flush=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)

    cid = [arguments.cid or (publish(arguments.out) if rank == 0 else "")]
    dist.broadcast_object_list(cid)
    address = arguments.address or str(arguments.out / "store")
    dataset = IPFSDatasetExporter(address).import_from_ipfs(f"ipfs://{cid[0]}")

    # With the same global batch, all numbers of ranks have the same batches.
    batch, rest = divmod(arguments.global_batch, world)
    if rest:
        raise SystemExit(f"{world} ranks cannot share batches of {arguments.global_batch}")
    sampler = BlockShuffleSampler(
        dataset, batch_size=batch, num_workers=arguments.workers, distribution="drop"
    )
    loader = DataLoader(
        dataset,
        batch,
        sampler=sampler,
        num_workers=arguments.workers,
        drop_last=True,
    )
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    path, step = arguments.out / "checkpoint.pt", 0
    if path.exists():
        checkpoint = torch.load(path, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        sampler.load_state_dict(json.loads(checkpoint["sampler"]))
        step = checkpoint["step"]
        if rank == 0:
            print(f"going on after step {step}, in epoch {sampler.epoch}", flush=True)

    for epoch in range(sampler.epoch, arguments.epochs):
        sampler.set_epoch(epoch)
        for batches, (points, labels) in enumerate(loader, 1):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(points), labels)
            loss.backward()
            optimizer.step()
            step += 1
            mean = loss.detach() / world
            dist.all_reduce(mean)
            if rank == 0:
                print(f"step {step}, epoch {epoch}, loss {mean.item():.6f}", flush=True)
                if step % arguments.save_every == 0:
                    save(
                        path,
                        {
                            "model": model.state_dict(),
                            "optimizer": optimizer.state_dict(),
                            # A loader reads ahead, so we say how many batches were trained on.
                            "sampler": json.dumps(sampler.state_dict(batches=batches)),
                            "step": step,
                        },
                    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
