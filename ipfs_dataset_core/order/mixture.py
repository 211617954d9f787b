"""Maps each place of a mixture to its source: pure, for any place without computing those before it.

Like every order, a mixture has lanes; see `global_order`. Each lane is a sequence of units of a fixed length,
and each unit contains a fixed number of places of every source, its quota, in random order. Proportions are
therefore exact in every unit, and counting a source's samples before a place involves one unit per lane.
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

# Possible lengths of a unit. The shortest that meets all weights to within a hundredth is used.
LENGTHS_OF_UNIT = tuple(1 << bits for bits in range(8, 16))
_EXACT_ENOUGH = 0.01
# Source numbers are stored in bytes.
_MOST_SOURCES = 256


def quotas_of(weights: Mapping[str, float]) -> dict[str, int]:
    """Returns the number of places of a unit for each source.

    Args:
        weights: The weight of each source by name; only their proportions matter.

    Raises:
        ValueError: There are no sources or too many, or a weight is not a positive number, or is too small.
    """
    if not 0 < len(weights) <= _MOST_SOURCES:
        raise ValueError(f"a mixture must have 1 to {_MOST_SOURCES} sources, not {len(weights)}")
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ValueError(f"the weight of {name!r} must be a number, not {weight!r}")  # noqa: TRY004 - as all
        if not _is_finite(weight) or weight <= 0:
            raise ValueError(
                f"the weight of {name!r} must be positive and finite, not {weight!r}: leave out a source "
                "that should not be read"
            )
    largest = max(weights.values())
    total = math.fsum(weight / largest for weight in weights.values())
    shares = {name: weight / largest / total for name, weight in weights.items()}
    for length in LENGTHS_OF_UNIT:
        quotas = _rounded(shares, length)
        # The share of a tiny weight may round to 0.0.
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
    except OverflowError:  # an int larger than any float
        return False


def _rounded(shares: Mapping[str, float], length: int) -> dict[str, int]:
    """Rounds shares to whole numbers with a given sum, rounding up those with the largest remainders."""
    quotas = {name: int(share * length) for name, share in shares.items()}
    missing = length - sum(quotas.values())
    by_remainder = sorted(shares, key=lambda name: quotas[name] - shares[name] * length)
    for name in by_remainder[:missing]:
        quotas[name] += 1
    return quotas


class MixtureSchedule:
    """The source of every place.

    Args:
        quotas: Number of places of a unit for each source.
        seed: Determines the order.
        lanes: The lanes.
        chunk: Number of places after which the next group of lanes takes over: the global batch size.
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
        """Returns the lane of a place, its source, and how often the source occurred before in the lane."""
        lane, index = self._interleaving.find(place)
        unit, offset = divmod(index, self._length)
        sources, ranks = self._units(lane, unit)
        source = sources[offset]
        return lane, source, unit * self._quotas[source] + ranks[offset]

    def counts(self, source: int, place: int) -> list[int]:
        """Returns, for each lane, how many places before a place belong to a source."""
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
        """Returns the place of a source's sample with the given number, counted from 0."""
        quota = self._quotas[source]

        def fewest(place: int) -> int:
            return sum(length // self._length * quota for length in self._lane_lengths(place))

        def most(place: int) -> int:
            units = [divmod(length, self._length) for length in self._lane_lengths(place)]
            return sum(unit * quota + min(quota, offset) for unit, offset in units)

        # Bounds that require no unit: `low` <= place < `high`.
        longest = (number // quota + 2) * self._length * self._lanes.count * max(1, self._chunk)
        low = _first(0, longest, lambda place: most(place) > number) - 1
        high = _first(max(0, low), longest, lambda place: fewest(place) > number)
        return _first(max(0, low), high, lambda place: sum(self.counts(source, place)) > number) - 1

    def _lane_lengths(self, place: int) -> list[int]:
        before = Interleaving(place, self._lanes, self._chunk)
        bounds = map(before.lane, range(self._lanes.count))
        return [stop - start for start, stop in bounds]

    def _unit(self, lane: int, number: int) -> tuple[bytes, Sequence[int]]:
        """Returns the source of each place of a unit, and how often it occurred before in the unit."""
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
    """Returns the first number in ``range(low, high + 1)`` for which a monotonic condition holds."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def stop_of_mixture(schedule: MixtureSchedule, samples: Sequence[int], *, every: bool) -> int:
    """Returns the place at which an epoch of a mixture stops.

    Args:
        schedule: The source of every place.
        samples: Number of samples of each source.
        every: Whether to stop when every source was read to its end, with shorter sources starting over;
            otherwise the epoch stops when the first source has no more samples.
    """
    if every:
        return max(schedule.place(source, count - 1) + 1 for source, count in enumerate(samples))
    return min(schedule.place(source, count) for source, count in enumerate(samples))
