"""Read-ahead: fetches the data that a sequential reader needs next in advance, over one long stream.

A node needs about 3 ms of CPU time for any range of a large file before the first byte, and a distant node
takes a round trip, so requesting every few MiB would be slow. Instead, one range or CAR stays open between
reads. Data that has arrived waits in the cache; beyond the window of the reader, nothing is read from the
connection, and TCP back-pressure pauses the server.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES
from ipfs_dataset_core.reading.layout import Leaf
from ipfs_dataset_core.reading.verified_streams import BRIDGED_BYTES, KeptStream, coalesce
from ipfs_dataset_core.runtime.deadlines import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipfs_dataset_core.interfaces import Span
    from ipfs_dataset_core.reading.fetcher import Fetcher
    from ipfs_dataset_core.reading.layout import FileLayout, Inline
    from ipfs_dataset_core.reading.single_flight import Flight

log = logging.getLogger(__name__)

T = TypeVar("T")

# A read that starts at most this far after the end of the previous one continues it: archive readers skip
# padding, and headers that they already have.
GAP_BYTES = 64 << 10
# Number of bytes fetched before the first read of a hinted span: enough for a range.
_FIRST_AHEAD_BYTES = 4 << 20
_FIRST_RANGE_BYTES = 8 << 20
_MAX_RANGE_BYTES = 1 << 30
# Inner nodes are prefetched for the data that arrives at this rate in the time of a request. Each stands for
# 43 MiB or more of the file, and a reader must wait for one that was requested too late.
_FAST_BYTES_PER_SECOND = 1_000_000_000
# With a distant source, each range takes a round trip: 1 GiB takes three ranges.
_RANGE_GROWTH = 16


class ReadAhead(KeptStream[T], ABC):
    """The items that one sequential reader will read next, and the stream that delivers them. Thread-safe.

    The reader's thread adds items to a queue, in order, with the flights for which it will wait. One thread
    of the fetcher at a time processes the queue and ends when it is empty. The stream is kept from one batch
    to the next.

    Args:
        fetcher: Provides the threads, the cache and the sources.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        super().__init__()
        self._fetcher = fetcher
        self._queue: dict[T, Flight] = {}
        self._has_worker = False

    @abstractmethod
    def _fetch_batch(self, batch: dict[T, Flight]) -> None:
        """Completes flights in bulk, and removes them."""

    @abstractmethod
    def _fetch_rest(self, batch: dict[T, Flight]) -> None:
        """Starts fetching items that did not arrive in bulk."""

    def add(self, wanted: Mapping[T, Flight]) -> None:
        """Starts fetching items, in order, after those that were added before."""
        with self._lock:
            self._queue.update(wanted)
        if self._queue and self._becomes_worker():
            self._fetcher.open_streams.add(self)
            self._fetcher.work.submit(self._work)

    def _becomes_worker(self) -> bool:
        """Returns whether the caller must start a worker, because there is none."""
        with self._lock:
            starts = self._closed or not self._has_worker
            self._has_worker = True
            return starts

    def _work(self) -> None:
        with self._lock:
            batch, self._queue = self._queue, {}
        try:
            self._fetch_batch(batch)
        finally:
            self._fetch_rest(batch)
            with self._lock:
                self._has_worker = bool(self._queue)
                has_more = self._has_worker
            if has_more:
                # With a deadline of its own, because the next batch was added later than this one.
                self._fetcher.work.submit(self._work, self._fetcher.work.end())


