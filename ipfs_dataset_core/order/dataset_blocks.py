"""Shuffle blocks of map-style datasets, subsets and concatenations: runs of samples stored together."""

from __future__ import annotations

import hashlib
import operator
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch.utils.data import ChainDataset, ConcatDataset, IterableDataset, StackDataset, Subset

from ipfs_dataset_core.order.order_state import IdentifiedDataset, joined_ids
from ipfs_dataset_core.order.shuffled_blocks import ShuffleBlockOrder, WindowStep, default_block
from ipfs_dataset_core.runtime.cached_property import cached_property

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Stands for a dataset without an identity within a composition.
_UNKNOWN = "unknown data"


@runtime_checkable
class BlockwiseDataset(Protocol):
    """A map-style dataset with shuffle blocks, which groups samples that are stored together."""

    def block_memory(self) -> int:
        """Returns the number of bytes of verified blocks that each process keeps in memory."""

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns the end of each run of samples of about `size` bytes, as the number of the next sample."""

    def __len__(self) -> int:
        """Returns the number of samples."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Returns several samples, fetched together."""


class _Part(Protocol):
    """A dataset with shuffle blocks, or a composition of several."""

    def __len__(self) -> int:
        """Returns the number of samples."""

    def memory(self) -> int:
        """Returns the number of bytes of blocks that a process keeps, the minimum of all datasets."""

    def stops(self, size: int) -> Sequence[int]:
        """Returns the ends of the blocks, with samples in storage order."""

    def places(self) -> Sequence[int] | None:
        """Returns the numbers of the samples in storage order; None if that is their own order."""

    def find(self, sample: int) -> tuple[Any, int]:
        """Returns the dataset that contains a sample, and the sample's number in it."""

    def content_id(self) -> str:
        """Returns an identifier of the samples, as far as it is known; "" if it is not."""

    def misfit(self, size: int) -> Any | None:
        """Returns a dataset whose last block does not end with its last sample; None if there is none."""


class _Whole:
    """A dataset with shuffle blocks."""

    def __init__(self, dataset: BlockwiseDataset) -> None:
        self._dataset = dataset
        self._stops: tuple[int, Sequence[int]] | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    def memory(self) -> int:
        return self._dataset.block_memory()

    def stops(self, size: int) -> Sequence[int]:
        if self._stops is None or self._stops[0] != size:
            self._stops = size, self._dataset.block_stops(size)
        return self._stops[1]

    def places(self) -> None:
        return None

    def find(self, sample: int) -> tuple[Any, int]:
        return self._dataset, sample

    def content_id(self) -> str:
        return self._dataset.content_id() if isinstance(self._dataset, IdentifiedDataset) else ""

    def misfit(self, size: int) -> Any | None:
        stops = self.stops(size)
        return None if (stops[-1] if stops else 0) == len(self) else self._dataset


class _Chosen:
    """Some samples of a part, in any order."""

    def __init__(self, part: _Part, indices: Sequence[Any]) -> None:
        # A subset of a subset becomes a subset of the innermost dataset.
        self._subset = part if isinstance(part, _Chosen) else None
        self._part: _Part = part if self._subset is None else self._subset._part  # noqa: SLF001
        self._given = indices

    def __len__(self) -> int:
        return len(self._given)

    def memory(self) -> int:
        return self._part.memory()

    def stops(self, size: int) -> Sequence[int]:
        places, key = self._sorted
        left = {bisect_left(places, stop, key=key) for stop in self._part.stops(size)}
        return array("Q", sorted(left - {0}))

    def places(self) -> Sequence[int]:
        return self._sorted[0]

    def find(self, sample: int) -> tuple[Any, int]:
        return self._part.find(self._indices[sample])

    def content_id(self) -> str:
        return _chosen_id(self._part.content_id() or _UNKNOWN, self._indices)

    def misfit(self, size: int) -> Any | None:
        return self._part.misfit(size)

    @cached_property
    def _indices(self) -> array[int]:
        count = len(self._part) if self._subset is None else len(self._subset)
        numbers = _numbers(self._given, count)
        if self._subset is None:
            return numbers
        return array("Q", map(self._subset._indices.__getitem__, numbers))  # noqa: SLF001

    @cached_property
    def _sorted(self) -> tuple[Sequence[int], Callable[[int], int]]:
        """The numbers of the chosen samples in storage order, and a function from sample to position."""
        indices, inner = self._indices, self._part.places()
        if inner is not None:
            place_of = array("Q", bytes(8 * len(inner)))
            for place, number in enumerate(inner):
                place_of[number] = place
            indices = array("Q", map(place_of.__getitem__, indices))
        key = indices.__getitem__
        return array("Q", sorted(range(len(indices)), key=key)), key


