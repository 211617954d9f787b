"""How batches of samples are fetched: each together where the cache holds what it needs, else in groups."""

from __future__ import annotations

import operator
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex, TypeGuard, TypeVar, cast

from ipfs_dataset_core.datasets.error_policy import Skipped
from ipfs_dataset_core.errors import IPFSDatasetError, PluginError
from ipfs_dataset_core.order.sampler import read_soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core.datasets.error_policy import ErrorPolicy

T = TypeVar("T")

# How many times as many samples as a batch reads lie between its first and its last where it hops.
_SCATTERED = 8
# How often it may be said what will be read before any of it is.
_MOST_UNREAD = 4


class Fetchable(Protocol):
    """Samples by number, which can be fetched before they are read."""

    def get_each(self, positions: Iterable[int], /) -> Iterator[Any]:
        """Yields several samples, whose positions ascend."""

    def prefetch(self, positions: list[int], /) -> None:
        """Starts fetching what these samples, in order, need."""

    def fetch_bytes(self, positions: Iterable[int], /) -> Iterator[int]:
        """Yields about how many bytes each of some samples, in order, needs besides those before it."""


class Batches:
    """Reads batches of one dataset, and what somebody said will be in the next ones.

    Args:
        memory: Bytes that the cache holds.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._unread = _MOST_UNREAD
        self._announced: set[int | None] = set()

    def samples(
        self,
        samples: Fetchable,
        indices: Sequence[SupportsIndex],
        length: int,
        get: Callable[[SupportsIndex], T],
        policy: ErrorPolicy,
        *,
        as_they_are: bool,
    ) -> list[T]:
        """Returns what `get` gives for each index, fetched together, but for what is skipped.

        Args:
            samples: What the numbers of samples count.
            indices: As users write them; what they mean where there is no such sample, `get` says. What
                they say that will be read soon is fetched as well.
            length: How many samples there are.
            get: Reads the sample at an index.
            policy: What to skip.
            as_they_are: Whether `get` returns the samples unchanged, so that they may be read together.
        """
        if soon := read_soon(indices):
            self._unread = 0  # for a batch is being read
            self.prefetch(samples, numbered(soon, length))
        positions = list(numbered(indices, length))
        if as_they_are and _are_scattered(positions):
            try:
                batch = self.read(samples, positions, partial(together, samples, positions))
            except IPFSDatasetError:
                if policy.raises:
                    raise
            else:
                policy.succeeded()
                return batch

        def one_by_one(group: list[int]) -> Iterator[tuple[int, T | Literal[Skipped.SAMPLE]]]:
            return ((place, policy.get(get, indices[place])) for place in group)

        found = self.read(samples, positions, one_by_one)
        return [sample for sample in found if sample is not Skipped.SAMPLE]

    def read(
        self,
        samples: Fetchable,
        positions: Sequence[int | None],
        get: Callable[[list[int]], Iterable[tuple[int, T]]],
    ) -> list[T]:
        """Returns what `get` gives for each place of a batch, fetched together.

        Args:
            samples: What the numbers count.
            positions: The samples' numbers, None where nothing is known.
            get: Reads the samples at some places of the batch, and says which is where.
        """
        batch: dict[int, T] = {}
        for group in self._fetched(samples, positions):
            batch.update(get(group))
        return [batch[place] for place in range(len(positions))]

    def _fetched(self, samples: Fetchable, positions: Sequence[int | None]) -> Iterator[list[int]]:
        """Returns the places of a batch in groups, of which each is on its way when it comes."""
        self._unread = 0
        missing = [None if p in self._announced else p for p in positions]
        self._announced.difference_update(positions)
        if all(p is None for p in missing):  # all of it is on its way
            return iter([list(range(len(positions)))])
        groups = in_groups(samples, missing, self._memory)
        return fetched_ahead(groups, samples, lambda group: [_known(missing, group)])

    def prefetch(self, samples: Fetchable, positions: Iterable[int | None]) -> None:
        """Starts fetching what the next batches need, where one was read not long ago.

        A sampler runs in the main process, and need not know whether that reads or a loader's workers do.
        """
        if self._unread >= _MOST_UNREAD:
            return
        coming = {position for position in positions if position is not None}
        if not coming:
            return
        self._unread += 1
        self._announced |= coming
        with suppress(IPFSDatasetError):  # said where the sample is read that cannot be
            samples.prefetch(sorted(coming))


def numbered(indices: Iterable[SupportsIndex], length: int) -> Iterator[int | None]:
    """Yields the numbers of samples, counted from 0, None for an index where there is no sample."""
    return (i % length if -length <= i < length else None for i in map(operator.index, indices))


def fetched_ahead(
    groups: Iterable[T],
    samples: Fetchable,
    needed: Callable[[T], Iterable[Iterable[int]]],
    *,
    ahead: int = 1,
) -> Iterator[T]:
    """Yields groups, each with what it and the next ones need on their way.

    Args:
        groups: Of samples.
        samples: What their numbers count.
        needed: Returns the numbers of samples that a group needs, in parts of which memory holds each.
        ahead: How many groups memory holds besides the one that is read.
    """
    coming: deque[T] = deque()
    for group in groups:
        with suppress(IPFSDatasetError):  # said where the sample is read that cannot be
            for positions in needed(group):
                samples.prefetch(sorted(positions))
        coming.append(group)
        if len(coming) > ahead:
            yield coming.popleft()
    yield from coming


def in_groups(samples: Fetchable, positions: Sequence[int | None], memory: int) -> list[list[int]]:
    """Splits a batch: into one group where the cache holds it all, else by where the samples lie.

    So that no block is pushed out of the cache before its samples are read, whatever order they have.

    Args:
        samples: What the numbers count.
        positions: Of samples, None for those that need nothing that is known; in a group they are in this
            order again.
        memory: Bytes that the cache holds.

    Returns:
        The groups, as places in `positions`.
    """
    places = sorted(range(len(positions)), key=lambda place: positions[place] or 0)
    known = [place for place in places if positions[place] is not None]
    try:
        costs = dict(
            zip(known, samples.fetch_bytes(cast("int", positions[p]) for p in known), strict=True)
        )
    except PluginError:
        raise
    except IPFSDatasetError:  # said where the sample is read that cannot be
        costs = {}
    if sum(costs.values()) <= memory // 2:
        return [list(range(len(positions)))]
    return [sorted(group) for group in _cut(places, costs, memory // 4)]


def together(
    samples: Fetchable, positions: Sequence[int], group: Iterable[int]
) -> Iterator[tuple[int, Any]]:
    """Yields the samples at some places of a batch, read in the order of the data."""
    places = sorted(group, key=positions.__getitem__)
    return zip(places, samples.get_each([positions[place] for place in places]), strict=False)


def _are_scattered(positions: Sequence[int | None]) -> TypeGuard[Sequence[int]]:
    """Tells whether a batch is random access; sequential access is detected by the file."""
    known = [position for position in positions if position is not None]
    if len(known) < max(2, len(positions)):
        return False
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
