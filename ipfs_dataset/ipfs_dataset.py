"""The datasets that users construct, subclass and hand to a DataLoader."""

from __future__ import annotations

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.loading import load
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.datasets.mixed import MixedDataset
from ipfs_dataset_core.datasets.shuffle import ShuffleDataset
from ipfs_dataset_core.datasets.splits import DatasetSplit
from ipfs_dataset_core.order.sampler import BlockShuffleSampler

__all__ = [
    "BlockShuffleSampler",
    "DatasetSplit",
    "IPFSDataset",
    "IPFSIterableDataset",
    "MixedDataset",
    "ShuffleDataset",
    "load",
]
