"""Reads a dataset that cifar10_export.py published: shows one sample, then goes through all in batches."""

from __future__ import annotations

import argparse
from collections import Counter

from torch.utils.data import DataLoader
from tqdm import tqdm

from cifar10 import to_batch
from ipfs_dataset.exporter import IPFSDatasetExporter


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="what cifar10_export.py printed, or any URL of it")
    parser.add_argument("--api", metavar="ADDRESS", help="a node's API, a folder or a .car file")
    parser.add_argument("--gateway", action="append", default=[], metavar="URL", help="repeatable")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Runs the example."""
    arguments = parse_arguments()
    exporter = IPFSDatasetExporter(arguments.api, gateways=arguments.gateway)
    dataset = exporter.import_from_ipfs(arguments.url)
    print(f"{len(dataset)} samples, the first: {dataset[0]}")

    loader = DataLoader(
        dataset, arguments.batch_size, collate_fn=to_batch, num_workers=arguments.workers
    )
    images, labels = next(iter(loader))
    print(f"a batch: images {tuple(images.shape)} of {images.dtype}, labels {labels.tolist()}")

    counts: Counter[int] = Counter()
    for _, batch_labels in tqdm(loader, unit=" batches", disable=None):
        counts.update(batch_labels.tolist())
    print(f"samples per label: {dict(sorted(counts.items()))}")


if __name__ == "__main__":
    main()