class ReadAheadWindow:
    """The position of a sequential reader of one file, and how far ahead of it to fetch. No I/O here.

    A reader that will read in order should announce that with `hint`, so that fetching ends where reading
    ends. The window ahead of the reader grows with the amount read in order, so that examining the start of a
    file fetches little.

    Args:
        size: Size of the file in bytes.
        most: Maximum number of bytes that are fetched ahead of the reader.
        read: The start of the sequential reading, and the end of the last read.

    Attributes:
        fetched: The end of the data that was requested.
        hinted_stop: The end of the hinted span that is being read; 0 if there is none.
    """

    def __init__(self, size: int, most: int, read: Span = (0, 0)) -> None:
        self._size = size
        self._most = most
        self._start, self._position = read
        self.fetched = self._start
        self._hint: Span | None = None
        self._hinted_bytes = 0  # count as if they had been read in order
        self.hinted_stop = 0

    @property
    def in_order(self) -> int:
        """Number of bytes from the start of the sequential reading to the end of the last read."""
        return self._position - self._start

    def hint(self, start: int, stop: int) -> None:
        """Announces that a span will be read in order, starting with a read at or just after its start."""
        self._hint = start, stop

    def continues_at(self, start: int) -> bool:
        """Returns whether a read at a byte continues the sequential reading, or restarts it."""
        continues = 0 <= start - self._position <= GAP_BYTES
        # A few bytes may have been read before, to detect the format of the file.
        return continues or (start == self._start and self._position - start <= GAP_BYTES)

    def jump(self, start: int) -> None:
        """Restarts at a byte; a hint that has not taken effect is kept."""
        self._start = self._position = self.fetched = start
        self._hinted_bytes = 0

    def after_jump(self, start: int) -> ReadAheadWindow:
        """Returns a new window that starts at a byte, with a hint that has not taken effect."""
        after = ReadAheadWindow(self._size, self._most, (start, start))
        after._hint = self._hint
        return after

    def advance(self, start: int, stop: int) -> Span | None:
        """Records a read.

        Args:
            start: Start of the read.
            stop: End of the read.

        Returns:
            The span to start fetching; None if enough is on its way.
            The span to start fetching, None where enough is on its way.
        """
        if self._hint is not None and 0 <= start - self._hint[0] <= GAP_BYTES:
            (_, self.hinted_stop), self._hint = self._hint, None
            self._hinted_bytes = _FIRST_AHEAD_BYTES // 2
        self._position = stop
        in_order = stop - self._start + self._hinted_bytes
        window = min(self._most, 2 * in_order)
        # Renewed at half, so that something is always being fetched, and threads are woken rarely.
        if in_order <= stop - start or self.fetched - stop >= window // 2:
            return None
        # Data after the end of a hint is read by another reader.
        end = self.hinted_stop if stop <= self.hinted_stop else self._size
        wanted = max(self.fetched, start), min(end, stop + window)
        self.fetched = wanted[1]
        return wanted


