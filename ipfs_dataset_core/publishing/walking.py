"""Walks the user's dataset, map-style or iterable, with a progress bar on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ipfs_dataset_core.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def walk(dataset: Any, *, progress: bool | None) -> Iterator[Any]:
    """Yields the samples of a dataset in order.

    What the dataset itself raises passes through as it is.

    Args:
        dataset: A map-style dataset, whose indices are 0 to its length, or anything that can be iterated.
        progress: Whether to show a bar on standard error; None shows one if that is a terminal.

    Raises:
        ExportError: It can be neither indexed nor iterated.
    """
    by_index = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if by_index and not _is_iterable_dataset(dataset):
        samples: Iterable[Any] = (dataset[index] for index in range(len(dataset)))
        total: int | None = len(dataset)
    elif hasattr(dataset, "__iter__"):
        samples, total = dataset, _length(dataset)
    else:
        raise ExportError(
            f"{dataset!r:.200} is no dataset: it needs __len__ and __getitem__, or __iter__"
        )
    show = sys.stderr.isatty() if progress is None else progress
    return iter(tqdm(samples, total=total, unit=" samples") if show else samples)


def _is_iterable_dataset(dataset: Any) -> bool:
    """Torch's class inherits a ``__getitem__`` that only raises."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(dataset, data.IterableDataset)


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None
