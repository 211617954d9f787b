"""Publishes torchvision's CIFAR-10, or as many made-up images as you like, and prints the CID."""

from __future__ import annotations

import argparse
from typing import Any

from torchvision.datasets import CIFAR10, FakeData

from ipfs_dataset.exporter import IPFSDatasetExporter


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--api", metavar="ADDRESS", help="a node's API, a folder or a .car file; default: discovery"
    )
    parser.add_argument("--root", default="data", help="where torchvision keeps CIFAR-10")
    parser.add_argument("--download", action="store_true", help="let torchvision download it")
    parser.add_argument(
        "--test", action="store_true", help="the test images, not the training images"
    )
    parser.add_argument("--fake", type=int, metavar="N", help="publish N made-up images instead")
    return parser.parse_args()


def dataset(arguments: argparse.Namespace) -> Any:
    """Returns the dataset to publish: pairs of a PIL image and a number."""
    if arguments.fake is not None:
        return FakeData(arguments.fake, image_size=(3, 32, 32), num_classes=10)
    return CIFAR10(arguments.root, train=not arguments.test, download=arguments.download)


def main() -> None:
    """Runs the example."""
    arguments = parse_arguments()
    print(IPFSDatasetExporter(arguments.api).export_to_ipfs(dataset(arguments)))


if __name__ == "__main__":
    main()
