"""A published dataset as a map-style PyTorch dataset."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, SupportsIndex

from torch.utils.data import Dataset

from ipfs_dataset_core.datasets.batch_fetch import Batches, numbered
from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.indexing import as_integer, check_slice
from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.runtime.process_local import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.published import Published
    from ipfs_dataset_core.interfaces import PublishedSamples


class _Row:
    """Samples by number, loaded when they are first needed."""

    def __init__(self, samples: ProcessLocal[PublishedSamples]) -> None:
        self._samples = samples

    def get_each(self, positions: Iterable[int]) -> Iterator[Any]:
        return self._samples.get().read_each(positions)

    def prefetch(self, positions: Sequence[int]) -> None:
        self._samples.get().prefetch(positions)

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        yield from self._samples.get().fetch_bytes(positions)


class ImportedDataset(Dataset[Any]):
    """The samples of a published dataset, equal to the exported ones and in their order.

    Indexing reads that sample alone; iterating reads on and is faster. Every process opens the dataset
    for itself, so DataLoader workers may be forked or spawned.

    Args:
        published: Where it is and how it is read.
    """

    def __init__(self, published: Published) -> None:
        self._published = published
        self._samples = ProcessLocal(published.load)
        self._concatenated = _Row(self._samples)
        self._policy = ErrorPolicy(published.connections.options)
        self._batches = Batches(published.connections.options.memory)
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:
            self._length = len(self._samples.get())
        return self._length

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """Returns the sample at an index, or the list of a slice's; see `IPFSDataset`."""
        if isinstance(index, slice):
            check_slice(self, index, ImportedDataset.__getitem__)
            return self.__getitems__(range(*index.indices(len(self))))
        return self._samples.get().read(self._position(index))

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[Any]:
        """Returns a batch: what it needs is fetched together, then each sample is ``self[index]``.

        In the order of `indices`, as for `IPFSDataset`.
        """
        return self._batches.samples(
            self._concatenated,
            indices,
            self._known_length(),
            lambda index: self[operator.index(index)],
            self._policy,
            as_they_are=type(self).__getitem__ is ImportedDataset.__getitem__,
        )

    def prefetch(self, indices: Sequence[SupportsIndex]) -> None:
        """Starts fetching samples of the next batches; see `IPFSDataset.prefetch`."""
        self._batches.prefetch(self._concatenated, numbered(indices, self._known_length()))

    def __iter__(self) -> Iterator[Any]:
        if self._policy.raises and type(self).__getitem__ is ImportedDataset.__getitem__:
            return self._samples.get().iterate(0, len(self))
        # A subclass transforms samples where it indexes, and only by number one can be skipped.
        return self._policy.each(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._published.url}>"

    @property
    def skipped(self) -> int:
        """How many samples were skipped so far, in this process and its workers."""
        return self._policy.skipped

    def block_memory(self) -> int:
        """Returns how many bytes of verified blocks each process keeps."""
        return self._published.connections.options.memory

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns where each block ends, by number: a run of samples of about `size` bytes."""
        return self._samples.get().block_stops(size)

    def close(self) -> None:
        """Closes the connections of this process; a later use opens them again."""
        self._samples.pop()
        self._published.close()

    def _known_length(self) -> int:
        """Returns the length, 0 where the dataset cannot be loaded, as is said where a sample is read."""
        try:
            return len(self)
        except IPFSDatasetError:
            return 0

    def _position(self, index: SupportsIndex) -> int:
        position, length = as_integer(index), len(self)
        if not -length <= position < length:
            raise IndexError(
                f"{self._published.url!r} has {length} samples, none of them {position}"
            )
        return position % length
