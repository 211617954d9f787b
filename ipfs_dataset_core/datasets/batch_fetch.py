"""Reads batches of samples: fetched together where the cache holds what they need, otherwise in groups."""

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

# A batch is random access if its first and its last sample are this many times its length apart.
_SCATTERED = 8
# After so many hints without a batch, further ones have no effect.
_MOST_UNREAD_HINTS = 4


class BatchReader:
    """Reads batches of one dataset, and fetches what hints name for the next ones.

    Args:
        memory: How many bytes of blocks the cache holds.
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
        """Returns what `read` returns for each index, or `Skipped.SAMPLE`; blocks are fetched together.

        Args:
            samples: The samples of the dataset.
            length: How many there are.
            indices: As users write them; `read` raises for those that are out of range. What a sampler added
                to them about the samples that follow is fetched as well.
            read: Reads the sample at an index.
            policy: What to skip.
            unchanged: Whether `read` returns the samples as they are in `samples`, so that they may be read
                from there together.
            replaces: Whether the next sample of the data that can be read stands in for one that is skipped.

        Raises:
            IPFSDatasetError: A sample cannot be read and is not to be skipped, or nothing stands in for it.
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
        """Returns the samples of a batch in its order, fetched together.

        Args:
            samples: The samples of the dataset.
            positions: The samples' numbers, None for an index that is out of range.
            read_group: Reads the samples at some places of the batch; returns pairs of place and sample.
        """
        return self._read(samples, self._missing(samples, positions), read_group)

    def _missing(
        self, samples: IndexedSamples, positions: Sequence[int | None]
    ) -> Sequence[int | None]:
        """Returns the numbers of samples of a batch that have to be fetched, and None for all others."""
        self._unread_hints = 0
        missing = positions
        if self._prefetched:
            missing = [None if p in self._prefetched else p for p in positions]
            self._prefetched.difference_update(positions)
        known = sorted(p for p in missing if p is not None)
        with suppress(IPFSDatasetError):  # raised where the sample is read
            if not known or samples.is_cached(known):
                return [None] * len(positions)
        return missing

    def _read(
        self,
        samples: IndexedSamples,
        missing: Sequence[int | None],
        read_group: Callable[[Sequence[int]], Iterable[tuple[int, T]]],
    ) -> list[T]:
        """Returns the samples of a batch, as `read` does; `missing` are those that have to be fetched."""
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
        """Starts fetching what the next batches need.

        Has no effect before the first batch, or after several hints without a batch: a sampler runs in the
        main process, also where a loader's workers read the samples.
        """
        if self._unread_hints >= _MOST_UNREAD_HINTS:
            return
        coming = {position for position in positions if position is not None}
        if not coming:
            return
        self._unread_hints += 1
        self._prefetched |= coming
        with suppress(IPFSDatasetError):  # raised where the sample is read
            samples.prefetch(sorted(coming))


def numbered(indices: Iterable[SupportsIndex], length: int) -> Iterator[int | None]:
    """Yields the numbers of samples, counted from 0, None for an index that is out of range."""
    numbers = list(map(operator.index, indices))
    if not numbers or (min(numbers) >= 0 and max(numbers) < length):  # as samplers give them
        return iter(numbers)
    return (i % length if -length <= i < length else None for i in numbers)


def fetched_ahead(
    groups: Iterable[T],
    samples: IndexedSamples,
    needed: Callable[[T], Iterable[Iterable[int]]],
    *,
    ahead: int = 1,
) -> Iterator[T]:
    """Yields groups of samples, while what they and the next ones need is being fetched.

    Args:
        groups: Of samples.
        samples: The samples of the dataset.
        needed: Returns the numbers of samples that a group needs, in parts of which memory holds each.
        ahead: How many groups memory holds besides the one that is read.
    """
    coming: deque[T] = deque()
    for group in groups:
        with suppress(IPFSDatasetError):  # raised where the sample is read
            for positions in needed(group):
                samples.prefetch(sorted(positions))
        coming.append(group)
        if len(coming) > ahead:
            yield coming.popleft()
    yield from coming


def in_groups(
    samples: IndexedSamples, positions: Sequence[int | None], memory: int
) -> list[list[int]]:
    """Splits a batch into groups: one where the cache holds all of it, otherwise by where the samples lie.

    So no block is evicted from the cache before all of its samples are read, whatever their order.

    Args:
        samples: The samples of the dataset.
        positions: Numbers of samples, None for those that need no fetching.
        memory: How many bytes of blocks the cache holds.

    Returns:
        The groups, as ascending places in `positions`.
    """
    places = sorted(range(len(positions)), key=lambda place: positions[place] or 0)
    known = [place for place in places if positions[place] is not None]
    try:
        costs = dict(
            zip(known, samples.fetch_bytes(cast("int", positions[p]) for p in known), strict=True)
        )
    except PluginError:
        raise
    except IPFSDatasetError:  # raised where the sample is read
        costs = {}
    if sum(costs.values()) <= memory // 2:
        return [list(range(len(positions)))]
    return [sorted(group) for group in _cut(places, costs, memory // 4)]


def together(
    samples: IndexedSamples, positions: Sequence[int], group: Iterable[int]
) -> Iterator[tuple[int, Any]]:
    """Yields the samples at some places of a batch, read in the order of the data."""
    places = sorted(group, key=positions.__getitem__)
    return zip(places, samples.read_each([positions[place] for place in places]), strict=False)


def _are_read_together(
    positions: Sequence[int | None], missing: Sequence[int | None]
) -> TypeGuard[Sequence[int]]:
    """Whether a batch is read together: it is random access, or nothing of it has to be fetched.

    Otherwise samples are read one by one, from which the file detects sequential access.
    """
    if len(positions) < 2 or None in positions:  # noqa: PLR2004 - with one there is nothing together
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
