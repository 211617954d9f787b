"""The user's policy for samples that cannot be read: raise, or skip and count."""

from __future__ import annotations

import logging
import threading
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import torch
from torch.utils.data import get_worker_info

from ipfs_dataset_core.errors import CacheFolderError, IPFSDatasetError
from ipfs_dataset_core.runtime.error_location import with_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipfs_dataset_core.options import Options

T = TypeVar("T")

log = logging.getLogger(__name__)

# One counter for each worker, and the first for the process itself: no process adds to another's.
_COUNTERS = 65


class Skipped(Enum):
    """Stands in the place of a sample that is skipped."""

    SAMPLE = "skipped"


class ErrorPolicy:
    """Skips samples that cannot be read, or raises; counts what this process and its workers skip.

    Args:
        options: Its `handler` and `max_failures` are used.
    """

    def __init__(self, options: Options) -> None:
        self._handler = options.handler
        self._max_in_a_row = options.max_failures
        self._in_a_row = 0
        self._counts = torch.zeros(_COUNTERS, dtype=torch.int64)
        self._counts.share_memory_()  # type: ignore[no-untyped-call]
        self._here = threading.local()

    @property
    def raises(self) -> bool:
        """Whether every failure is raised."""
        return self._handler == "raise"

    @property
    def max_failures(self) -> int:
        """The number of failures in a row at which an error is raised."""
        return self._max_in_a_row

    @property
    def skipped(self) -> int:
        """How many samples, and objects that could not be opened, were skipped so far."""
        return int(self._counts.sum())

    @property
    def skipped_here(self) -> int:
        """How many of them were skipped in the calling thread."""
        count: int = getattr(self._here, "count", 0)
        return count

    def succeeded(self) -> None:
        """Ends a run of failures: a sample was read."""
        self._in_a_row = 0

    def may_skip(self, error: IPFSDatasetError) -> bool:
        """Tells whether a sample that failed like this is to be skipped, however many failed before."""
        # A cache that is refused is no fault of a sample: all of them would be skipped.
        if self.raises or isinstance(error, CacheFolderError):
            return False
        return not callable(self._handler) or bool(self._handler(error))

    def skip_or_raise(self, error: IPFSDatasetError, what: str) -> None:
        """Counts and logs a failure that is to be skipped, and raises any other.

        Args:
            error: What happened.
            what: What is skipped, for the log.

        Raises:
            IPFSDatasetError: `error`, where the policy is to raise it, or `max_failures` failed in a row.
        """
        if not self.may_skip(error):
            raise error
        self._in_a_row += 1
        if self._in_a_row >= self._max_in_a_row:
            raise with_message(
                error,
                f"{error} (failure number {self._in_a_row} in a row; max_failures allows fewer)",
            ) from error
        self.count_skipped(1)
        level = logging.WARNING if self._handler == "warn" else logging.INFO
        log.log(level, "Skipped %s: %s", what, error)

    def count_skipped(self, samples: int) -> None:
        """Adds to the number of samples that were skipped.

        Args:
            samples: How many more.
        """
        info = get_worker_info()
        self._counts[0 if info is None else 1 + info.id % (_COUNTERS - 1)] += samples
        self._here.count = self.skipped_here + samples

    def mark(self) -> tuple[int, int]:
        """Returns what `reset` needs to forget the failures that follow."""
        return self._in_a_row, self.skipped_here

    def reset(self, mark: tuple[int, int]) -> None:
        """Forgets the failures of this thread since a mark, because the same samples are read again."""
        self._in_a_row, before = mark
        self.count_skipped(before - self.skipped_here)

    def read(
        self, read: Callable[[int], T], index: int, replacement: Replacement[T] | None = None
    ) -> T | Literal[Skipped.SAMPLE]:
        """Returns what `read` returns for an index, or `Skipped.SAMPLE` where the sample is skipped.

        Args:
            read: Reads a sample.
            index: Which one.
            replacement: Finds what to return in the place of a sample that is skipped.
        """
        try:
            sample = read(index)
        except IPFSDatasetError as error:
            self.skip_or_raise(error, f"sample {index}")
            return Skipped.SAMPLE if replacement is None else replacement.of(index, error)
        self.succeeded()
        return sample

    def read_each(self, read: Callable[[int], T], indices: Iterable[int]) -> Iterator[T]:
        """Yields what `read` returns for each index, without the samples that are skipped."""
        for index in indices:
            sample = self.read(read, index)
            if sample is not Skipped.SAMPLE:
                yield sample

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_here"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._here = threading.local()
        # Pickled to a worker, the memory is shared already; a copy's is not.
        self._counts.share_memory_()  # type: ignore[no-untyped-call]


class Replacement(Generic[T]):
    """Finds what stands in the place of a sample that cannot be read: the next one of the data that can be.

    So it depends on the data alone, and every rank and worker finds the same. After the last sample comes the
    first.

    Args:
        read: Reads the sample of a number.
        count: How many samples there are.
        policy: What may be skipped, and how many of the samples that follow may fail before the search ends.
    """

    def __init__(self, read: Callable[[int], T], count: int, policy: ErrorPolicy) -> None:
        self._read = read
        self._count = count
        self._policy = policy
        self._unreadable: set[int] = set()

    def of(self, position: int, error: IPFSDatasetError) -> T:
        """Returns the sample that stands in for another.

        Args:
            position: The number of that sample.
            error: Why it cannot be read.

        Raises:
            IPFSDatasetError: `error`, where the samples that follow cannot be read either, or another one
                that is not to be skipped.
        """
        self._unreadable.add(position % self._count)
        left = self._policy.max_failures
        for behind in range(1, self._count):
            other = (position + behind) % self._count
            if other in self._unreadable:
                continue
            try:
                return self._read(other)
            except IPFSDatasetError as another:
                if not self._policy.may_skip(another):
                    raise
                self._unreadable.add(other)
                left -= 1
                if left == 0:
                    break
        raise error
