"""What happens to samples that cannot be read: by the user's word they are skipped, but always counted."""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch.utils.data import get_worker_info

from ipfs_dataset_core.errors import (
    CacheFolderError,
    IPFSDatasetError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.runtime.error_location import with_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipfs_dataset_core.datasets.objects import DatasetObject
    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.options import Options

T = TypeVar("T")
Number = TypeVar("Number")

log = logging.getLogger(__name__)

# One place for each worker, and the first for the process itself: nobody adds to another's.
_PLACES = 65


class Skipped(Enum):
    """What stands where a sample would."""

    SAMPLE = "skipped"


class ErrorPolicy:
    """The user's policy, and how many samples it skipped in this process and its workers.

    Args:
        options: `handler` and `max_failures` count here.
    """

    def __init__(self, options: Options) -> None:
        self._handler = options.handler
        self._max_in_a_row = options.max_failures
        self._in_a_row = 0
        self._counts = torch.zeros(_PLACES, dtype=torch.int64)
        self._counts.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def raises(self) -> bool:
        """Whether every failure is raised."""
        return self._handler == "raise"

    @property
    def skipped(self) -> int:
        """How many samples, and objects that could not be opened, were skipped so far."""
        return int(self._counts.sum())

    def succeeded(self) -> None:
        """Notes a sample that was read."""
        self._in_a_row = 0

    def skip_or_raise(self, error: IPFSDatasetError, what: str) -> None:
        """Returns where the failure is to be skipped.

        Args:
            error: What happened.
            what: What is skipped.

        Raises:
            IPFSDatasetError: `error`, where the policy says so or too much failed in a row.
        """
        # A cache that is refused is no fault of a sample: all of them would be skipped.
        if isinstance(error, CacheFolderError):
            raise error
        if self.raises or (callable(self._handler) and not self._handler(error)):
            raise error
        self._in_a_row += 1
        if self._in_a_row >= self._max_in_a_row:
            raise with_message(
                error,
                f"{error} (the {self._in_a_row}. failure in a row; max_failures allows fewer)",
            ) from error
        info = get_worker_info()
        self._counts[0 if info is None else 1 + info.id % (_PLACES - 1)] += 1
        level = logging.WARNING if self._handler == "warn" else logging.INFO
        log.log(level, "Skipped %s: %s", what, error)

    def each(self, get: Callable[[Number], T], indices: Iterable[Number]) -> Iterator[T]:
        """Yields samples by number, but for those that are skipped."""
        for index in indices:
            sample = self.get(get, index)
            if sample is not Skipped.SAMPLE:
                yield sample

    def get(self, get: Callable[[Number], T], index: Number) -> T | Literal[Skipped.SAMPLE]:
        """Returns a sample by number, or that it is skipped."""
        try:
            sample = get(index)
        except IPFSDatasetError as error:
            self.skip_or_raise(error, f"sample {index}")
            return Skipped.SAMPLE
        self.succeeded()
        return sample

    def shards(self, items: Iterable[DatasetObject], *, in_order: bool = False) -> Iterator[Shard]:
        """Yields the shards of objects, but for objects that cannot be opened and are skipped.

        Args:
            items: The objects.
            in_order: Whether this process reads all of each, one after the other.
        """
        for item in items:
            try:
                shards = item.shards(in_order=in_order)
            except IPFSDatasetError as error:
                self.skip_or_raise(error, item.name)
            else:
                yield from shards

    def samples(self, shard: Shard) -> Iterator[Sample]:
        """Yields all samples of a shard, but for those that are skipped."""
        if self.raises:
            yield from shard.samples()
            return
        try:
            count = shard.count() if shard.is_counted() else None
        except IPFSDatasetError as error:
            self.skip_or_raise(error, shard.what)
            return
        if count is None:
            yield from self._in_order(shard)
        else:
            yield from self.between(shard, 0, count)

    def between(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
        """Yields a range of a shard's samples, but for those that are skipped."""
        if self.raises:
            yield from shard.between(start, stop)
            return
        position = start
        while position < stop:
            try:
                for sample in shard.between(position, stop):
                    position += 1
                    self.succeeded()
                    yield sample
            except IPFSDatasetError as error:
                yield from self._by_number(shard, position, error)
                position += 1
            else:
                return

    def slice(self, shard: Shard, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples of a slice of a shard, but for those that are skipped."""
        if self.raises:
            yield from shard.slice(start, stop)
            return
        while start < stop:
            if (numbers := shard.numbers(start, stop)) is not None:
                yield from self.between(shard, *numbers)
                return
            found = 0
            name: str | None = None
            try:
                for sample in shard.slice(start, stop):
                    found += 1
                    name = sample[0]
                    self.succeeded()
                    yield sample
            except IPFSDatasetError as error:
                try:
                    position, after = shard.resume(start, found, name)
                except IPFSDatasetError:
                    self.skip_or_raise(error, f"the rest of a slice of {shard.what}")
                    return
                yield from self._by_number(shard, position, error)
                start = after
            else:
                return

    def _in_order(self, shard: Shard) -> Iterator[Sample]:
        """Yields a shard's samples as they come; by number after a sample that cannot be read."""
        position = 0
        try:
            for sample in shard.samples():
                position += 1
                self.succeeded()
                yield sample
        except IPFSDatasetError as error:
            try:
                count = shard.count()
            except IPFSDatasetError:  # no random access: nothing says where the next sample begins
                self.skip_or_raise(error, f"the rest of {shard.what}")
                return
            if position >= count:  # what fails is behind the last sample, such as a missing end
                self.skip_or_raise(error, f"the rest of {shard.what}")
                return
            yield from self._by_number(shard, position, error)
            yield from self.between(shard, position + 1, count)

    def _by_number(self, shard: Shard, position: int, error: IPFSDatasetError) -> Iterator[Sample]:
        """Yields the sample at which reading in order failed, where it can be read by itself.

        What is read ahead may be damaged and the sample itself sound.

        Args:
            shard: What it belongs to.
            position: Its number.
            error: What happened. A source that does not deliver is not asked anew: that takes long.
        """
        if not isinstance(error, TransportError) or isinstance(error, ObjectNotFoundError):
            try:
                sample = shard.get(position)
            except IPFSDatasetError as again:
                error = again
            else:
                self.succeeded()
                yield sample
                return
        self.skip_or_raise(error, f"sample {position} of {shard.what}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # What came to a worker is shared already; a copy is not.
        self._counts.share_memory_()  # type: ignore[no-untyped-call]
