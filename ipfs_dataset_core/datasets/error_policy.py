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
from ipfs_dataset_core.runtime.shared_tensors import share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipfs_dataset_core.options import Options

T = TypeVar("T")

log = logging.getLogger(__name__)

# One counter per worker, and the first for the process itself: no process adds to another's counter.
_COUNTERS = 65


class Skipped(Enum):
    """Placeholder for a sample that is skipped."""

    SAMPLE = "skipped"


class ErrorPolicy:
    """Skips or raises samples that cannot be read; counts those skipped in this process and its workers.

    Args:
        options: Its `handler` and `max_failures` are used.
    """

    def __init__(self, options: Options) -> None:
        self._handler = options.handler
        self._max_in_a_row = options.max_failures
        self._in_a_row = 0
        self._counts = torch.zeros(_COUNTERS, dtype=torch.int64)
        share(self._counts)
        self._here = threading.local()

    @property
    def raises(self) -> bool:
        """Whether every failure is raised."""
        return self._handler == "raise"

    @property
    def max_failures(self) -> int:
        """The number of consecutive failures at which an error is raised."""
        return self._max_in_a_row

    @property
    def skipped(self) -> int:
        """Number of samples, and objects that could not be opened, skipped so far."""
        return int(self._counts.sum())

    @property
    def skipped_here(self) -> int:
        """Number of those that were skipped in the calling thread."""
        count: int = getattr(self._here, "count", 0)
        return count

    def succeeded(self) -> None:
        """Ends a run of failures, because a sample was read."""
        self._in_a_row = 0

    def may_skip(self, error: IPFSDatasetError) -> bool:
        """Returns whether a sample with this error is to be skipped, regardless of previous failures."""
        # A rejected cache folder is not the fault of a sample: all samples would be skipped.
        if self.raises or isinstance(error, CacheFolderError):
            return False
        return not callable(self._handler) or bool(self._handler(error))

    def skip_or_raise(self, error: IPFSDatasetError, what: str) -> None:
        """Counts and logs a failure that is to be skipped; raises any other.

        Args:
            error: The failure.
            what: Description of what is skipped, for the log.

        Raises:
            IPFSDatasetError: `error`, if the policy raises it, or after `max_failures` consecutive failures.
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
        """Adds to the number of skipped samples.

        Args:
            samples: The number to add.
        """
        info = get_worker_info()
        self._counts[0 if info is None else 1 + info.id % (_COUNTERS - 1)] += samples
        self._here.count = self.skipped_here + samples

    def mark(self) -> tuple[int, int]:
        """Returns the current counts, for `reset`."""
        return self._in_a_row, self.skipped_here

    def reset(self, mark: tuple[int, int]) -> None:
        """Discards the failures of this thread since a mark, because the same samples are read again."""
        self._in_a_row, before = mark
        self.count_skipped(before - self.skipped_here)

    def read(
        self, read: Callable[[int], T], index: int, replacement: Replacement[T] | None = None
    ) -> T | Literal[Skipped.SAMPLE]:
        """Returns the result of `read` for an index, or `Skipped.SAMPLE` if the sample is skipped.

        Args:
            read: Reads a sample.
            index: The index of the sample.
            replacement: Finds a replacement for a skipped sample.
        """
        try:
            sample = read(index)
        except IPFSDatasetError as error:
            self.skip_or_raise(error, f"sample {index}")
            return Skipped.SAMPLE if replacement is None else replacement.of(index, error)
        self.succeeded()
        return sample

    def read_each(self, read: Callable[[int], T], indices: Iterable[int]) -> Iterator[T]:
        """Yields the result of `read` for each index, without skipped samples."""
        for index in indices:
            sample = self.read(read, index)
            if sample is not Skipped.SAMPLE:
                yield sample

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_here"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._here = threading.local()
        # If pickled to a worker, the memory is already shared; a copy's memory is not.
        share(self._counts)


class Replacement(Generic[T]):
    """Finds the replacement for a sample that cannot be read: the next sample of the data that can be.

    It depends on the data alone, so every rank and worker finds the same sample. The search wraps around at
    the end.

    Args:
        read: Reads the sample with a number.
        count: Number of samples.
        policy: Determines which errors may be skipped, and after how many failures the search ends.
    """

    def __init__(self, read: Callable[[int], T], count: int, policy: ErrorPolicy) -> None:
        self._read = read
        self._count = count
        self._policy = policy
        self._unreadable: set[int] = set()

    def of(self, position: int, error: IPFSDatasetError) -> T:
        """Returns the replacement for a sample.

        Args:
            position: The number of that sample.
            error: The reason why it cannot be read.

        Raises:
            IPFSDatasetError: `error`, if the following samples cannot be read either; or another error that
                must not be skipped.
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
