"""What one reader of an iterable dataset yields where blocks are shuffled; the rest of it as ever."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from ipfs_dataset_core.datasets.batch_fetch import fetched_ahead, together
from ipfs_dataset_core.datasets.concatenated import ConcatenatedShards, has_blocks
from ipfs_dataset_core.datasets.streaming import stream
from ipfs_dataset_core.errors import IPFSDatasetError, ObjectNotFoundError, TransportError
from ipfs_dataset_core.order.sharding import sample_ranges
from ipfs_dataset_core.order.shuffled_blocks import STEPS_AHEAD, ShuffleBlockOrder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.interfaces import Sample
    from ipfs_dataset_core.order.sharding import Distribution, ReaderRank

# Few enough that they take little memory, whatever they are compressed to.
_READ_TOGETHER = 32


def stream_in_blocks(
    shards: Iterable[Shard],
    reader: ReaderRank,
    distribution: Distribution,
    policy: ErrorPolicy,
    *,
    block: int,
    window: int,
    key: Sequence[object],
    ahead: int = STEPS_AHEAD,
) -> Iterator[Sample]:
    """Yields the samples of one reader in the order of their shuffled blocks.

    Shards that allow no random access follow, in their own order. In a distributed job they would have to be
    shared out by themselves: where there are any, nothing is shuffled there.

    Args:
        shards: The whole dataset.
        reader: Who reads.
        distribution: As `stream` takes it.
        policy: What to skip.
        block: About how many bytes a block has.
        window: How many blocks are mixed.
        key: What the order depends on.
        ahead: How many steps of the order memory holds besides the one that is read.
    """
    known = [(shard, mixes) for shard in shards for mixes in _can_be_mixed(shard, policy)]
    mixed = [shard for shard, mixes in known if mixes]
    if len(mixed) < len(known) and reader.world > 1:
        yield from stream((shard for shard, _ in known), reader, distribution, policy)
        return
    joined = ConcatenatedShards(mixed)
    order = ShuffleBlockOrder(joined.block_stops(block), window, *key)
    for start, stop in sample_ranges(len(joined), reader, distribution):
        steps = order.steps(start, stop)
        for step in fetched_ahead(steps, joined, attrgetter("entering"), ahead=ahead):
            yield from _read(joined, step.samples, policy)
    yield from stream((shard for shard, mixes in known if not mixes), reader, distribution, policy)


def _read(
    joined: ConcatenatedShards, positions: Sequence[int], policy: ErrorPolicy
) -> Iterator[Sample]:
    """Yields samples by number, a few of them read together: one by one takes half as long again."""
    for first in range(0, len(positions), _READ_TOGETHER):
        group = positions[first : first + _READ_TOGETHER]
        try:
            found = dict(together(joined, group, range(len(group))))
        except IPFSDatasetError as error:
            if policy.raises and _is_waited_for(error):
                raise
            # Those before the one that cannot be read come all the same.
            yield from policy.each(joined.get, group)
        else:
            policy.succeeded()
            yield from map(found.__getitem__, range(len(group)))


def _is_waited_for(error: IPFSDatasetError) -> bool:
    """Tells whether it would take as long again to fail so: a source that is gone is tried several times."""
    return isinstance(error, TransportError) and not isinstance(error, ObjectNotFoundError)


def _can_be_mixed(shard: Shard, policy: ErrorPolicy) -> Iterator[bool]:
    """Yields whether a shard has blocks, nothing where it cannot be opened and is skipped."""
    try:
        mixes = has_blocks(shard)
    except IPFSDatasetError as error:
        policy.skip_or_raise(error, shard.what)
    else:
        yield mixes
