"""What is given for a map-style dataset: whether it is one, and if not, what to give instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject


def check_map_style(dataset: Any, problem: str) -> None:
    """Checks that something has samples by number, as far as that can be seen without reading one.

    Text, dicts and lists of datasets have ``len()`` and ``[]`` too, but other things than samples in them.

    Args:
        dataset: What a user gave.
        problem: How the message begins, such as ``the source 'a' is a str: a mixture takes datasets``.

    Raises:
        TypeError: It is no map-style dataset.
    """
    advice = _advice(dataset)
    if advice or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(f"{problem}{advice}")


def _advice(dataset: Any) -> str:
    """Returns what to give in place of what is often mistaken for a dataset, empty text for anything else."""
    if isinstance(dataset, type):
        return f". This is a class: give a dataset, {dataset.__name__}(…)"
    if isinstance(dataset, DataLoader):
        return ". It yields batches: give its dataset, loader.dataset, and hand the result to a DataLoader"
    if isinstance(dataset, (str, bytes, bytearray, IPFSObject)):
        return ". Give the dataset that reads it, such as IPFSIterableDataset(url, address)"
    if isinstance(dataset, Mapping) and dataset and 0 not in dataset:
        return ". Its samples have no numbers: give list(x.values()), or one of the datasets in it"
    if isinstance(dataset, (list, tuple)) and dataset and isinstance(dataset[0], Dataset):
        return ". Give one dataset: ConcatDataset, ChainDataset or + join several, MixedDataset mixes them"
    return ""
