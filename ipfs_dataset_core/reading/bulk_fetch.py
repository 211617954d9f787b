"""Fetches many leaves of a file, or many small files of a folder, with one request: a range or a CAR.

Up to the size of a leaf, the cost of a request to a node hardly depends on its bytes: fetching a leaf by its
CID is about three times cheaper than a range of any length in a large file, but many leaves take a single
range.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError, RateLimitedError, TransportError
from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.reading.verified_streams import (
    CarStream,
    FolderStream,
    NotALeafError,
    RangeStream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.reading.layout import FileLayout, Leaf
    from ipfs_dataset_core.reading.single_flight import Flight
    from ipfs_dataset_core.reading.verified_streams import KeptStream, VerifiedStream
    from ipfs_dataset_core.sources.failover import SourcePool
    from ipfs_dataset_core.sources.source import Source

log = logging.getLogger(__name__)

T = TypeVar("T")

# With fewer neighbours than this, single leaves are cheaper than a range. Measured on Kubo, CPU time of both
# sides for leaves of 1 MiB: two of them 8.0 ms as blocks and 9.6 as a range, three 11.6 and 11.0.
MIN_RANGE_LEAVES = 3


class BulkFetch:
    """Completes flights with data from ranges and CARs. Thread-safe.

    It raises no errors: items that do not arrive intact stay in `wanted`, and the caller fetches them block
    by block. A wrong or broken stream therefore costs time, but never correctness.

    Args:
        sources: The transports, and the cache on disk.
        verified: Whether the data is verified.
    """

    def __init__(self, sources: SourcePool, *, verified: bool) -> None:
        self._sources = sources
        self._verified = verified

    @property
    def serves_ranges(self) -> bool:
        """Whether any source serves ranges."""
        return bool(self._ranging())

    @property
    def serves_runs(self) -> bool:
        """Whether any source serves ranges or CARs."""
        return bool(self._ranging() or self._carrying())

    def fetch_leaves(
        self, layout: FileLayout, wanted: dict[Leaf, Flight], kept: KeptStream[Leaf] | None
    ) -> None:
        """Fetches neighbouring leaves as a range from any source that serves it, else as a CAR.

        Args:
            layout: The layout of the file.
            wanted: Leaves in order, with their flights; those that land are removed.
            kept: Holds the open stream if the leaves are read in order; None for other reads.
        """
        kinds: tuple[tuple[type[RangeStream | CarStream], list[Source]], ...] = (
            (RangeStream, self._ranging()),
            (CarStream, self._carrying()),
        )
        for kind, transports in kinds:
            is_open = kept is not None and kept.has_stream
            if wanted and (len(wanted) >= MIN_RANGE_LEAVES or is_open):
                begin = partial(self._begin, kind, layout, wanted, kept)
                self._fetch(
                    kind,
                    begin,
                    wanted,
                    transports=transports,
                    what=f"bytes of {layout.cid}",
                    kept=kept,
                )

    def fetch_files(
        self,
        root: CID,
        wanted: dict[CID, Flight],
        kept: KeptStream[CID],
        keep: Callable[[CID, bytes], None],
    ) -> None:
        """Fetches files of one block each, in the order of their folder, from a CAR of the folder.

        Args:
            root: The folder.
            wanted: Files in order, with their flights; those that land are removed.
            kept: Holds the open stream from one call to the next.
            keep: Called with the verified blocks between the wanted ones.
        """
        begin = partial(FolderStream, root=root, passed=keep, verified=self._verified)
        self._fetch(
            FolderStream,
            begin,
            wanted,
            transports=self._carrying(),
            what=f"folder {root}",
            kept=kept,
        )

    def open_range(self, layout: FileLayout, start: int, kept: KeptStream[Leaf]) -> None:
        """Opens the range that will be read in order from a byte on, before its leaves are known.

        It begins where most builders begin a leaf; if that is wrong, it is closed and another range is
        opened.
        """
        start -= start % (layout.leaf_grid or LEAF_BYTES)
        span = kept.span(start, start)

        def ask(transport: Transport) -> None:
            stream = RangeStream(transport, layout.cid, span, verified=self._verified)
            kept.keep_stream(transport, stream)

        self._first(ask, self._ranging(), f"bytes of {layout.cid}")

    def _ranging(self) -> list[Source]:
        return [transport for transport in self._sources.transports if transport.serves_ranges]

    def _carrying(self) -> list[Source]:
        return [transport for transport in self._sources.transports if transport.serves_cars]

    def _begin(
        self,
        kind: type[RangeStream | CarStream],
        layout: FileLayout,
        wanted: Iterable[Leaf],
        kept: KeptStream[Leaf] | None,
        transport: Transport,
    ) -> RangeStream | CarStream:
        leaves = list(wanted)
        span = leaves[0].start, leaves[-1].stop
        if kept is not None:
            span = kept.span(*span)
        return kind(transport, layout.cid, span, verified=self._verified)

    def _fetch(
        self,
        kind: type[VerifiedStream[T]],
        begin: Callable[[Transport], VerifiedStream[T]],
        wanted: dict[T, Flight],
        *,
        transports: Sequence[Source],
        what: str,
        kept: KeptStream[T] | None,
    ) -> None:
        """Completes flights with data from the sources, each continuing where the previous one failed.

        Args:
            kind: Class of the streams.
            begin: Opens a stream of what is still wanted.
            wanted: Flights in the order of a stream; completed ones are removed.
            transports: The sources that serve such streams.
            what: Description of the data for messages.
            kept: Holds the open stream of a sequential reader; None for other reads.
        """
        if not transports:
            return

        def ask(transport: Transport) -> None:
            _check_open(next(iter(wanted.values())))
            stream = kept and kept.take_stream(transport, kind, next(iter(wanted)))
            if stream:
                try:
                    if self._read(stream, transport, wanted, kept):
                        return
                except TransportError as error:
                    log.debug("A stream was closed while it was idle: %s", error)
                    _check_open(next(iter(wanted.values())))
            self._read(begin(transport), transport, wanted, kept)

        self._first(ask, transports, what)

    def _first(
        self, ask: Callable[[Transport], None], transports: Sequence[Source], what: str
    ) -> None:
        try:
            # Other failures are not retried, because the same source may deliver blocks at once.
            self._sources.first(ask, what, transports, retried=RateLimitedError)
        except (IPFSDatasetError, NotImplementedError) as error:
            log.debug("%s cannot be fetched in bulk, fetching blocks instead: %s", what, error)
        except Exception:
            # A bug in a transport must not end the thread for which others wait.
            log.exception("A source failed at %s, fetching blocks instead", what)

    def _read(
        self,
        stream: VerifiedStream[T],
        transport: Transport,
        wanted: dict[T, Flight],
        kept: KeptStream[T] | None,
    ) -> bool:
        """Returns whether the stream reached the end of the wanted items."""
        try:
            # Item by item: a list of the flights would keep the memory of everything delivered so far.
            for item in list(wanted):
                _check_open(wanted[item])
                if not stream.comes_to(item):
                    stream.close()
                    return False
                try:
                    with wanted[item].receiving():
                        data, block = stream.read(item)
                except NotALeafError:
                    continue  # fetched as a block, in which the reader finds an inner node
                wanted.pop(item).land(data)
                if self._sources.keeps:
                    self._sources.keep(stream.cid_of(item), block())
        except BaseException:
            stream.close()
            raise
        if kept is not None:
            kept.keep_stream(transport, stream)
        else:
            stream.close()
        return True


def _check_open(flight: Flight) -> None:
    """Checks that a flight is still awaited, so that unneeded data is not received for long.

    Raises:
        TransportError: The flight was ended, because the dataset was closed.
    """
    if flight.done():
        raise TransportError("the dataset was closed during the read")
