"""A published dataset as a map-style PyTorch dataset."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import attrs
from torch.utils.data import Dataset

from ipfs_dataset_core.datasets.describing import outline_text
from ipfs_dataset_core.datasets.map_style import SampleAccess
from ipfs_dataset_core.datasets.splits import splits_of_published
from ipfs_dataset_core.datasets.transforms import TransformedSamples, sample_transform
from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.runtime.human import human_size
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.runtime.short_traceback import short_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset_core.datasets.published import Published
    from ipfs_dataset_core.datasets.splits import DatasetSplit
    from ipfs_dataset_core.datasets.transforms import SampleTransform
    from ipfs_dataset_core.interfaces import (
        DatasetInfo,
        IndexedSamples,
        ObjectFile,
        PublishedSamples,
    )
    from ipfs_dataset_core.interfaces.dataset_card import DatasetCard


class ImportedDataset(SampleAccess, Dataset[Any]):
    """The samples of a published dataset, equal to the exported ones and in their order.

    Indexing reads a single sample; iterating reads sequentially and is faster. Each process opens the dataset
    for itself, so DataLoader workers may be forked or spawned.

    Args:
        published: The published dataset.
        transform: Applied to each sample when it is read, in the process that reads it: to the first part of
            a tuple, or to the whole of any other sample.
        target_transform: Applied to the second part of samples that are tuples.
    """

    _most_outlines = 3

    def __init__(
        self,
        published: Published,
        *,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(published.root.connections, published.root.name)
        self._published = published
        self._sample_transform = sample_transform(transform, target_transform, data=0)
        self._samples = ProcessLocal(_Opener(published, self._sample_transform))
        if published.info is not None:
            self._length = published.info.samples

    @property
    def schema(self) -> Any:
        """The structure of samples before transforms, such as ``("image", "int")``.

        Containers appear as in the samples, with a type name in place of each value. None if the structure of
        samples differs, or the form does not record it.
        """
        return self.info.schema if self.info is not None else None

    @property
    def card(self) -> DatasetCard | None:
        """The author's description of the dataset, with its name, licence and so on; None without a card."""
        return self.info.card if self.info is not None else None

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their numbers, as in torchvision; empty if there are none."""
        return sorted(self.class_to_idx, key=self.class_to_idx.__getitem__)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class by its name, as in torchvision; empty if the classes have no names."""
        return dict(self.info.classes) if self.info is not None else {}

    @property
    def info(self) -> DatasetInfo | None:
        """The dataset's statements about itself; None if its form has none."""
        return self._published.info

    def files(self, index: int) -> dict[str, bytes]:
        """Returns the files of a published sample, by the part of their names after the key: ``image.png``.

        Args:
            index: The number of the sample, from 0 to the length, exclusive.

        Raises:
            NotImplementedError: The form does not publish samples as files.
        """
        with short_traceback:
            return self._published_samples().files(index)

    def sizes(self, start: int, stop: int) -> Iterator[int | None]:
        """Yields the size in bytes of each sample from `start` to `stop`, exclusive; None if unknown."""
        return self._published_samples().sizes(start, stop)

    def shards(self) -> list[PublishedShard]:
        """Returns the files that contain the samples, in order; fetches nothing.

        Raises:
            FormatError: The form does not record its shards.
        """
        samples = self._published_samples()
        sizes, cids = samples.shard_sizes(), samples.shard_cids()
        if sizes is None or cids is None:
            raise FormatError(f"{self._name!r} is of a form that does not record its shards")
        firsts = accumulate((count for count, _ in sizes), initial=0)
        return [
            PublishedShard(cid, first, count)
            for cid, first, (count, _) in zip(cids, firsts, sizes, strict=False)
        ]

    def span(self, index: int) -> tuple[ObjectFile, int, int]:
        """Returns the file that contains a sample, and the sample's start and stop in it.

        Args:
            index: The number of the sample, from 0 to the length, exclusive.

        Raises:
            NotImplementedError: The form does not record the positions of samples.
        """
        return self._published_samples().span(index)

    def _published_samples(self) -> PublishedSamples:
        return self._samples.get()[0]

    def content_id(self) -> str:
        """Returns the dataset's CID."""
        return self._published.content_id()

    def _described(self) -> Iterator[str]:
        info = self.info
        if info is not None:
            schema = f" x {self._outline(info.schema)}" if info.schema is not None else " samples"
            yield f"{info.samples:,}{schema}"
            if info.size is not None:
                yield human_size(info.size)
        sources = self._connections.describe(self._published.root.gateway)
        yield f"{self.content_id()} from {sources}"

    def _outline(self, schema: Any) -> str:
        """Describes the structure of a sample, with sizes if all samples read so far have the same."""
        seen = set(self._outlines)
        if len(seen) == 1 and self._sample_transform is None and self._unchanged:
            return seen.pop()
        return outline_text(schema)

    def _indexed(self) -> IndexedSamples:
        return self._samples.get()[1]

    def _stored_splits(self, split_bytes: int | str, *, index: bool) -> list[DatasetSplit]:
        return splits_of_published(self._published, split_bytes, self._sample_transform)

    def _close_samples(self) -> None:
        self._samples.pop()


@attrs.frozen
class PublishedShard:
    """A file that contains samples of a published dataset.

    Attributes:
        cid: Its CID.
        first: Number of its first sample.
        samples: Number of samples in it.
    """

    cid: str
    first: int
    samples: int


@attrs.frozen
class _Opener:
    """Opens the samples in each process; can be pickled."""

    published: Published
    transform: SampleTransform | None

    def __call__(self) -> tuple[PublishedSamples, IndexedSamples]:
        samples = self.published.load()
        if self.transform is None:
            return samples, samples
        return samples, TransformedSamples(samples, self.transform)
