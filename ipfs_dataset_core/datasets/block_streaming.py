"""What one reader of an iterable dataset yields where blocks are shuffled; the rest of it as ever."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from ipfs_dataset_core.datasets.batch_fetch import fetched_ahead, together
from ipfs_dataset_core.datasets.concatenated import Row, has_blocks
from ipfs_dataset_core.datasets.streaming import stream
from ipfs_dataset_core.errors import IPFSDatasetError, ObjectNotFoundError, TransportError
from ipfs_dataset_core.order.sharding import sample_ranges
from ipfs_dataset_core.order.shuffled_blocks import PIECES_AHEAD, BlockOrder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.error_policy import Failures
    from ipfs_dataset_core.datasets.shards import Unit
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.order.sharding import Distribution, Place

# Few enough that they take little memory, whatever they are compressed to.
_READ_TOGETHER = 32


def stream_in_blocks(
    units: Iterable[Unit],
    place: Place,
    distribution: Distribution,
    failures: Failures,
    *,
    block: int,
    window: int,
    key: Sequence[object],
    ahead: int = PIECES_AHEAD,
) -> Iterator[Sample]:
    """Yields the samples of one reader in the order of their shuffled blocks.

    Units that allow no random access follow, in their own order. In a distributed job they would have to be
    shared out by themselves: where there are any, nothing is shuffled there.

    Args:
        units: The whole dataset.
        place: Who reads.
        distribution: As `stream` takes it.
        failures: What to skip.
        block: About how many bytes a block has.
        window: How many blocks are mixed.
        key: What the order depends on.
        ahead: How many pieces of the order memory holds besides the one that is read.
    """
    known = [(unit, mixes) for unit in units for mixes in _can_be_mixed(unit, failures)]
    mixed = [unit for unit, mixes in known if mixes]
    if len(mixed) < len(known) and place.world > 1:
        yield from stream((unit for unit, _ in known), place, distribution, failures)
        return
    row = Row(mixed)
    order = BlockOrder(row.block_stops(block), window, *key)
    for start, stop in sample_ranges(len(row), place, distribution):
        pieces = order.pieces(start, stop)
        for piece in fetched_ahead(pieces, row, attrgetter("entering"), ahead=ahead):
            yield from _read(row, piece.samples, failures)
    yield from stream((unit for unit, mixes in known if not mixes), place, distribution, failures)


def _read(row: Row, positions: Sequence[int], failures: Failures) -> Iterator[Sample]:
    """Yields samples by number, a few of them read together: one by one takes half as long again."""
    for first in range(0, len(positions), _READ_TOGETHER):
        group = positions[first : first + _READ_TOGETHER]
        try:
            found = dict(together(row, group, range(len(group))))
        except IPFSDatasetError as error:
            if failures.raises and _is_waited_for(error):
                raise
            # Those before the one that cannot be read come all the same.
            yield from failures.each(row.get, group)
        else:
            failures.worked()
            yield from map(found.__getitem__, range(len(group)))


def _is_waited_for(error: IPFSDatasetError) -> bool:
    """Tells whether it would take as long again to fail so: a source that is gone is tried several times."""
    return isinstance(error, TransportError) and not isinstance(error, ObjectNotFoundError)


def _can_be_mixed(unit: Unit, failures: Failures) -> Iterator[bool]:
    """Yields whether a unit has blocks, nothing where it cannot be opened and is skipped."""
    try:
        mixes = has_blocks(unit)
    except IPFSDatasetError as error:
        failures.failed(error, unit.what)
    else:
        yield mixes
