"""Which source each place of a mixture takes its sample from: pure, found for any place without those before.

A mixture has lanes as every order has, see `global_order`. In each lane, units of a fixed length follow each
other, and in each unit every source has the same number of places, its quota, in random order. So proportions
are kept exactly from unit to unit, and how often a source came before a place is a matter of one unit a lane.
"""

from __future__ import annotations

import math
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

from ipfs_dataset_core.order.global_order import Interleaving
from ipfs_dataset_core.order.shuffled_blocks import keyed_random

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ipfs_dataset_core.order.global_order import Lanes

# Lengths of a unit. The shortest in which all weights are met to within a hundredth is taken.
LENGTHS_OF_UNIT = tuple(1 << bits for bits in range(8, 16))
_EXACT_ENOUGH = 0.01
# Numbers of sources are bytes.
_MOST_SOURCES = 256


def quotas_of(weights: Mapping[str, float]) -> dict[str, int]:
    """Returns how many places of a unit each source has.

    Args:
        weights: The weight of each source by name, in any measure: only their proportions count.

    Raises:
        ValueError: There are no sources or too many, or a weight is no positive number, or too small.
    """
    if not 0 < len(weights) <= _MOST_SOURCES:
        raise ValueError(f"a mixture has 1 to {_MOST_SOURCES} sources, not {len(weights)}")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ValueError(f"the weight of {name!r} is a number, not {weight!r}")  # noqa: TRY004 - as all
        if not _is_finite(weight) or weight <= 0:
            raise ValueError(
                f"the weight of {name!r} is positive and finite, not {weight!r}: leave a source out that "
                "shall not be read"
            )
    largest = max(weights.values())
    total = math.fsum(weight / largest for weight in weights.values())
    shares = {name: weight / largest / total for name, weight in weights.items()}
    for length in LENGTHS_OF_UNIT:
        quotas = _rounded(shares, length)
        # A weight that is tiny beside the others may have a share of 0.0.
        worst = max(
            abs(quotas[name] / (share * length) - 1) if share else math.inf
            for name, share in shares.items()
        )
        if worst <= _EXACT_ENOUGH:
            return quotas
    for name, quota in quotas.items():
        if not quota:
            raise ValueError(
                f"the weight of {name!r} is less than one part in {2 * length:,} of all: give it more"
            )
    return quotas


def _is_finite(weight: float) -> bool:
    try:
        return math.isfinite(weight)
    except OverflowError:  # an int that is larger than any float
        return False


def _rounded(shares: Mapping[str, float], length: int) -> dict[str, int]:
    """Returns whole numbers with a given sum, those with the largest remainders rounded up."""
    quotas = {name: int(share * length) for name, share in shares.items()}
    missing = length - sum(quotas.values())
    by_remainder = sorted(shares, key=lambda name: quotas[name] - shares[name] * length)
    for name in by_remainder[:missing]:
        quotas[name] += 1
    return quotas


class MixtureSchedule:
    """The sources of all places.

    Args:
        quotas: How many places of a unit each source has.
        seed: What the order depends on.
        lanes: How many lanes there are.
        chunk: After how many places the next group of lanes takes over: the size of a global batch.
    """

    def __init__(self, quotas: Sequence[int], seed: int, lanes: Lanes, chunk: int) -> None:
        self._quotas = quotas
        self._seed = seed
        self._length = sum(quotas)
        self._lanes = lanes
        self._chunk = chunk
        self._interleaving = Interleaving(0, lanes, chunk)
        self._units = lru_cache(maxsize=4 * lanes.count)(self._unit)

    def find(self, place: int) -> tuple[int, int, int]:
        """Returns the lane of a place, its source, and how often the source came before in the lane."""
        lane, index = self._interleaving.find(place)
        unit, offset = divmod(index, self._length)
        sources, ranks = self._units(lane, unit)
        source = sources[offset]
        return lane, source, unit * self._quotas[source] + ranks[offset]

    def counts(self, source: int, place: int) -> list[int]:
        """Returns how many places before a place take from a source, for each lane."""
        quota = self._quotas[source]
        found = []
        for lane, length in enumerate(self._lane_lengths(place)):
            unit, offset = divmod(length, self._length)
            count = unit * quota
            if offset:
                count += self._units(lane, unit)[0].count(source, 0, offset)
            found.append(count)
        return found

    def place(self, source: int, number: int) -> int:
        """Returns the place that takes a source's sample for the time `number`, counted from 0."""
        quota = self._quotas[source]

        def fewest(place: int) -> int:
            return sum(length // self._length * quota for length in self._lane_lengths(place))

        def most(place: int) -> int:
            units = [divmod(length, self._length) for length in self._lane_lengths(place)]
            return sum(unit * quota + min(quota, offset) for unit, offset in units)

        # Bounds that need no unit to be computed: the place is at or behind `low`, and before `high`.
        longest = (number // quota + 2) * self._length * self._lanes.count * max(1, self._chunk)
        low = _first(0, longest, lambda place: most(place) > number) - 1
        high = _first(max(0, low), longest, lambda place: fewest(place) > number)
        return _first(max(0, low), high, lambda place: sum(self.counts(source, place)) > number) - 1

    def _lane_lengths(self, place: int) -> list[int]:
        before = Interleaving(place, self._lanes, self._chunk)
        bounds = map(before.lane, range(self._lanes.count))
        return [stop - start for start, stop in bounds]

    def _unit(self, lane: int, number: int) -> tuple[bytes, Sequence[int]]:
        """Returns the sources of a unit's places, and how often each came before in the unit."""
        sources = bytearray()
        for source, quota in enumerate(self._quotas):
            sources += bytes([source]) * quota
        keyed_random("mixture", self._seed, lane, number).shuffle(sources)
        ranks, seen = array("L"), [0] * len(self._quotas)
        for source in sources:
            ranks.append(seen[source])
            seen[source] += 1
        return bytes(sources), ranks


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Returns the first number from `low` on, up to `high`, for which a monotonous condition holds."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def stop_of_mixture(schedule: MixtureSchedule, samples: Sequence[int], *, every: bool) -> int:
    """Returns where an epoch of a mixture stops.

    Args:
        schedule: The sources of all places.
        samples: How many each source has.
        every: Whether it stops when every source was read to its end, where shorter sources start over; else
            it stops where the first source has no more samples.
    """
    if every:
        return max(schedule.place(source, count - 1) + 1 for source, count in enumerate(samples))
    return min(schedule.place(source, count) for source, count in enumerate(samples))
