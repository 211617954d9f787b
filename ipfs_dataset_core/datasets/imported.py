"""A published dataset as a map-style PyTorch dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from ipfs_dataset_core.datasets.map_style import SampleAccess
from ipfs_dataset_core.runtime.process_local import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.datasets.published import Published
    from ipfs_dataset_core.interfaces import PublishedSamples


class ImportedDataset(SampleAccess, Dataset[Any]):
    """The samples of a published dataset, equal to the exported ones and in their order.

    Indexing reads that sample alone; iterating reads sequentially and is faster. Every process opens the
    dataset for itself, so DataLoader workers may be forked or spawned.

    Args:
        published: Where it is and how it is read.
    """

    def __init__(self, published: Published) -> None:
        super().__init__(published.connections, published.url)
        self._published = published
        self._samples = ProcessLocal(published.load)

    def __iter__(self) -> Iterator[Any]:
        if self._policy.raises and self._unchanged:
            return self._indexed().iterate(0, len(self))
        # A subclass transforms samples in __getitem__, and a sample can be skipped only where it is read by
        # number.
        return self._policy.read_each(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._published.url}>"

    def content_id(self) -> str:
        """Returns the dataset's CID."""
        return self._published.content_id()

    def _indexed(self) -> PublishedSamples:
        return self._samples.get()

    def _close_samples(self) -> None:
        self._samples.pop()
