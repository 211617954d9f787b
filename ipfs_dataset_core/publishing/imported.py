"""A published dataset as a map-style PyTorch dataset."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, SupportsIndex

from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core.interfaces import PublishedSamples


class ImportedDataset(Dataset[Any]):
    """The samples of a published dataset, equal to the exported ones and in their order.

    Indexing reads that sample alone; iterating reads on and is faster. Pickles, so that DataLoader
    workers may be spawned.

    Args:
        samples: What the exporter of its form read.
        url: Where it was published.
    """

    def __init__(self, samples: PublishedSamples, url: str) -> None:
        self.samples = samples
        self.url = url

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: SupportsIndex) -> Any:
        return self.samples.read(self._position(index))

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[Any]:
        """Returns a batch: what it needs is fetched together, then each sample is ``self[index]``."""
        self.samples.prefetch([self._position(index) for index in indices])
        return [self[index] for index in indices]

    def __iter__(self) -> Iterator[Any]:
        if type(self).__getitem__ is ImportedDataset.__getitem__:
            return self.samples.iterate(0, len(self))
        # A subclass transforms samples where it indexes.
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}, {len(self)} samples>"

    def _position(self, index: SupportsIndex) -> int:
        position, length = operator.index(index), len(self)
        if not -length <= position < length:
            raise IndexError(f"index {position} is out of range: {self.url!r} has {length} samples")
        return position % length
