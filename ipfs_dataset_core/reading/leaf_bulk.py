"""Leaves of a file in bulk: as one range from any source that serves it, else as one CAR."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.reading.verified_streams import CarStream, RangeStream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.reading.bulk_fetch import Bulk
    from ipfs_dataset_core.reading.layout import FileLayout, Leaf
    from ipfs_dataset_core.reading.read_ahead import FileReadAhead
    from ipfs_dataset_core.reading.single_flight import Flight
    from ipfs_dataset_core.sources.failover import SourcePool

# Below this many neighbours, leaves one by one are cheaper than a range. Measured on Kubo, CPU of both sides
# for leaves of 1 MiB: two of them 8.0 ms as blocks and 9.6 as a range, three 11.6 and 11.0.
MIN_RANGE_LEAVES = 3


class LeafBulk:
    """Keeps flights of leaves with what comes in bulk.

    Args:
        sources: Where from.
        bulk: How.
        verified: Whether leaves are checked.
    """

    def __init__(self, sources: SourcePool, bulk: Bulk, *, verified: bool) -> None:
        self._sources = sources
        self._bulk = bulk
        self._verified = verified

    @property
    def ranging(self) -> list[Transport]:
        """The sources that serve ranges."""
        return [transport for transport in self._sources.transports if transport.serves_ranges]

    def open(self, layout: FileLayout, start: int, stream: FileReadAhead) -> None:
        """Asks for the range from `start` on that a reader will want, before its leaves are known.

        It begins where most builders begin a leaf; where that is wrong, it is given up for another.
        """
        start -= start % LEAF_BYTES
        span = stream.span(start, start)
        self._bulk.open(
            partial(RangeStream, file=layout.cid, span=span, verified=self._verified),
            transports=self.ranging,
            what=f"bytes of {layout.cid}",
            stream=stream,
        )

    def deliver(
        self, layout: FileLayout, wanted: dict[Leaf, Flight], stream: FileReadAhead | None
    ) -> None:
        """Keeps, and removes, what flights of neighbouring leaves the sources allow."""
        carrying = [transport for transport in self._sources.transports if transport.serves_cars]
        kinds: tuple[tuple[type[RangeStream | CarStream], list[Transport]], ...] = (
            (RangeStream, self.ranging),
            (CarStream, carrying),
        )
        for kind, transports in kinds:
            goes_on = stream is not None and stream.goes_on
            if wanted and (len(wanted) >= MIN_RANGE_LEAVES or goes_on):
                self._bulk.deliver(
                    kind,
                    partial(self._begin, kind, layout, wanted, stream),
                    wanted,
                    transports=transports,
                    what=f"bytes of {layout.cid}",
                    stream=stream,
                )

    def _begin(
        self,
        kind: type[RangeStream | CarStream],
        layout: FileLayout,
        wanted: Iterable[Leaf],
        stream: FileReadAhead | None,
        transport: Transport,
    ) -> RangeStream | CarStream:
        leaves = list(wanted)
        span = leaves[0].start, leaves[-1].stop
        if stream is not None:
            span = stream.span(*span)
        return kind(transport, layout.cid, span, verified=self._verified)
