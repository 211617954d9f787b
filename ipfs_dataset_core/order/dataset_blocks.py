"""The shuffle blocks of a map-style dataset, or of a `Subset` of one: runs of samples that lie together."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch.utils.data import Subset

from ipfs_dataset_core.order.order_state import IdentifiedDataset
from ipfs_dataset_core.order.shuffled_blocks import ShuffleBlockOrder, WindowStep, default_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


@runtime_checkable
class BlockwiseDataset(Protocol):
    """A map-style dataset with shuffle blocks: it returns which of its samples lie together."""

    def block_memory(self) -> int:
        """Returns how many bytes of verified blocks each process keeps."""

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns where each run of about `size` bytes of samples ends, by number."""

    def __len__(self) -> int:
        """Returns the number of samples."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Returns several samples, fetched together."""


class DatasetBlocks:
    """The shuffle blocks of a dataset, or of a `Subset` of one, whatever order the subset has.

    Attributes:
        size: About how many bytes a shuffle block has.

    Args:
        dataset: Its blocks are looked up when an order is made.
        size: About how many bytes a shuffle block has, by default as many as `block_memory` allows.

    Raises:
        TypeError: The dataset has no `block_stops` and `block_memory`.
    """

    def __init__(self, dataset: Any, size: int | None = None) -> None:
        self._subset = dataset if isinstance(dataset, Subset) else None
        whole = dataset if self._subset is None else self._subset.dataset
        if not isinstance(whole, BlockwiseDataset):
            raise TypeError(
                f"{type(whole).__name__} does not say which of its samples lie together: give an "
                "IPFSDataset, an imported dataset or a Subset of one, or add block_stops and block_memory"
            )
        self._whole = whole
        self.size = default_block(whole.block_memory()) if size is None else size

    def block_memory(self) -> int:
        """Returns how many bytes of verified blocks each process keeps."""
        return self._whole.block_memory()

    def order(self, window: int, *key: object) -> Callable[[int, int, int], Iterator[WindowStep]]:
        """Returns what yields the numbers of the samples of a stretch of the shuffled order.

        It takes the bounds of the stretch, and how many of its samples to leave out, see
        `ShuffleBlockOrder.steps`.

        Args:
            window: How many shuffle blocks are mixed.
            key: What the order depends on.

        Raises:
            ValueError: The dataset's blocks do not end where its samples do.
        """
        if not self.fit:
            raise ValueError(
                f"{type(self._whole).__name__} has {len(self._whole)} samples, and its block_stops end "
                "elsewhere: a subclass that numbers its samples otherwise says where their blocks end, too"
            )
        stops, places = self._sorted
        steps = ShuffleBlockOrder(stops, window, *key).steps
        if places is None:
            return steps

        def placed(samples: Iterable[int]) -> list[int]:
            return list(map(places.__getitem__, samples))

        return lambda start, stop, skip: (
            WindowStep(placed(step.samples), list(map(placed, step.entering)))
            for step in steps(start, stop, skip)
        )

    def prefetch(self, samples: Iterable[int]) -> None:
        """Passes a prefetch hint for samples of a `Subset` on to its dataset, if that has `prefetch`."""
        prefetch = getattr(self._whole, "prefetch", None)
        if prefetch is not None and self._subset is not None:
            prefetch([self._subset.indices[sample] for sample in samples])

    def content_id(self) -> str:
        """Returns what the samples are made of, "" where the dataset does not say."""
        content = self._whole.content_id() if isinstance(self._whole, IdentifiedDataset) else ""
        if self._subset is None:
            return content
        chosen = hashlib.sha256(array("Q", self._subset.indices)).hexdigest()
        return f"{content}, of which {chosen}"

    @property
    def are_of_subset(self) -> bool:
        """Whether the dataset is a `Subset`."""
        return self._subset is not None

    @property
    def fit(self) -> bool:
        """Whether the dataset's blocks end where its samples do."""
        stops = self._stops_of_whole
        return (stops[-1] if stops else 0) == len(self._whole)

    @cached_property
    def _stops_of_whole(self) -> Sequence[int]:
        return self._whole.block_stops(self.size)

    @cached_property
    def _sorted(self) -> tuple[Sequence[int], Sequence[int] | None]:
        """The ends of the blocks, and for a subset the numbers of its samples in the order of the blocks."""
        if self._subset is None:
            return self._stops_of_whole, None
        index = self._subset.indices.__getitem__
        places = array("Q", sorted(range(len(self._subset.indices)), key=index))
        left = {bisect_left(places, stop, key=index) for stop in self._stops_of_whole}
        return array("Q", sorted(left - {0})), places


def blocks_of(dataset: Any) -> DatasetBlocks | None:
    """Returns the shuffle blocks of a dataset, None if it has none or numbers its samples differently."""
    whole = dataset.dataset if isinstance(dataset, Subset) else dataset
    if not isinstance(whole, BlockwiseDataset):
        return None
    blocks = DatasetBlocks(dataset)
    return blocks if blocks.fit else None