def _chosen_id(whole: str, numbers: array[int]) -> str:
    """Returns an identifier of some samples of a dataset with a known identifier."""
    return f"{whole}, of which {hashlib.sha256(numbers).hexdigest()}"


def _numbers(indices: Sequence[Any], count: int) -> array[int]:
    """Returns the numbers of samples, from 0, for the indices of a `Subset` of so many samples."""
    return array("Q", (_within(operator.index(index), count) for index in indices))


def _within(number: int, count: int) -> int:
    if not -count <= number < count:
        raise IndexError(f"a Subset has the index {number} of a dataset of {count} samples")
    return number % count


class _Joined:
    """Parts one after the other."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return self._starts[-1]

    def memory(self) -> int:
        return min(part.memory() for part in self._parts)

    def stops(self, size: int) -> Sequence[int]:
        return array(
            "Q",
            (
                start + stop
                for start, part in zip(self._starts, self._parts, strict=False)
                for stop in part.stops(size)
            ),
        )

    def places(self) -> Sequence[int] | None:
        placed = [part.places() for part in self._parts]
        if all(places is None for places in placed):
            return None
        return array(
            "Q",
            (
                start + number
                for start, part, places in zip(self._starts, self._parts, placed, strict=False)
                for number in (range(len(part)) if places is None else places)
            ),
        )

    def find(self, sample: int) -> tuple[Any, int]:
        part = bisect_right(self._starts, sample) - 1
        return self._parts[part].find(sample - self._starts[part])

    def content_id(self) -> str:
        ids = [part.content_id() for part in self._parts]
        return joined_ids(one or _UNKNOWN for one in ids) if any(ids) else ""

    def misfit(self, size: int) -> Any | None:
        found = (part.misfit(size) for part in self._parts)
        return next((dataset for dataset in found if dataset is not None), None)

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate(map(len, self._parts), initial=0))


class DatasetBlocks:
    """The shuffle blocks of a dataset, or of nested `Subset` and `ConcatDataset` compositions.

    Attributes:
        size: Approximate size of a shuffle block in bytes.

    Args:
        dataset: The dataset; its blocks are looked up when an order is made.
        size: Approximate size of a shuffle block in bytes, by default derived from `block_memory`.

    Raises:
        TypeError: A dataset lacks `block_stops` or `block_memory`.
    """

    def __init__(self, dataset: Any, size: int | None = None) -> None:
        self._part = _part(dataset)
        self._composed = not isinstance(self._part, _Whole)
        self.size = default_block(self._part.memory()) if size is None else size

    def block_memory(self) -> int:
        """Returns the number of bytes of verified blocks that each process keeps in memory."""
        return self._part.memory()

    def order(self, window: int, *key: object) -> Callable[[int, int, int], Iterator[WindowStep]]:
        """Returns a function that yields the sample numbers of a range of the shuffled order.

        The function takes the start and stop of the range, and the number of its samples to skip; see
        `ShuffleBlockOrder.steps`.

        Args:
            window: Number of shuffle blocks that are mixed.
            key: Values that determine the order.

        Raises:
            ValueError: The last block of a dataset does not end with its last sample.
            IndexError: A `Subset` has an index beyond the end of its dataset.
        """
        misfit = self._part.misfit(self.size)
        if misfit is not None:
            raise ValueError(
                f"{type(misfit).__name__} has {len(misfit)} samples, but its block_stops end "
                "elsewhere: a subclass that numbers its samples differently must also override block_stops"
            )
        steps = ShuffleBlockOrder(self._part.stops(self.size), window, *key).steps
        places = self._part.places()
        if places is None:
            return steps

        def placed(samples: Iterable[int]) -> list[int]:
            return list(map(places.__getitem__, samples))

        return lambda start, stop, skip: (
            WindowStep(placed(step.samples), list(map(placed, step.entering)))
            for step in steps(start, stop, skip)
        )

    def prefetch(self, samples: Iterable[int]) -> None:
        """Passes a prefetch hint on to the datasets that have a `prefetch` method."""
        found: dict[int, tuple[Any, list[int]]] = {}
        for sample in samples:
            dataset, number = self._part.find(sample)
            found.setdefault(id(dataset), (dataset, []))[1].append(number)
        for dataset, numbers in found.values():
            prefetch = getattr(dataset, "prefetch", None)
            if prefetch is not None:
                prefetch(numbers)

    def content_id(self) -> str:
        """Returns an identifier of the samples, as far as it is known; "" if it is not."""
        return self._part.content_id()

    def stops(self, size: int | None = None) -> Sequence[int]:
        """Returns the end of each block, as the number of samples before it in storage order.

        Args:
            size: Approximate size of a block in bytes, by default the `size` of this object.
        """
        return self._part.stops(self.size if size is None else size)

    @property
    def are_composed(self) -> bool:
        """Whether the dataset is a `Subset` or a `ConcatDataset`, which renumber other datasets."""
        return self._composed

    @property
    def fit(self) -> bool:
        """Whether the last block of each dataset ends with the dataset's last sample."""
        return self._part.misfit(self.size) is None


