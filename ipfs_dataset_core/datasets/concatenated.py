"""Units one after the other, their samples numbered through."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from ipfs_dataset_core.datasets.shards import ObjectUnit
from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.interfaces import ObjectFile
from ipfs_dataset_core.order.shuffled_blocks import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.shards import Unit
    from ipfs_dataset_core.interfaces import Sample

# What a file of a folder is taken to have, for the folder does not say.
_FILE_BYTES = 64 << 10
# How many samples are looked at, for some may be empty where others are not.
_PROBES = 64


class Row:
    """Samples by number.

    Args:
        units: All of them can count their samples.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._stops = list(accumulate(unit.count() for unit in units))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def get(self, position: int) -> Sample:
        """Returns one sample, `position` counted from 0."""
        unit, within = self._locate(position)
        return unit.get(within)

    def get_each(self, positions: Iterable[int]) -> Iterator[Sample]:
        """Yields several samples, whose positions ascend."""
        for unit, within in self._by_unit(positions):
            yield from unit.get_each(within)

    def prefetch(self, positions: Iterable[int]) -> None:
        """Starts fetching what these samples, in order, need, each unit's share in one go."""
        for unit, within in self._by_unit(positions):
            unit.prefetch(within)

    def costs(self, positions: Iterable[int]) -> Iterator[int]:
        """Yields about how many bytes each of some samples, in order, needs besides those before it."""
        for unit, within in self._by_unit(positions):
            yield from unit.costs(within)

    def block_stops(self, size: int) -> array[int]:
        """Returns where each block of about `size` bytes ends: a run of one unit's samples."""
        firsts = chain((0,), self._stops)
        stops = (
            first + stop
            for unit, first in zip(self._units, firsts, strict=False)
            for stop in _blocks(unit, size)
        )
        return array("Q", stops)

    def _by_unit(self, positions: Iterable[int]) -> Iterator[tuple[Unit, list[int]]]:
        """Yields the units that some samples, in order, are in, with their numbers there."""
        ascending = list(positions)
        at = 0
        while at < len(ascending):
            unit, first = self._unit_of(ascending[at])
            stop = bisect_left(ascending, self._stops[unit], at)
            yield self._units[unit], [position - first for position in ascending[at:stop]]
            at = stop

    def _locate(self, position: int) -> tuple[Unit, int]:
        unit, first = self._unit_of(position)
        return self._units[unit], position - first

    def _unit_of(self, position: int) -> tuple[int, int]:
        """Returns the number of the unit that a sample is in, and of that unit's first sample."""
        unit = bisect_right(self._stops, position)
        return unit, self._stops[unit - 1] if unit else 0


def _blocks(unit: Unit, size: int) -> Iterator[int]:
    return cut(_starts(unit), unit.count(), size)


def _starts(unit: Unit) -> Callable[[int], int]:
    """Returns what tells where a sample starts; files of a folder are taken to lie in a row."""
    if isinstance(unit, ObjectUnit) and isinstance(unit.source, ObjectFile):
        span = unit.index().span
        return lambda position: span(position)[0]
    return _FILE_BYTES.__mul__


def has_blocks(unit: Unit) -> bool:
    """Tells whether a unit is read about as fast when its samples are mixed within a window of blocks.

    Not so where it allows no random access, nor where its index does not say which bytes a sample needs, as
    that of a file whose rows are decoded many at a time.
    """
    try:
        count = unit.count()
    except FormatError:
        return False
    if not count or not isinstance(unit, ObjectUnit) or not isinstance(unit.source, ObjectFile):
        return True
    spans = map(unit.index().span, range(0, count, -(-count // _PROBES)))
    return any(start < stop for start, stop in spans)
