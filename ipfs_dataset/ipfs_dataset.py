"""The datasets that users construct, subclass and hand to a DataLoader."""

from __future__ import annotations

from ipfs_dataset_core.datasets import IPFSDataset, IPFSIterableDataset
from ipfs_dataset_core.order.sampler import BlockShuffleSampler
from ipfs_dataset_core.shuffle import ShuffleDataset

__all__ = ["BlockShuffleSampler", "IPFSDataset", "IPFSIterableDataset", "ShuffleDataset"]
