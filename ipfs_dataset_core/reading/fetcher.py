"""Decides how blocks are requested: one by one, in batches, or as runs of leaves.

Runs of neighbouring leaves are requested as one plain range, which is cut at the boundaries of the leaves and
verified leaf by leaf, or, if no source serves ranges, as one CAR; single leaves are requested as blocks.
Leaves that do not arrive intact in a range or CAR are requested as blocks; see `bulk_fetch` for the costs.
Blocks that are needed together are requested in one batch if a source serves batches, and missing ones again
block by block.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from ipfs_dataset_core.errors import VerificationError
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.options import cached_bytes
from ipfs_dataset_core.reading.bulk_fetch import MIN_RANGE_LEAVES, BulkFetch
from ipfs_dataset_core.reading.single_flight import SingleFlight
from ipfs_dataset_core.reading.verified_streams import (
    IDLE_SECONDS,
    NotALeafError,
    check_leaf,
    coalesce,
    leaf_bytes,
)
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.runtime.pool import TimedWork
from ipfs_dataset_core.runtime.weak_sets import living

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ipfs_dataset_core.options import Options
    from ipfs_dataset_core.reading.layout import FileLayout, Leaf
    from ipfs_dataset_core.reading.single_flight import Flight
    from ipfs_dataset_core.reading.verified_streams import KeptStream
    from ipfs_dataset_core.sources.failover import SourcePool

T = TypeVar("T")

# Maximum number of blocks in a batch. A batch has at least two.
_MAX_BATCH, _MIN_BATCH = 512, 2


class Fetcher:
    """Verified blocks and leaves of one process: cached, and each fetched only once at a time. Thread-safe.

    Args:
        sources: The sources of blocks.
        options: `memory`, `deadline` and `verify` are used.
        origin: Returns how another process gets its own fetcher of this kind, like ``__reduce__``.

    Attributes:
        bulk: Fetches many leaves or files over one request.
        open_streams: Streams that stay open between the reads of sequential readers, which own them.
        memory: Size of the cache in bytes.
        read_ahead_bytes: Maximum number of bytes that are fetched ahead of a sequential reader.
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
        self.bulk = BulkFetch(sources, verified=options.verify)
        # A transport that serves batches limits the data in transit itself, to an eighth of the memory.
        in_batches = any(source.batches for source in sources.transports)
        self._flights = SingleFlight(cached_bytes(options.memory) if in_batches else options.memory)
        self.open_streams: WeakSet[KeptStream[Any]] = WeakSet()
        self._deadline = options.deadline
        self._work: TimedWork | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self.memory = options.memory
        self.read_ahead_bytes = min(16 << 20, options.memory // 4)
        # Prefetched data must not evict data that is about to be read from the cache.
        self._prefetch_bytes = options.memory // 2

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise TypeError("this fetcher belongs to no dataset, and cannot be pickled")
        return self._origin()

    @property
    def work(self) -> TimedWork:
        """Threads for prefetching and for concurrent requests."""
        with self._lock:
            if self._work is None:
                sources = self.sources  # not this object, which a thread would keep alive
                self._work = TimedWork(
                    lambda: sources.concurrency,
                    "ipfs-dataset-fetch",
                    self._deadline,
                    # Not a method, which would keep this object alive.
                    retired=partial(_close_idle, self.open_streams),
                )
                if self._is_closed:
                    self._work.close()
            return self._work

    def close(self) -> None:
        """Ends the threads and closes the sources; waiting threads get an error."""
        with self._lock:
            self._is_closed = True
        if self._work is not None:
            self._work.close()
        self._flights.fail_all("The dataset was closed during the read")
        for stream in living(self.open_streams):
            stream.close()
        self.sources.close()

    def block(self, cid: CID) -> bytes:
        """Returns a verified block; raises like `SourcePool.get_block`."""
        return self.get(cid.to_bytes(), lambda: self.sources.get_block(cid))

    def leaf(self, layout: FileLayout, leaf: Leaf) -> bytes:
        """Returns the verified bytes of a leaf.

        Raises:
            NotALeafError: It is an inner node.
            VerificationError: Its size differs from the one in its parent.
        """
        key = _leaf_key(leaf)
        data = self._flights.get(key)
        if data is None:  # most leaves are cached, and need no deadline
            data = self._fetch(key, lambda: self.fetch_leaf(leaf))
        return check_leaf(layout.cid, leaf, data)

    def get(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        """Returns the value of a key from the cache, from a flight of another thread, or from `fetch`."""
        cached = self._flights.get(key)
        return self._fetch(key, fetch) if cached is None else cached

    def _fetch(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        with until(time.monotonic() + self._deadline):
            return self._flights.fetch(key, fetch)

    def is_cached(self, cid: CID) -> bool:
        """Returns whether a block is in memory."""
        return self._flights.get(cid.to_bytes()) is not None

    def is_coming(self, cid: CID) -> bool:
        """Returns whether a block is in memory or being fetched."""
        return self._flights.is_coming(cid.to_bytes())

    def is_leaf_coming(self, leaf: Leaf) -> bool:
        """Returns whether the bytes of a leaf are in memory or being fetched."""
        return self._flights.is_coming(_leaf_key(leaf))

    def start(self, key: bytes, fetch: Callable[[], bytes]) -> None:
        """Starts fetching a value that will soon be read with `get`."""
        flight = self._flights.acquire(key)
        if flight is not None:
            self.work.submit(partial(flight.run, fetch))

    def prefetch_blocks(self, cids: Iterable[CID]) -> None:
        """Starts fetching blocks that will soon be read."""
        if self.sources.batches:
            self.fetch_blocks(self.acquire_blocks(cids))
            return
        for cid in cids:
            self.start(cid.to_bytes(), partial(self.sources.get_block, cid))

    def prefetch_leaves(self, layout: FileLayout, leaves: Iterable[Leaf]) -> None:
        """Starts fetching leaves, given in order, that will soon be read, as far as they fit the cache."""
        acquired = self.acquire_leaves(leaves)
        in_batch: dict[Leaf, Flight] = {}
        for run in coalesce(acquired):
            wanted = {leaf: acquired[leaf] for leaf in run}
            if len(run) >= MIN_RANGE_LEAVES and self.bulk.serves_runs:
                self.work.submit(partial(self.fetch_run, layout, wanted))
            elif self.sources.batches:
                in_batch.update(wanted)
            else:
                self._fetch_each(wanted, self.fetch_leaf)
        self.fetch_leaves(in_batch)

    def acquire_leaves(self, leaves: Iterable[Leaf]) -> dict[Leaf, Flight]:
        """Returns flights for the leaves that the caller must fetch.

        Leaves are omitted that are cached or being fetched, exceed the memory for prefetching, are in the
        disk cache, from which they are read at once, or have links that are not CIDs.
        """
        # All leaves before the first flight: finding them may fail, and every flight must be completed.
        usable = [leaf for leaf in self._within_budget(leaves) if _has_cid(leaf)]
        acquired = dict(self._acquire_missing(usable))
        if self.sources.keeps:
            leaves_by_cid = {CID.from_bytes(leaf.cid): leaf for leaf in acquired}
            kept = map(leaves_by_cid.__getitem__, self.sources.those_kept(leaves_by_cid))
            self._fetch_each({leaf: acquired.pop(leaf) for leaf in kept}, self.fetch_leaf)
        return acquired

    def acquire_blocks(self, cids: Iterable[CID]) -> dict[CID, Flight]:
        """Returns flights for the blocks that the caller must fetch; see `acquire_leaves`."""
        acquired: dict[CID, Flight] = {}
        for cid in cids:
            flight = self._flights.acquire(cid.to_bytes())
            if flight is not None:
                acquired[cid] = flight
        kept = self.sources.those_kept(acquired)
        self._fetch_each({cid: acquired.pop(cid) for cid in kept}, self.sources.get_block)
        return acquired

    def fetch_leaves(self, wanted: Mapping[Leaf, Flight]) -> None:
        """Starts fetching leaves as blocks, each for its flight, in batches if possible."""
        if len(wanted) < _MIN_BATCH or not self.sources.batches:
            self._fetch_each(wanted, self.fetch_leaf)
            return
        for some in _in_batches(wanted):
            by_cid = {CID.from_bytes(leaf.cid): leaf for leaf in some}
            work = partial(self._fetch_batch, by_cid, wanted, self._leaf_of, self.fetch_leaf)
            self.work.submit(work)

    def fetch_blocks(self, wanted: Mapping[CID, Flight]) -> None:
        """Starts fetching blocks, each for its flight, in batches if possible."""
        if len(wanted) < _MIN_BATCH or not self.sources.batches:
            self._fetch_each(wanted, self.sources.get_block)
            return
        for some in _in_batches(wanted):
            by_cid = {cid: cid for cid in some}
            work = partial(self._fetch_batch, by_cid, wanted, _itself, self.sources.get_block)
            self.work.submit(work)

    def _fetch_batch(
        self,
        by_cid: Mapping[CID, T],
        wanted: Mapping[T, Flight],
        bytes_of: Callable[[T, bytes], bytes],
        fetch: Callable[[T], bytes],
    ) -> None:
        """Fetches items in one batch, and those that do not arrive one by one.

        Args:
            by_cid: The items, by the CIDs of their blocks.
            wanted: Flights, possibly including those of other items.
            bytes_of: Returns the bytes of an item from its block.
            fetch: Returns the bytes of an item with a request of its own.
        """

        def arrived(cid: CID, block: bytes) -> None:
            item = by_cid[cid]
            wanted[item].run(partial(bytes_of, item, block))

        try:
            # Half of the time is reserved for blocks that are fetched individually.
            with until(self.work.half()):
                self.sources.get_blocks(by_cid, arrived)
        finally:
            missing = {item: wanted[item] for item in by_cid.values() if not wanted[item].done()}
            self._fetch_each(missing, fetch)

    def _fetch_each(self, wanted: Mapping[T, Flight], fetch: Callable[[T], bytes]) -> None:
        """Starts fetching items one by one, each for its flight."""
        for item, flight in wanted.items():
            self.work.submit(partial(flight.run, partial(fetch, item)))

    def fetch_run(
        self,
        layout: FileLayout,
        wanted: dict[Leaf, Flight],
        kept: KeptStream[Leaf] | None = None,
    ) -> None:
        """Fetches neighbouring leaves as a range from any source, else as a CAR, else by their blocks."""
        try:
            # Half of the time is reserved for blocks that are fetched individually.
            with until(self.work.half()):
                self.bulk.fetch_leaves(layout, wanted, kept)
        finally:
            self.fetch_leaves(wanted)

    def fetch_leaf(self, leaf: Leaf) -> bytes:
        """Returns the bytes of a leaf, fetched as a block.

        Raises:
            NotALeafError: It is an inner node.
            TransportError: As for `SourcePool.get_block`.
        """
        # An inner node that was assumed to be a leaf is cached as a block.
        block = self._flights.get(leaf.cid) or self.sources.get_block(CID.from_bytes(leaf.cid))
        return self._leaf_of(leaf, block)

    def _leaf_of(self, leaf: Leaf, block: bytes) -> bytes:
        """Returns the bytes of a leaf; an inner node is cached as a block."""
        try:
            return leaf_bytes(leaf, block)
        except NotALeafError:
            self._flights.put(leaf.cid, block)
            raise

    def keep(self, cid: CID, block: bytes) -> None:
        """Caches a verified block that arrived before it was requested."""
        self._flights.put(cid.to_bytes(), block)
        self.sources.keep(cid, block)

    def forget(self, leaf: Leaf) -> None:
        """Frees the memory of a leaf that is unlikely to be read again soon."""
        self._flights.drop(_leaf_key(leaf))

    def _within_budget(self, leaves: Iterable[Leaf]) -> Iterator[Leaf]:
        left = self._prefetch_bytes
        for leaf in leaves:
            if self._flights.get(_leaf_key(leaf)):
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


def _in_batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, _MAX_BATCH)):
        yield some


def _itself(_: CID, block: bytes) -> bytes:
    return block


def _close_idle(streams: WeakSet[KeptStream[Any]]) -> None:
    for stream in living(streams):
        stream.close_idle(IDLE_SECONDS / 2)


def _has_cid(leaf: Leaf) -> bool:
    """Returns whether the link to a leaf is a CID; if not, reading the leaf raises the error."""
    try:
        CID.from_bytes(leaf.cid)
    except VerificationError:
        return False
    return True


def _leaf_key(leaf: Leaf) -> bytes:
    # A dag-pb block and the bytes in it are different values, whereas a raw block equals its bytes.
    return leaf.cid if leaf.raw else b"leaf" + leaf.cid