class FileReadAhead(ReadAhead[Leaf]):
    """Fetches ahead of a sequential reader of one verified file.

    Without a hint, the file creates this object when a read continues the previous one. Ranges become longer
    with the amount read in order; after a hint, they end where the hint ends. A read elsewhere ends the use
    of this object: `at` returns the object to continue with.

    Args:
        fetcher: Fetches and verifies.
        layout: The layout of the file.
        window: The position of the reader; by default the start of the file.
        lasting: Whether there will be more than one read; otherwise the stream is closed after the first one.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        layout: FileLayout,
        window: ReadAheadWindow | None = None,
        *,
        lasting: bool = True,
    ) -> None:
        super().__init__(fetcher)
        self._lasting = lasting
        self._layout = layout
        self._window = window or ReadAheadWindow(layout.size, fetcher.read_ahead_bytes)
        self._is_active = False  # whether anything was requested
        self._range_bytes = _FIRST_RANGE_BYTES
        # For each leaf, by CID, its last position, in order: a repeated leaf must stay cached until then.
        self._last_use: dict[bytes, Leaf] = {}
        self._open_at: int | None = None

    def hint(self, start: int, stop: int) -> None:
        """Announces that a span will be read in order; see `ReadAheadWindow.hint`."""
        self._window.hint(start, stop)

    def at(self, start: int) -> FileReadAhead:
        """Returns the read-ahead for a read at a byte: this one, or a new one after a jump."""
        if self._window.continues_at(start):
            return self
        if not self._is_active:
            self._window.jump(start)
            return self
        self.close()
        return FileReadAhead(self._fetcher, self._layout, self._window.after_jump(start))

    def advance(self, start: int, stop: int) -> bool:
        """Starts fetching the data needed after a read, growing up to a limit.

        Args:
            start: Start of the read.
            stop: End of the read.

        Returns:
            Whether the data of this read was already requested.
        """
        is_coming = self._is_active and stop <= self._window.fetched
        wanted = self._window.advance(start, stop)
        if wanted is not None:
            self._fetch_between(*wanted)
        return is_coming

    def advance_over(self, start: int, stop: int) -> None:
        """Like `advance`, for bytes that are read from the cache next; also frees the bytes before them.

        Does nothing if they do not continue the sequential reading.
        """
        if self._is_active and self._window.continues_at(start):
            self.advance(start, stop)
            with self._lock:
                read = list(takewhile(lambda leaf: leaf.stop <= start, self._last_use.values()))
            self.release(read, start)

    def release(self, segments: Iterable[Leaf | Inline], stop: int) -> None:
        """Frees the memory of leaves that end before a byte, if the cache cannot hold the whole file.

        Otherwise they would evict everything else from the cache before they are read again.
        """
        if not self._lasting:
            self.close()
            return
        if not self._is_active or self._layout.size <= self._fetcher.memory // 2:
            return
        for segment in segments:
            if not isinstance(segment, Leaf) or segment.stop > stop:
                continue
            with self._lock:
                last_use = self._last_use.get(segment.cid)
                if last_use is None or last_use.start != segment.start:
                    continue
                del self._last_use[segment.cid]
            self._fetcher.forget(segment)

    def span(self, start: int, stop: int) -> Span:
        """Returns the range to request: up to the end of the hint, or longer each time without a hint.

        Args:
            start: Start of the range.
            stop: Minimum end of the range.
        """
        hinted_stop = self._window.hinted_stop
        if start < hinted_stop:
            # Includes the complete last leaf, if its size is the common one.
            grid = self._layout.leaf_grid or LEAF_BYTES
            hinted_stop = -(-hinted_stop // grid) * grid
            length = min(hinted_stop - start, _MAX_RANGE_BYTES)
        else:
            length = self._range_bytes
            self._range_bytes = min(_RANGE_GROWTH * length, _MAX_RANGE_BYTES)
        return start, min(self._layout.size, max(stop, start + length))

    def fetch(self, leaves: Sequence[Leaf]) -> None:
        """Starts fetching leaves, in order."""
        self._is_active = True
        with self._lock:
            for leaf in leaves:
                self._last_use.pop(leaf.cid, None)
                self._last_use[leaf.cid] = leaf
        self.add(self._fetcher.acquire_leaves(leaves))

    def _fetch_between(self, start: int, stop: int) -> None:
        if not self._is_active:
            self._is_active = True
            self._open_early(start)
        try:
            leaves = list(
                self._layout.leaves([(start, stop)], nodes_ahead=self._nodes_ahead(start))
            )
        except IPFSDatasetError as error:
            log.debug("cannot read ahead: %s", error)
        else:
            self.fetch(leaves)

    def _nodes_ahead(self, start: int) -> int:
        """Returns for how many bytes after `start` inner nodes are prefetched: few without a hint."""
        if not self._lasting:
            return 0
        reached = int(self._fetcher.sources.latency * _FAST_BYTES_PER_SECOND)
        if start >= self._window.hinted_stop:
            reached = min(reached, self._window.in_order)
        return max(reached, 1)

    def _open_early(self, start: int) -> None:
        """Makes a worker open the range at once if its leaves are unknown until an inner node is fetched.

        If that node is cached, in memory or on disk, the leaves may be cached too.
        """
        fetcher, node = self._fetcher, self._layout.unread_node(start)
        if node is None or fetcher.is_cached(node) or fetcher.sources.has_kept(node):
            return
        if start and not self._layout.leaf_grid:
            return
        if fetcher.bulk.serves_ranges and not self._closed and self._becomes_worker():
            self._open_at = start
            fetcher.open_streams.add(self)
            fetcher.work.submit(self._work)

    def _work(self) -> None:
        start, self._open_at = self._open_at, None
        try:
            if start is not None:
                with until(self._fetcher.work.half()):
                    self._fetcher.bulk.open_range(self._layout, start, self)
        finally:
            super()._work()

    def _fetch_batch(self, batch: dict[Leaf, Flight]) -> None:
        for run in coalesce(list(batch), bridged=BRIDGED_BYTES, longest=self._layout.size):
            wanted = {leaf: batch.pop(leaf) for leaf in run}
            self._fetcher.fetch_run(self._layout, wanted, self)

    def _fetch_rest(self, batch: dict[Leaf, Flight]) -> None:
        self._fetcher.fetch_leaves(batch)
