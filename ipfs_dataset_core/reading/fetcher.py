"""The one place that decides what to ask sources for: blocks one by one, or runs of leaves in bulk.

What a request costs a node hardly depends on its bytes up to a leaf's size: a leaf by its CID is about three
times cheaper than a range of any length in a large file, but a range of many leaves costs only one request.
So runs of neighbouring leaves come as one plain range, cut at the leaves' boundaries and each checked
against its CID, or where no source serves that, as one CAR; lone leaves come as blocks. What a range or CAR
does not deliver as it should comes as blocks, so a wrong or broken one costs time, never correctness.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.errors import TransportError
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.options import cached_bytes
from ipfs_dataset_core.reading.bulk_fetch import Bulk
from ipfs_dataset_core.reading.leaf_bulk import MIN_RANGE_LEAVES, LeafBulk
from ipfs_dataset_core.reading.single_flight import SingleFlight
from ipfs_dataset_core.reading.verified_streams import (
    BRIDGED_BYTES,
    FolderStream,
    NotALeafError,
    check_leaf,
    coalesce,
    leaf_bytes,
)
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.runtime.pool import IDLE_SECONDS, TimedWork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.options import Options
    from ipfs_dataset_core.reading.layout import FileLayout, Leaf
    from ipfs_dataset_core.reading.read_ahead import FileReadAhead, FolderReadAhead, ReadAheadStream
    from ipfs_dataset_core.reading.single_flight import Flight
    from ipfs_dataset_core.sources.failover import SourcePool

T = TypeVar("T")

# Below this many files, one by one is as cheap, and brings nothing that is not wanted.
_MIN_FILES = 16


class Fetcher:
    """Verified blocks and leaves of one process, cached, each asked for once at a time.

    Args:
        sources: Where blocks come from.
        options: `memory`, `deadline` and `verify` count here.
        origin: Returns what another process gets its own such fetcher with, as ``__reduce__`` does.
    """

    def __init__(
        self,
        sources: SourcePool,
        options: Options,
        origin: Callable[[], tuple[Any, ...]] | None = None,
    ) -> None:
        self.sources = sources
        self._origin = origin
        self.verifies = options.verify
        self.limits = options.limits
        # A request holds about a leaf while it is under way.
        self._flights = SingleFlight(cached_bytes(options.memory, sources.concurrency * LEAF_BYTES))
        self._bulk = Bulk(sources)
        self._leaf_bulk = LeafBulk(sources, self._bulk, verified=options.verify)
        self._streams: weakref.WeakSet[ReadAheadStream[Any]] = weakref.WeakSet()
        self._work = TimedWork(
            sources.concurrency,
            "ipfs-dataset-fetch",
            options.deadline,
            retired=partial(_close_idle, self._streams),
        )
        self.memory = options.memory
        self.read_ahead_bytes = min(16 << 20, options.memory // 4)
        # What is fetched before its time must not push out of the cache what is about to be read.
        self._prefetch_bytes = options.memory // 2

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise TypeError("this fetcher belongs to no dataset, and cannot be pickled")
        return self._origin()

    def close(self) -> None:
        """Ends the threads and closes the sources; who still waits for bytes gets an error."""
        self._work.close()
        self._flights.fail_all(TransportError("The dataset was closed while this was read"))
        for stream in list(self._streams):
            stream.close()
        self.sources.close()

    def block(self, cid: CID) -> bytes:
        """Returns a verified block; raises as `SourcePool.get_block` does."""
        return self.get(cid.to_bytes(), lambda: self.sources.get_block(cid))

    def leaf(self, layout: FileLayout, leaf: Leaf) -> bytes:
        """Returns the bytes that a leaf holds, verified.

        Raises:
            NotALeafError: It is an inner node.
            VerificationError: It has not as many bytes as its parent says.
        """
        key = _leaf_key(leaf)
        data = self._flights.cached(key)
        if data is None:  # most are there, and need no time
            data = self._awaited(key, lambda: self._leaf_from_block(leaf))
        return check_leaf(layout.cid, leaf, data)

    def get(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        """Returns what is cached under a key, on its way, or else fetched here and now."""
        cached = self._flights.cached(key)
        return self._awaited(key, fetch) if cached is None else cached

    def _awaited(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        with until(self._work.end()):
            return self._flights.get(key, fetch)

    def start(self, key: bytes, fetch: Callable[[], bytes]) -> None:
        """Starts fetching what `get` will be asked for soon."""
        flight = self._flights.acquire(key)
        if flight is not None:
            self._work.submit(lambda: flight.run(fetch))

    def prefetch_blocks(self, cids: Iterable[CID]) -> None:
        """Starts fetching blocks that will be needed soon."""
        for cid in cids:
            self.start(cid.to_bytes(), lambda cid=cid: self.sources.get_block(cid))  # type: ignore[misc]

    def prefetch_leaves(self, layout: FileLayout, leaves: Iterable[Leaf]) -> None:
        """Starts fetching leaves, given in order, that will be needed soon; not more than fit the cache."""
        mine = self._acquire_leaves(layout, leaves)
        for run in coalesce(mine):
            wanted = {leaf: mine[leaf] for leaf in run}
            if len(run) >= MIN_RANGE_LEAVES:
                self._work.submit(lambda wanted=wanted: self._fetch_run(layout, wanted))  # type: ignore[misc]
            else:
                self._fetch_each(wanted, self._leaf_from_block)

    def follow(self, stream: FileReadAhead, layout: FileLayout, leaves: Sequence[Leaf]) -> None:
        """Starts fetching the next leaves of who reads a file from front to back."""
        stream.expect(leaves)
        mine = self._acquire_leaves(layout, leaves)
        self._streams.add(stream)
        if stream.add(mine):
            self._work.submit(lambda: self._read_on(stream, layout))

    def open_range(self, stream: FileReadAhead, layout: FileLayout, start: int) -> None:
        """Asks for bytes from `start` on where it takes a wait to learn which leaves they are.

        Where an inner node is cached, they may be cached too; with a cache on disk, they may be there.
        """
        node = layout.unread_node(start)
        if node is None or self.sources.keeps or self._flights.cached(node.to_bytes()):
            return
        if self._leaf_bulk.ranging and stream.open_first():
            self._streams.add(stream)
            self._work.submit(lambda: self._open_range(stream, layout, start))

    def follow_tree(self, stream: FolderReadAhead, root: CID, cids: Iterable[CID]) -> None:
        """Starts fetching the next blocks of who reads a folder of small files in order."""
        wanted: dict[CID, Flight] = {}
        for cid in cids:
            flight = self._flights.acquire(cid.to_bytes())
            if flight is not None:
                wanted[cid] = flight
        self._streams.add(stream)
        kept = [cid for cid in wanted if self.sources.has_kept(cid)]
        self._fetch_each({cid: wanted.pop(cid) for cid in kept}, self.sources.get_block)
        if stream.add(wanted):
            self._work.submit(
                lambda: self._go_on(
                    stream, partial(self._fetch_tree, stream, root), self.sources.get_block
                )
            )

    def forget(self, leaf: Leaf) -> None:
        """Frees the memory of a leaf that will hardly be read again soon."""
        self._flights.forget(_leaf_key(leaf))

    def _acquire_leaves(self, layout: FileLayout, leaves: Iterable[Leaf]) -> dict[Leaf, Flight]:
        """Claims the leaves that are to be fetched, but for those on disk, which are read at once."""
        # All of them before the first claim: to find them may fail, and a claim must be kept.
        mine = dict(self._acquire_missing(list(self._within_budget(leaves))))
        if self.sources.keeps:
            kept = {leaf for leaf in mine if self.sources.has_kept(CID.from_bytes(leaf.cid))}
            self._fetch_each({leaf: mine.pop(leaf) for leaf in kept}, self._leaf_from_block)
        return mine

    def _within_budget(self, leaves: Iterable[Leaf]) -> Iterator[Leaf]:
        left = self._prefetch_bytes
        for leaf in leaves:
            if self._flights.cached(_leaf_key(leaf)):
                continue
            left -= leaf.stop - leaf.start
            if left < 0:
                return
            yield leaf

    def _acquire_missing(self, leaves: Iterable[Leaf]) -> Iterator[tuple[Leaf, Flight]]:
        for leaf in leaves:
            flight = self._flights.acquire(_leaf_key(leaf))
            if flight is not None:
                yield leaf, flight

    def _leaf_from_block(self, leaf: Leaf) -> bytes:
        # What was taken for a leaf before and was none is cached as a block.
        block = self._flights.cached(leaf.cid) or self.sources.get_block(CID.from_bytes(leaf.cid))
        try:
            return leaf_bytes(leaf, block)
        except NotALeafError:
            self._flights.cache(leaf.cid, block)
            raise

    def _fetch_each(self, wanted: dict[T, Flight], fetch: Callable[[T], bytes]) -> None:
        for item, flight in wanted.items():
            self._work.submit(partial(flight.run, partial(fetch, item)))

    def _open_range(self, stream: FileReadAhead, layout: FileLayout, start: int) -> None:
        try:
            with until(self._work.half()):
                self._leaf_bulk.open(layout, start, stream)
        finally:
            self._read_on(stream, layout)

    def _read_on(self, stream: FileReadAhead, layout: FileLayout) -> None:
        def deliver(batch: dict[Leaf, Flight]) -> None:
            for run in coalesce(list(batch), bridged=BRIDGED_BYTES, longest=layout.size):
                self._fetch_run(layout, {leaf: batch.pop(leaf) for leaf in run}, stream)

        self._go_on(stream, deliver, self._leaf_from_block)

    def _go_on(
        self,
        stream: ReadAheadStream[T],
        deliver: Callable[[dict[T, Flight]], None],
        fetch: Callable[[T], bytes],
    ) -> None:
        """Fetches what a sequential reader wants by now, and looks again.

        Args:
            stream: What it wants.
            deliver: Keeps, and removes, flights with what comes in bulk.
            fetch: Returns one of those that are left.
        """
        batch = stream.next_batch()
        try:
            deliver(batch)
        finally:
            self._fetch_each(batch, fetch)
            if stream.has_more():
                # The time of this batch is not that of the next, which was asked for later.
                self._work.submit(lambda: self._go_on(stream, deliver, fetch), self._work.end())

    def _fetch_tree(self, stream: FolderReadAhead, root: CID, wanted: dict[CID, Flight]) -> None:
        if stream.failed or (len(wanted) < _MIN_FILES and not stream.goes_on):
            return
        begin = partial(FolderStream, root=root, passed=self.keep, verified=self.verifies)
        with until(self._work.half()):
            self._bulk.deliver(
                *(FolderStream, begin, wanted),
                transports=[t for t in self.sources.transports if t.serves_cars],
                what=f"folder {root}",
                stream=stream,
            )
        stream.failed = bool(wanted)

    def keep(self, cid: CID, block: bytes) -> None:
        """Caches a verified block that came before anybody asked for it."""
        self._flights.cache(cid.to_bytes(), block)
        self.sources.keep(cid, block)

    def _fetch_run(
        self,
        layout: FileLayout,
        wanted: dict[Leaf, Flight],
        stream: FileReadAhead | None = None,
    ) -> None:
        """Fetches neighbouring leaves as a range from any source, else as a CAR, else block by block."""
        try:
            # Half of the time is left for what comes block by block.
            with until(self._work.half()):
                self._leaf_bulk.deliver(layout, wanted, stream)
        finally:
            self._fetch_each(wanted, self._leaf_from_block)


def _leaf_key(leaf: Leaf) -> bytes:
    # A dag-pb block and the bytes in it are different values; a raw block and its bytes are the same.
    return leaf.cid if leaf.raw else b"leaf" + leaf.cid


def _close_idle(stream: Iterable[ReadAheadStream[Any]]) -> None:
    for item in list(stream):
        item.close(IDLE_SECONDS / 2)
