"""Samples of nested `Subset` and `ConcatDataset` compositions, fetched together.

Torch's `ConcatDataset` reads samples one by one, so a batch would need as many fetches as it has samples.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch.utils.data import ConcatDataset, Subset

from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.runtime.short_traceback import short_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@runtime_checkable
class EachRead(Protocol):
    """A dataset that reports which samples of a batch it skipped, like `SampleAccess`."""

    def read_each_or_skip(self, indices: Sequence[int]) -> list[list[Any]]:
        """Returns the sample of each index in a list of its own, which is empty if the sample is skipped."""

    def read_instead(self, index: int) -> Any:
        """Returns the sample that stands in for one that is skipped."""


class JoinedDatasets(ConcatDataset[Any]):
    """Several map-style datasets in sequence, ``first + second``, whose batches are fetched together."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Returns a batch; the samples of each dataset are fetched together.

        Args:
            indices: Integers.

        Raises:
            IndexError: There is no such sample.
            IPFSDatasetError: An object could not be found, fetched, verified or read.
        """
        with short_traceback:
            batch = [sample for found in read_each(self, indices) for sample in found]
            if batch or not len(indices):
                return batch
            return _read_instead(self, indices[-1])

    def __repr__(self) -> str:
        """Returns the type, the number of samples and the datasets."""
        return (
            f"<{type(self).__name__} {len(self)} samples of {', '.join(map(repr, self.datasets))}>"
        )

    def __add__(self, other: Any) -> JoinedDatasets:
        """Returns these datasets followed by another."""
        return JoinedDatasets([*self.datasets, other])


def read_each(dataset: Any, numbers: Sequence[int]) -> list[list[Any]]:
    """Returns the sample of each number in a list of its own, which is empty if the sample is skipped.

    Args:
        dataset: A map-style dataset, or a composition of several.
        numbers: The numbers of samples; negative ones count from the end.

    Raises:
        IndexError: There is no such sample.
    """
    kind = type(dataset)
    if isinstance(dataset, EachRead):
        return dataset.read_each_or_skip(numbers)
    # A subclass with a __getitem__ of its own changes samples.
    if isinstance(dataset, Subset) and kind.__getitem__ is Subset.__getitem__:
        return read_each(dataset.dataset, [dataset.indices[number] for number in numbers])
    if isinstance(dataset, ConcatDataset) and kind.__getitem__ is ConcatDataset.__getitem__:
        return _read_joined(dataset, numbers)
    if not hasattr(dataset, "__getitems__"):
        return [[dataset[number]] for number in numbers]
    samples = dataset.__getitems__(numbers)
    if len(samples) == len(numbers):
        return [[sample] for sample in samples]
    return [dataset.__getitems__([number]) for number in numbers]  # some are skipped


def each_or_alone(
    read: Callable[[Sequence[int]], list[list[Any]]], numbers: Sequence[int]
) -> Iterable[list[Any]]:
    """Returns what `read` does; if the user's code fails on a sample, the others are read alone.

    Args:
        read: Returns the sample of each number, as `read_each` does.
        numbers: The numbers of samples.
    """
    try:
        return read(numbers)
    except Exception as error:
        if not loses_one(error):
            raise
        # The error is raised again at the place of its sample.
        return (read([number])[0] for number in numbers)


def loses_one(error: BaseException) -> bool:
    """Returns whether an error of the user's code, such as a transform, loses a single sample."""
    return isinstance(error, Exception) and not isinstance(error, (IPFSDatasetError, MemoryError))


def part_with(dataset: ConcatDataset[Any], number: int) -> tuple[int, int]:
    """Returns the dataset that contains a sample of several, and the sample's number in it.

    Args:
        dataset: The datasets.
        number: The number of the sample, from 0.
    """
    part = bisect_right(dataset.cumulative_sizes, number)
    return part, number - (dataset.cumulative_sizes[part - 1] if part else 0)


def _read_instead(dataset: Any, number: int) -> list[Any]:
    """Returns a list of the sample that stands in for one that is skipped, empty if none does."""
    if isinstance(dataset, Subset):
        return _read_instead(dataset.dataset, dataset.indices[number])
    if isinstance(dataset, ConcatDataset):
        part, within = part_with(dataset, number % len(dataset))
        return _read_instead(dataset.datasets[part], within)
    return [dataset.read_instead(number)] if isinstance(dataset, EachRead) else []


def _read_joined(dataset: ConcatDataset[Any], numbers: Sequence[int]) -> list[list[Any]]:
    count = len(dataset)
    found: list[list[Any]] = [[] for _ in numbers]
    places: dict[int, list[tuple[int, int]]] = {}
    for place, number in enumerate(numbers):
        if not -count <= number < count:
            raise IndexError(f"sample {number} of {count} in {len(dataset.datasets)} datasets")
        part, within = part_with(dataset, number % count)
        places.setdefault(part, []).append((place, within))
    for part, wanted in places.items():
        samples = read_each(dataset.datasets[part], [number for _, number in wanted])
        for (place, _), sample in zip(wanted, samples, strict=True):
            found[place] = sample
    return found