def parts_of(dataset: Any) -> list[Any]:
    """Returns the datasets that one of torch's combinations of several reads, none for any other dataset."""
    if isinstance(dataset, (ConcatDataset, ChainDataset)):
        found = dataset.datasets
    elif isinstance(dataset, StackDataset):
        found = dataset.datasets
        found = list(found.values()) if isinstance(found, dict) else found
    else:
        return []
    return (
        list(found) if isinstance(found, (list, tuple)) else []
    )  # not what can be iterated over once


def content_of(dataset: Any) -> str:
    """Returns what the samples of a dataset, or of a combination of several, are made of.

    It is "" where nothing is known.
    """
    if isinstance(dataset, IdentifiedDataset):
        return dataset.content_id()
    if isinstance(dataset, Subset):
        whole = content_of(dataset.dataset)
        return whole and _chosen_id(whole, _numbers(dataset.indices, len(dataset.dataset)))  # type: ignore[arg-type]
    ids = [content_of(part) for part in parts_of(dataset)]
    return joined_ids(one or _UNKNOWN for one in ids) if any(ids) else ""


def blocks_of(dataset: Any) -> DatasetBlocks | None:
    """Returns the shuffle blocks of a dataset; None if it has none or numbers its samples differently."""
    try:
        blocks = DatasetBlocks(dataset)
    except TypeError:
        return None
    return blocks if blocks.fit else None


def _part(dataset: Any) -> _Part:
    if isinstance(dataset, BlockwiseDataset) and not isinstance(dataset, type):
        return _Whole(dataset)
    if isinstance(dataset, Subset):
        return _Chosen(_part(dataset.dataset), dataset.indices)
    if isinstance(dataset, ConcatDataset):
        return _Joined([_part(joined) for joined in dataset.datasets])
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{type(dataset).__name__} is read in order, without a sampler: to shuffle it, give it "
            "shuffle_blocks=True, or wrap it in a ShuffleDataset"
        )
    raise TypeError(
        f"{type(dataset).__name__} does not define which of its samples are stored together: give an "
        "IPFSDataset, an imported dataset, a Subset or ConcatDataset of them, or add block_stops and "
        "block_memory"
    )
