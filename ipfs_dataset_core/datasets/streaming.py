"""What one reader of an iterable dataset yields: its share of every unit, in order."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.order.sharding import Place, overlaps, part, sample_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.error_policy import Failures
    from ipfs_dataset_core.datasets.shards import Unit
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.order.sharding import Distribution


def stream(
    units: Iterable[Unit], place: Place, distribution: Distribution, failures: Failures
) -> Iterator[Sample]:
    """Yields the samples of one reader.

    Every sample of the dataset goes to exactly one reader, but for what `distribution` adds or drops to make
    ranks equal. Where all units are counted, samples are split by number. Otherwise they are split by bytes,
    so that no reader has to look through an archive to find out how many samples it has; objects that cannot
    be entered in the middle (compressed tars) go to one reader each, or, where there are fewer of them than
    readers, every reader takes its turn among their samples.

    Raises:
        FormatError: Ranks must be equal, and an object's samples cannot be counted.
    """
    if place.shares == 1:
        for unit in units:
            yield from failures.samples(unit)
        return
    units = list(units)
    if (place.world > 1 and distribution != "uneven") or all(unit.is_counted() for unit in units):
        yield from _by_number(units, place, distribution, failures)
    else:
        yield from _by_bytes([unit for unit in units if unit.is_splittable()], place, failures)
        yield from _in_turn([unit for unit in units if not unit.is_splittable()], place, failures)


def exact_length(units: Sequence[Unit], world: int, rank: int, distribution: Distribution) -> int:
    """Returns how many samples one rank gets.

    Raises:
        TypeError: Only reading the whole dataset would tell.
    """
    if not all(unit.is_counted() for unit in units):
        raise TypeError("this iterable dataset has no len(): counting would read all of it")
    total = sum(unit.count() for unit in units)
    ranges = sample_ranges(total, Place(rank, world), distribution)
    return sum(stop - start for start, stop in ranges)


def _by_number(
    units: Sequence[Unit], place: Place, distribution: Distribution, failures: Failures
) -> Iterator[Sample]:
    counts = [_count(unit) for unit in units]
    for start, stop in sample_ranges(sum(counts), place, distribution):
        for unit, first, last in overlaps(counts, start, stop):
            yield from failures.between(units[unit], first, last)


def _count(unit: Unit) -> int:
    try:
        return unit.count()
    except FormatError as error:
        raise FormatError(
            f"Ranks cannot get equally many samples, for one object's cannot be counted. {error} "
            "Or give distribution='uneven'"
        ) from error


def _by_bytes(units: Sequence[Unit], place: Place, failures: Failures) -> Iterator[Sample]:
    weights = [unit.weight() for unit in units]
    start, stop = part(sum(weights), place.share, place.shares)
    for unit, first, last in overlaps(weights, start, stop):
        yield from failures.slice(units[unit], first, last)


def _in_turn(units: Sequence[Unit], place: Place, failures: Failures) -> Iterator[Sample]:
    if len(units) >= place.shares:
        for unit in islice(units, place.share, None, place.shares):
            yield from failures.samples(unit)
    else:
        for unit in units:
            yield from islice(failures.samples(unit), place.share, None, place.shares)
