"""Reads batches of samples: fetched together if the cache can hold all of them, otherwise in groups."""

from __future__ import annotations

import operator
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeGuard, TypeVar, cast

from ipfs_dataset_core.datasets.error_policy import Replacement
from ipfs_dataset_core.errors import IPFSDatasetError, PluginError
from ipfs_dataset_core.order.prefetch_hints import read_soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core.datasets.error_policy import ErrorPolicy, Skipped
    from ipfs_dataset_core.interfaces import IndexedSamples

T = TypeVar("T")

# A batch is random access if its first and last sample are at least this many batch lengths apart.
_SCATTERED = 8
# After this many hints without a batch, further hints have no effect.
_MOST_UNREAD_HINTS = 4


class BatchReader:
    """Reads batches of one dataset, and prefetches the samples named in hints.

    Args:
        memory: Capacity of the block cache in bytes.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._unread_hints = _MOST_UNREAD_HINTS
        self._prefetched: set[int | None] = set()

    def read_batch(
        self,
        samples: IndexedSamples,
        length: int,
        indices: Sequence[SupportsIndex],
        read: Callable[[int], T],
        policy: ErrorPolicy,
        *,
        unchanged: bool,
        replaces: bool = False,
    ) -> list[T | Literal[Skipped.SAMPLE]]:
        """Returns the result of `read` for each index, or `Skipped.SAMPLE`; blocks are fetched together.

        Args:
            samples: The samples of the dataset.
            length: Number of samples.
            indices: Indices as users give them; `read` raises for those out of range. Prefetch hints that a
                sampler attached to them are fetched as well.
            read: Reads the sample at an index.
            policy: The policy for samples that cannot be read.
            unchanged: Whether `read` returns samples exactly as `samples` does, so that they may be read from
                `samples` together.
            replaces: Whether a skipped sample is replaced by the next sample of the data that can be read.

        Raises:
            IPFSDatasetError: A sample cannot be read and is neither skipped nor replaced.
        """
        if soon := read_soon(indices):
            self._unread_hints = 0  # a batch is being read
            self.prefetch(samples, numbered(soon, length))
        positions = list(numbered(indices, length))
        missing = self._missing(samples, positions)
        if unchanged and _are_read_together(positions, missing):
            try:
                batch: list[T | Literal[Skipped.SAMPLE]] = self._read(
                    samples, missing, partial(together, samples, positions)
                )
            except IPFSDatasetError:
                if policy.raises:
                    raise
                missing = positions
            else:
                policy.succeeded()
                return batch

        replacement = Replacement(read, length, policy) if replaces else None

        def one_by_one(group: Sequence[int]) -> Iterator[tuple[int, T | Literal[Skipped.SAMPLE]]]:
            for place in group:
                sample = policy.read(read, operator.index(indices[place]), replacement)
                yield place, sample

        return self._read(samples, missing, one_by_one)

    def read(
        self,
        samples: IndexedSamples,
        positions: Sequence[int | None],
        read_group: Callable[[Sequence[int]], Iterable[tuple[int, T]]],
    ) -> list[T]:
        """Returns the samples of a batch in order, fetched together.

        Args:
            samples: The samples of the dataset.
            positions: The numbers of the samples; None for an index that is out of range.
            read_group: Reads the samples at some positions of the batch; returns pairs of position and
                sample.
        """
        return self._read(samples, self._missing(samples, positions), read_group)

    def _missing(
        self, samples: IndexedSamples, positions: Sequence[int | None]
    ) -> Sequence[int | None]:
        """Returns the numbers of the samples of a batch that have to be fetched, and None for the others."""
        self._unread_hints = 0
        missing = positions
        if self._prefetched:
            missing = [None if p in self._prefetched else p for p in positions]
            self._prefetched.difference_update(positions)
        known = sorted(p for p in missing if p is not None)
        with suppress(IPFSDatasetError):  # raised when the sample is read
            if not known or samples.is_cached(known):
                return [None] * len(positions)
        return missing

    def _read(
        self,
        samples: IndexedSamples,
        missing: Sequence[int | None],
        read_group: Callable[[Sequence[int]], Iterable[tuple[int, T]]],
    ) -> list[T]:
        """Returns the samples of a batch like `read`; `missing` are those that have to be fetched."""
        everything = range(len(missing))
        if not any(position is not None for position in missing):
            batch = dict(read_group(everything))
        else:
            batch = {}
            groups = in_groups(samples, missing, self._memory)
            for group in fetched_ahead(groups, samples, lambda group: [_known(missing, group)]):
                batch.update(read_group(group))
        return [batch[place] for place in everything]

    def prefetch(self, samples: IndexedSamples, positions: Iterable[int | None]) -> None:
        """Starts fetching the samples of the next batches.

        Has no effect before the first batch, or after several hints without a batch, because a sampler runs
        in the main process even if the workers of a loader read the samples.
        """
        if self._unread_hints >= _MOST_UNREAD_HINTS:
            return
        coming = {position for position in positions if position is not None}
        if not coming:
            return
        self._unread_hints += 1
        self._prefetched |= coming
        with suppress(IPFSDatasetError):  # raised when the sample is read
            samples.prefetch(sorted(coming))


def numbered(indices: Iterable[SupportsIndex], length: int) -> Iterator[int | None]:
    """Yields the sample numbers of indices, from 0; None for an index that is out of range."""
    numbers = list(map(operator.index, indices))
    if not numbers or (min(numbers) >= 0 and max(numbers) < length):  # as samplers yield them
        return iter(numbers)
    return (i % length if -length <= i < length else None for i in numbers)


def fetched_ahead(
    groups: Iterable[T],
    samples: IndexedSamples,
    needed: Callable[[T], Iterable[Iterable[int]]],
    *,
    ahead: int = 1,
) -> Iterator[T]:
    """Yields groups of samples while this group and the next ones are being fetched.

    Args:
        groups: The groups.
        samples: The samples of the dataset.
        needed: Returns the numbers of the samples that a group needs, in parts that each fit in memory.
        ahead: Number of groups that fit in memory besides the current one.
    """
    coming: deque[T] = deque()
    for group in groups:
        with suppress(IPFSDatasetError):  # raised when the sample is read
            for positions in needed(group):
                samples.prefetch(sorted(positions))
        coming.append(group)
        if len(coming) > ahead:
            yield coming.popleft()
    yield from coming


def in_groups(
    samples: IndexedSamples, positions: Sequence[int | None], memory: int
) -> list[list[int]]:
    """Splits a batch into groups: a single one if the cache can hold it, otherwise by storage position.

    This ensures that no block is evicted from the cache before all of its samples are read, in any order.

    Args:
        samples: The samples of the dataset.
        positions: Sample numbers; None for those that need not be fetched.
        memory: Capacity of the block cache in bytes.

    Returns:
        The groups, as ascending positions in the batch.
    """
    places = sorted(range(len(positions)), key=lambda place: positions[place] or 0)
    known = [place for place in places if positions[place] is not None]
    try:
        costs = dict(
            zip(known, samples.fetch_bytes(cast("int", positions[p]) for p in known), strict=True)
        )
    except PluginError:
        raise
    except IPFSDatasetError:  # raised when the sample is read
        costs = {}
    if sum(costs.values()) <= memory // 2:
        return [list(range(len(positions)))]
    return [sorted(group) for group in _cut(places, costs, memory // 4)]


def together(
    samples: IndexedSamples, positions: Sequence[int], group: Iterable[int]
) -> Iterator[tuple[int, Any]]:
    """Yields the samples at some positions of a batch, read in the order of the data."""
    places = sorted(group, key=positions.__getitem__)
    return zip(places, samples.read_each([positions[place] for place in places]), strict=False)


def _are_read_together(
    positions: Sequence[int | None], missing: Sequence[int | None]
) -> TypeGuard[Sequence[int]]:
    """Returns whether to read a batch together: it is random access, or needs no fetching.

    Otherwise samples are read one by one, so that the file can detect sequential access.
    """
    if len(positions) < 2 or None in positions:  # noqa: PLR2004 - a single sample is read alone
        return False
    if not any(position is not None for position in missing):
        return True
    known = cast("Sequence[int]", positions)
    return max(known) - min(known) >= _SCATTERED * len(known)


def _known(positions: Sequence[int | None], places: Iterable[int]) -> list[int]:
    return [position for place in places if (position := positions[place]) is not None]


def _cut(places: Iterable[int], costs: Mapping[int, int], budget: int) -> Iterator[list[int]]:
    group: list[int] = []
    used = 0
    for place in places:
        cost = costs.get(place, 0)
        if group and used + cost > budget:
            yield group
            group, used = [], 0
        group.append(place)
        used += cost
    if group:
        yield group
