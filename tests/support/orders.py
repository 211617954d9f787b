"""Datasets with the same few samples and each kind of order."""

from __future__ import annotations

from typing import Any

from torch.utils.data import ConcatDataset, Subset

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSDatasetExporter,
    IPFSIterableDataset,
    MixedDataset,
    ShuffleDataset,
)
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members


class Sampled:
    """A map-style dataset in the order of a sampler, as read by a loader, like a stream."""

    def __init__(self, dataset: Any, batch: int) -> None:
        self._dataset = dataset
        self._sampler = BlockShuffleSampler(
            dataset, batch_size=batch, lanes=(2, 2), distribution="uneven"
        )
        self.set_epoch = self._sampler.set_epoch
        self.state_dict = self._sampler.state_dict
        self.load_state_dict = self._sampler.load_state_dict

    def __iter__(self):
        return (self._dataset[number] for number in self._sampler)


class Made:
    """Creates the datasets of one kind."""

    def __init__(self, folder):
        store = Store(folder)
        self._address = store.address
        self._archive = store.file(zip_bytes(members(11, "z")))
        self._tar = store.file(tar_bytes(members(7, "t")))
        self._packed = store.file(tar_bytes(members(5, "p"), "w:gz"))
        self._exporter = IPFSDatasetExporter(store.address, progress=False)
        self._published = self._exporter.export_to_ipfs([(f"s{n}", n) for n in range(19)])

    def stream(self, batch, *, packed=False, **options):
        files = [self._archive, *([self._packed] if packed else []), self._tar]
        return IPFSIterableDataset(
            files, self._address, batch_size=batch, distribution="uneven", **options
        )

    def files(self):
        return IPFSDataset([self._archive, self._tar], self._address)

    def published(self):
        return self._exporter.import_from_ipfs(self._published)

    def buffered(self, dataset, batch):
        return ShuffleDataset(dataset, 5, batch_size=batch, lanes=(2, 2), distribution="uneven")

    def mixed(self, first, second, batch, **options):
        sources = {"first": (first, 0.7), "second": (second, 0.3)}
        return MixedDataset(sources, batch_size=batch, distribution="uneven", **options)


KINDS: dict[str, Any] = {
    "in order": lambda made, batch: made.stream(batch),
    "in lanes": lambda made, batch: made.stream(batch, lanes=(4, 2)),
    "in lanes that do not divide": lambda made, batch: made.stream(batch, lanes=(3, 5)),
    "shuffled objects": lambda made, batch: made.stream(batch, shuffle_urls=True),
    "shuffled blocks": lambda made, batch: made.stream(batch, shuffle_blocks=True),
    "buffer of a stream": lambda made, batch: made.buffered(made.stream(batch), batch),
    "buffer of files": lambda made, batch: made.buffered(made.files(), batch),
    "buffer of a published dataset": lambda made, batch: made.buffered(made.published(), batch),
    "buffer of numbers": lambda made, batch: made.buffered(range(21), batch),
    "sampler": lambda made, batch: Sampled(made.files(), batch),
    "sampler of a published dataset": lambda made, batch: Sampled(made.published(), batch),
    "sampler of a subset of a subset": lambda made, batch: Sampled(
        Subset(Subset(made.published(), range(18, 0, -1)), range(1, 18)), batch
    ),
    "sampler of a concatenation": lambda made, batch: Sampled(
        ConcatDataset([made.published(), Subset(made.files(), [3, 1])]), batch
    ),
    "compressed, in order": lambda made, batch: made.stream(batch, packed=True),
    "compressed, in lanes": lambda made, batch: made.stream(batch, packed=True, lanes=(2, 2)),
    "compressed, shuffled blocks": lambda made, batch: made.stream(
        batch, packed=True, shuffle_blocks=True
    ),
    "mixture": lambda made, batch: made.mixed(made.files(), made.published(), batch),
    "mixture of streams": lambda made, batch: made.mixed(
        made.stream(None, packed=True), made.published(), batch, stop="all"
    ),
}
