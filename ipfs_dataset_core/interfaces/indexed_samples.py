"""Samples by number: the one protocol of everything that gives random access to samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class IndexedSamples(ABC):
    """Random access to samples, which are numbered from 0.

    The shards of a dataset, all of its shards one after the other, and published datasets implement it.
    Batches, shuffled orders and map-style datasets need nothing else.
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
        """Yields several samples, each as `read` returns it.

        Batches are read so. By default `read` is called for each. Override it where neighbours cost less
        together than each by itself: `ObjectFile.piece_at` returns the whole block that one is in.

        Args:
            positions: In ascending order; one may be there twice.
        """
        return map(self.read, positions)

    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        """Yields the samples from `start` to `stop`, exclusive, in order, reading sequentially."""
        return self.read_each(range(start, stop))

    def prefetch(self, positions: Sequence[int]) -> None:
        """Starts fetching what these samples need, together, since they will be read soon.

        Args:
            positions: In ascending order.
        """

    def is_cached(self, positions: Sequence[int]) -> bool:
        """Returns whether all that samples need is in memory or being fetched; False where that is not known.

        Then they are read without `prefetch`, which takes longer than to read them.

        Args:
            positions: In ascending order.
        """
        return False

    def fetch_bytes(self, positions: Iterable[int]) -> Iterator[int]:
        """Yields about how many bytes each sample needs besides those that the samples before it need.

        A batch whose blocks do not fit in memory is fetched in parts; see `ObjectFile.fetch_bytes`. By
        default 0 for each: any batch fits.

        Args:
            positions: In ascending order.
        """
        return (0 for _ in positions)

    def block_stops(self, size: int) -> Sequence[int]:
        """Returns where each shuffle block ends: a run of neighbours that a shuffled order keeps together.

        By default each sample is one.

        Args:
            size: About how many bytes a shuffle block has.

        Returns:
            Numbers of samples, ascending; the last is the number of samples. Without samples there is none.
        """
        return range(1, len(self) + 1)


def reads_one_by_one(kind: type) -> bool:
    """Tells whether a class has a `read` of its own and inherits a `read_each` that was made for another.

    A subclass that overrides `read` alone changes every sample, whatever `read_each` a base class has. Code
    that reads several samples of a plugin has to call `read` for each of them then.

    Args:
        kind: Has a method `read`, and `read_each` for several samples.
    """
    nearest = next(base for base in kind.__mro__ if {"read", "read_each"} & vars(base).keys())
    return "read_each" not in vars(nearest)
