"""The shuffle buffer of this library alone, with samples in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.data import IterableDataset

from ipfs_dataset.ipfs_dataset import ShuffleDataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job


class _Items(IterableDataset[bytes]):
    def __init__(self, items: list[bytes]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items)


def shuffle_buffer(job: Job) -> Iterator[bytes]:
    """Shuffles items with a buffer."""
    items = [number.to_bytes(8, "big") for number in range(job.facts["members"])]
    return iter(ShuffleDataset(_Items(items), job.options["buffer"]))
