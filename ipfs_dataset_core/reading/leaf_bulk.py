"""Leaves of a file in bulk: as one range from any source that serves it, else as one CAR."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.reading.verified_streams import CarRun, RangeRun

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.reading.bulk_fetch import Bulk
    from ipfs_dataset_core.reading.layout import FileLayout, Leaf
    from ipfs_dataset_core.reading.read_ahead import FileFollowing
    from ipfs_dataset_core.reading.single_flight import Promise
    from ipfs_dataset_core.sources.failover import Sources

# Below this many neighbours, leaves one by one are cheaper than a range. Measured on Kubo, CPU of both sides
# for leaves of 1 MiB: two of them 8.0 ms as blocks and 9.6 as a range, three 11.6 and 11.0.
MIN_RUN_LEAVES = 3


class LeafBulk:
    """Keeps promises of leaves with what comes in bulk.

    Args:
        sources: Where from.
        bulk: How.
        verified: Whether leaves are checked.
    """

    def __init__(self, sources: Sources, bulk: Bulk, *, verified: bool) -> None:
        self._sources = sources
        self._bulk = bulk
        self._verified = verified

    @property
    def ranging(self) -> list[Transport]:
        """The sources that serve ranges."""
        return [transport for transport in self._sources.transports if transport.serves_ranges]

    def open(self, layout: FileLayout, start: int, following: FileFollowing) -> None:
        """Asks for the range from `start` on that a reader will want, before its leaves are known.

        It begins where most builders begin a leaf; where that is wrong, it is given up for another.
        """
        start -= start % LEAF_BYTES
        span = following.span(start, start)
        self._bulk.open(
            partial(RangeRun, file=layout.cid, span=span, verified=self._verified),
            transports=self.ranging,
            what=f"bytes of {layout.cid}",
            following=following,
        )

    def deliver(
        self, layout: FileLayout, wanted: dict[Leaf, Promise], following: FileFollowing | None
    ) -> None:
        """Keeps, and removes, what promises of neighbouring leaves the sources allow."""
        carrying = [transport for transport in self._sources.transports if transport.serves_cars]
        kinds: tuple[tuple[type[RangeRun | CarRun], list[Transport]], ...] = (
            (RangeRun, self.ranging),
            (CarRun, carrying),
        )
        for kind, transports in kinds:
            goes_on = following is not None and following.goes_on
            if wanted and (len(wanted) >= MIN_RUN_LEAVES or goes_on):
                self._bulk.deliver(
                    kind,
                    partial(self._begin, kind, layout, wanted, following),
                    wanted,
                    transports=transports,
                    what=f"bytes of {layout.cid}",
                    following=following,
                )

    def _begin(
        self,
        kind: type[RangeRun | CarRun],
        layout: FileLayout,
        wanted: Iterable[Leaf],
        following: FileFollowing | None,
        transport: Transport,
    ) -> RangeRun | CarRun:
        leaves = list(wanted)
        span = leaves[0].start, leaves[-1].stop
        if following is not None:
            span = following.span(*span)
        return kind(transport, layout.cid, span, verified=self._verified)
