"""Trains LeNet on CIFAR-10 in IPFS, read through a node's API, gateways or a folder of blocks.

The objects are archives or folders of images whose names start with their class, for instance
truck_lorry_s_000528.png:

    python examples/cifar10_train.py --train ipfs://CID --test ipfs://CID --api /ip4/127.0.0.1/tcp/5001
    python examples/cifar10_train.py --train ipfs://CID --test ipfs://CID --gateway http://127.0.0.1:8080
    python examples/cifar10_train.py --train https://gateway/ipfs/CID --test https://gateway/ipfs/CID
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cifar10 import AUGMENT, CLASSES, PREPARE, decode
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from lenet import LeNet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.utils.data import Dataset
    from torchvision.transforms import Compose


class Cifar10(IPFSDataset):
    """Images and labels by number; the DataLoader shuffles them all."""

    def __init__(self, *args: Any, transform: Compose, **options: Any) -> None:
        super().__init__(*args, **options)
        self.transform = transform

    def __getitem__(self, index: Any) -> tuple[Tensor, int]:
        name, data = super().__getitem__(index)
        return decode(name, data, self.transform)


class StreamedCifar10(IPFSIterableDataset):
    """Images and labels in the order of the archives; a buffer shuffles them."""

    def __init__(self, *args: Any, transform: Compose, **options: Any) -> None:
        super().__init__(*args, **options)
        self.transform = transform

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        for name, data in super().__iter__():
            yield decode(name, data, self.transform)


def training_set(arguments: argparse.Namespace) -> Dataset[Any]:
    """Returns the training images, to be read by number or streamed."""
    where = {"gateways": arguments.gateway}
    if not arguments.iterable:
        return Cifar10(arguments.train, arguments.api, transform=AUGMENT, **where)
    streamed = StreamedCifar10(
        arguments.train, arguments.api, shuffle_urls=True, transform=AUGMENT, **where
    )
    return ShuffleDataset(streamed, buffer_size=1000)


def train(model: nn.Module, loader: DataLoader[Any], epochs: int) -> None:
    """Trains the model, and prints the mean loss of every epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        if isinstance(loader.dataset, ShuffleDataset):
            loader.dataset.set_epoch(epoch)
        losses = []
        for images, labels in tqdm(loader, desc=f"epoch {epoch}", disable=None):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: mean loss {sum(losses) / len(losses):.3f}")


@torch.no_grad()
def count_right(model: nn.Module, loader: DataLoader[Any]) -> tuple[int, int]:
    """Returns how many test images the model knows, and how many there are."""
    right = total = 0
    for images, labels in loader:
        right += int((model(images).argmax(dim=1) == labels).sum())
        total += len(labels)
    return right, total


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--train", nargs="+", required=True, metavar="URL", help="training objects")
    parser.add_argument("--test", nargs="+", required=True, metavar="URL", help="test objects")
    parser.add_argument("--api", metavar="ADDRESS", help="a node's API, or a folder of blocks")
    parser.add_argument("--gateway", action="append", default=[], metavar="URL", help="repeatable")
    parser.add_argument("--iterable", action="store_true", help="stream the training objects")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Runs the example."""
    arguments = parse_arguments()
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "batch_size": arguments.batch_size,
        "num_workers": arguments.workers,
    }
    model = LeNet(channels=3, classes=len(CLASSES))
    shuffle = None if arguments.iterable else True
    train(model, DataLoader(training_set(arguments), shuffle=shuffle, **settings), arguments.epochs)

    test = Cifar10(arguments.test, arguments.api, transform=PREPARE, gateways=arguments.gateway)
    right, total = count_right(model, DataLoader(test, **settings))
    print(f"test accuracy {right / total:.1%}: {right} of {total} images")


if __name__ == "__main__":
    main()
