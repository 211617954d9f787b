"""The places of a global sequence that each reader of a stream reads: pure, equal in every process.

A stream distributes places by batches: each rank gets one batch of its loader per global batch, and a
loader's workers read their rank's batches in turn.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.order.global_order import places_of_rank, stop_for
from ipfs_dataset_core.order.sharding import part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.order.sharding import Distribution, ReaderRank

# A range of places: the first, and the one after the last; None for all the rest.
Run = tuple[int, int | None]
# A place after the end of every sequence.
_FAR = 1 << 62


@attrs.frozen
class ReaderPlaces:
    """The places that one reader reads from a given place on, in batches.

    Args:
        reader: The reader.
        batch: Batch size of its loader.
        start: The place at which the iteration begins.
        stop: The place at which it stops; None if unknown. After the end of the sequence, places wrap around.
        contiguous: Whether ranks read contiguous parts of each global batch; otherwise they take turns, like
            lanes.
    """

    reader: ReaderRank
    batch: int
    start: int
    stop: int | None
    contiguous: bool

    @property
    def of_rank(self) -> int:
        """The number of samples of the rank, including all workers.

        Raises:
            TypeError: The number is unknown.
        """
        if self.stop is None:
            raise TypeError("the number of samples is unknown")
        if not self.contiguous:
            return len(self._by_turns())
        full, rest = divmod(self.stop - self.start, self.batch * self.reader.world)
        low, high = part(rest, self.reader.rank, self.reader.world)
        return full * self.batch + high - low

    def stretches(self, taken: int = 0) -> Iterator[Run]:
        """Yields this reader's ranges of places if ranks read contiguous parts of global batches.

        Args:
            taken: Number of this reader's places to skip.
        """
        size = self.batch * self.reader.world
        if self.reader.count == 1:
            yield self.start + taken, self.stop
            return
        first, skip = divmod(taken, self.batch)
        for number in count(self.reader.worker + first * self.reader.workers, self.reader.workers):
            begin = self.start + number * size
            if self.stop is not None and begin >= self.stop:
                return
            length = size if self.stop is None else min(size, self.stop - begin)
            low, high = part(length, self.reader.rank, self.reader.world)
            if low + skip < high:
                yield begin + low + skip, begin + high
            skip = 0

    def turns(self, taken: int = 0) -> Iterator[range]:
        """Yields this reader's ranges of places if ranks take turns.

        Args:
            taken: Number of this reader's places to skip.
        """
        places, step = self._by_turns(), self.batch * self.reader.workers
        if self.reader.workers == 1:
            yield places[taken:]
            return
        first, skip = divmod(taken, self.batch)
        for begin in range(self.reader.worker * self.batch + first * step, len(places), step):
            yield places[begin + skip : begin + self.batch]
            skip = 0

    def _by_turns(self) -> range:
        stop = _FAR if self.stop is None else self.stop
        return places_of_rank(self.start, stop, self.reader.rank, self.reader.world)


def between(ranges: Iterable[range], start: int, stop: int | None) -> Iterator[range]:
    """Yields the parts of ranges between two places, counted from the first place.

    Args:
        ranges: In ascending order.
        start: The first place.
        stop: The place after the last; None for no limit.
    """
    for places in ranges:
        if stop is not None and places.start >= stop:
            return
        low = -(-max(0, start - places.start) // places.step)
        high = None if stop is None else -(-(stop - places.start) // places.step)
        if found := places[low:high]:
            yield range(found.start - start, found.stop - start, found.step)


def stop_of_stream(
    total: int, start: int, world: int, batch: int | None, distribution: Distribution
) -> int:
    """Returns the place at which an iteration of a stream stops.

    ``"pad"`` fills the last global batch up, if the epoch has as many samples, so that a loader with
    ``drop_last`` drops no data; otherwise as `stop_for`.

    Args:
        total: Number of samples of the epoch.
        start: The place at which the iteration begins.
        world: Number of ranks.
        batch: Batch size of the loader; None if unknown.
        distribution: See `stop_for`.
    """
    if world == 1:
        return max(start, total)
    size = world * (batch or 1)
    if distribution != "pad" or size > total:
        return stop_for(total, start, world, distribution)
    return start + -(-max(0, total - start) // size) * size
