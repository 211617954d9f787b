"""Samples by number: the common interface of everything with random access to samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class IndexedSamples(ABC):
    """Random access to samples, which are numbered from 0.

    The shards of a dataset, their concatenation, and published datasets implement it. Batches, shuffled
    orders and map-style datasets use nothing else.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of samples."""

    @abstractmethod
    def read(self, position: int) -> Any:
        """Returns one sample.

        Args:
            position: From 0 to the length, exclusive.
        """

    def read_each(self, positions: Iterable[int]) -> Iterator[Any]:
        """Yields several samples, each as returned by `read`.

        This method reads batches. By default it calls `read` for each sample. Override it if reading
        neighbours together is faster: `ObjectFile.piece_at` returns the whole block that contains a sample.

        Args:
            positions: In ascending order; may contain duplicates.
        """
        return map(self.read, positions)

    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        """Yields the samples from `start` to `stop`, exclusive, in order, reading sequentially."""
        return self.read_each(range(start, stop))

    def prefetch(self, positions: Sequence[int]) -> None:
        """Starts fetching samples that will be read soon, together.

        Args:
            positions: In ascending order.
        """

    def is_cached(self, positions: Sequence[int]) -> bool:
        """Returns whether samples are in memory or being fetched; False if unknown.

        If so, they are read without calling `prefetch`, which takes longer than reading them.

        Args:
            positions: In ascending order.
        """
        return False

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        """Yields approximately how many bytes each sample needs beyond those needed by the samples before it.

        A batch whose blocks do not fit in memory is fetched in parts; see `ObjectFile.fetch_bytes`. The
        default is 0 for each sample, so that any batch fits.

        Args:
            positions: In ascending order.
        """
        return (0 for _ in positions)

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns the end of each shuffle block, a run of neighbours that a shuffled order keeps together.

        By default each sample is a block of its own.

        Args:
            size: Approximate size of a shuffle block in bytes.

        Returns:
            Sample numbers in ascending order; the last one is the number of samples. Empty if there are none.
        """
        return range(1, len(self) + 1)


def reads_one_by_one(kind: type) -> bool:
    """Returns whether a class overrides `read`, but inherits a `read_each` written for another `read`.

    A subclass that only overrides `read` changes every sample, even if a base class has its own `read_each`.
    In that case, several samples must be read with one call of `read` each.

    Args:
        kind: A class with methods `read` and `read_each`.
    """
    nearest = next(base for base in kind.__mro__ if {"read", "read_each"} & vars(base).keys())
    return "read_each" not in vars(nearest)
