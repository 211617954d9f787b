"""Prefetching for directories: the shards and files that will be read next.

Small files that are read in order are fetched in one CAR of their folder: thousands of files per request. A
sharded directory is also fetched as one CAR, so that a listing takes one request instead of one per block.
Everything is verified block by block, and anything that does not arrive is fetched as blocks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core.errors import IPFSDatasetError, RateLimitedError
from ipfs_dataset_core.ipld import CID, RAW, entries, hamt, node_kind, verify
from ipfs_dataset_core.reading.read_ahead import ReadAhead
from ipfs_dataset_core.reading.verified_streams import car_blocks
from ipfs_dataset_core.runtime.cached_property import cached_property
from ipfs_dataset_core.runtime.deadlines import progressed, until
from ipfs_dataset_core.sources.source import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import DirectoryEntry
    from ipfs_dataset_core.ipld.directory import Stream
    from ipfs_dataset_core.reading.fetcher import Fetcher
    from ipfs_dataset_core.reading.single_flight import Flight
    from ipfs_dataset_core.sources.source import Source

log = logging.getLogger(__name__)

# Number of entries whose blocks are fetched together, and of files that are fetched individually ahead of
# their reader: enough to keep all connections busy. More in batches, each of which takes a round trip.
_WINDOW_ENTRIES, _WINDOW_IN_BATCHES = 32, 256
# Number of files that are fetched ahead of their reader if they arrive in a CAR.
_MAX_IN_A_CAR = 1024
# With fewer files, a CAR saves nothing.
_MIN_FILES = 16
# Larger files would crowd the cache, and are not fetched with their folder.
_SMALL_BYTES = 512 << 10
# Maximum number of known paths of files that will be opened; beyond it, older ones are dropped.
_MAX_KNOWN = 4096
# The cost of a CAR for a node, in blocks.
_MIN_BLOCKS = 16
# A file of more bytes has several blocks, of which a listing needs the first.
_LARGEST_BLOCK = 264 << 10
# The span that selects a directory's own blocks in a CAR, without those of its files.
_ENTITY = (0, 1)


class DirectoryPrefetch:
    """Prefetches the blocks that the reader of one directory will need next.

    Args:
        fetcher: Fetches and verifies.
        root: The directory.
    """

    def __init__(self, fetcher: Fetcher, root: CID) -> None:
        self._fetcher = fetcher
        self._root = root
        self._queue = PrefetchQueue(fetcher.memory // 4)
        self._read_ahead = FolderReadAhead(fetcher, root)
        # Whether all files will be read in order.
        self.all_in_order = False

    def __contains__(self, path: object) -> bool:
        return path in self._queue

    @property
    def window(self) -> int:
        """Number of entries whose blocks should be fetched together."""
        return _WINDOW_IN_BATCHES if self._fetcher.sources.batches else _WINDOW_ENTRIES

    def request_all(self) -> None:
        """Requests the CAR of the directory before its own block, the first one in the CAR, is known."""
        self._read_ahead.fetch([self._root])

    def is_worth_a_car(self) -> bool:
        """Returns whether the directory begins with small files, as far as its block shows."""
        first = islice(entries(self._root, self._fetcher.block), _WINDOW_ENTRIES)
        return all(entry.tsize <= _SMALL_BYTES for entry in first)

    def close(self) -> None:
        """Closes the CAR if one is open."""
        self._read_ahead.close()

    def add(self, found: Iterable[tuple[str, DirectoryEntry]]) -> None:
        """Adds files, with their paths, in the order in which they will be opened."""
        self._queue.add(found)
        self._fetch_queued()

    def take(self, path: str) -> DirectoryEntry | None:
        """Returns the entry of a path that is being opened, or None, and fetches the next files."""
        entry = self._queue.take(path)
        if entry is not None:
            self._fetch_queued()
        return entry

    def fetch(self, found: Sequence[DirectoryEntry]) -> None:
        """Starts fetching the first blocks of entries, given in order."""
        if self._is_in_order and all(entry.tsize <= _SMALL_BYTES for entry in found):
            self._read_ahead.fetch(entry.cid for entry in found)
        else:
            self._fetcher.prefetch_blocks(entry.cid for entry in found)

    def shards(self, directory: CID) -> Stream | None:
        """Returns a function that streams the blocks of a sharded directory, this one or one below it.

        None if it has no such blocks, or too few to be worth a CAR, or they are cached.
        """
        if not self._is_sharded(directory):
            return None
        shard = hamt.parse_shard(directory, self._fetcher.block(directory))
        below = [raw for name, raw in zip(shard.names, shard.cids, strict=True) if not name]
        is_kept = bool(below) and self._fetcher.sources.has_kept(CID.from_bytes(below[0]))
        if len(below) < _MIN_BLOCKS or is_kept:
            return None
        return partial(self._car, directory, _ENTITY)

    def after_listing(self, directory: CID, found: Sequence[DirectoryEntry]) -> None:
        """Prefetches the blocks that a walk will need from a directory, this one or one below it."""
        self._fetch_small_files(directory, found)
        if self.all_in_order and directory == self._root:
            # At once, while the reader still sorts the names.
            first = found[: self.window]
            if self._is_in_order and all(entry.cid.codec == RAW for entry in first):
                self.fetch(first)

    @cached_property
    def _is_in_order(self) -> bool:
        """Whether a CAR contains the files in the order of their names: not for a sharded directory."""
        return node_kind(self._root, self._fetcher.block(self._root)) == "directory"

    def _is_sharded(self, directory: CID) -> bool:
        return node_kind(directory, self._fetcher.block(directory)) == "hamt"

    def _fetch_queued(self) -> None:
        if not self._queue.has_waiting:
            return
        if batch := self._queue.next_batch(_MAX_IN_A_CAR if self._is_in_order else self.window):
            self.fetch(batch)

    def _fetch_small_files(self, directory: CID, found: Sequence[DirectoryEntry]) -> None:
        """Fetches everything below a directory if that is little more than the first blocks of its files.

        A walk needs these blocks to distinguish files and directories.
        """
        sizes = [entry.tsize for entry in found if entry.cid.codec != RAW]
        is_small = len(sizes) == len(found) and max(sizes, default=0) <= _LARGEST_BLOCK
        if len(sizes) < _MIN_BLOCKS or not is_small or sum(sizes) > self._fetcher.memory // 2:
            return
        if self._is_sharded(directory) and not self._fetcher.sources.has_kept(found[0].cid):
            with until(time.monotonic() + self._fetcher.sources.deadline / 2):
                for _ in self._car(directory, None):
                    pass

    def _car(
        self,
        directory: CID,
        span: tuple[int, int] | None,
        is_needed: Callable[[CID], bool] | None = None,
    ) -> Generator[tuple[CID, bytes], None, None]:
        """Yields the needed blocks from a CAR of a directory, and puts the others into the cache.

        If one source fails, the next one is tried. Blocks that do not arrive raise no error.

        Args:
            directory: This directory or one below it.
            span: `_ENTITY` for its own blocks alone.
            is_needed: Returns whether a block is needed. Such a block takes no room in the cache, and extends
                the time limit.
        """
        fetcher, sources = self._fetcher, self._fetcher.sources
        able = [transport for transport in sources.transports if transport.serves_cars]
        # Half of the time is reserved for blocks that are fetched individually.
        seconds = sources.deadline / 2
        while able and fetcher.verifies:
            end = time.monotonic() + seconds
            try:
                source, blocks = sources.first(
                    partial(_open_car, directory, span),
                    f"a CAR of {directory}",
                    able,
                    retried=RateLimitedError,
                )
            except (IPFSDatasetError, NotImplementedError) as error:
                log.debug("No CAR of directory %s: %s", directory, error)
                return
            # Other threads meanwhile put blocks into the cache, which also need room.
            left = fetcher.memory // 2
            with closing(blocks):
                try:
                    for cid, block in blocks:
                        verify(cid, block)
                        if is_needed is not None and is_needed(cid):
                            fetcher.keep(cid, block)
                            progressed()
                            yield cid, block
                            end = time.monotonic() + seconds
                            continue
                        left -= len(block)
                        if left < 0 or time.monotonic() > end:
                            return
                        fetcher.keep(cid, block)
                except (*FAILURES, NotImplementedError) as error:
                    log.debug("A CAR of directory %s from %s: %s", directory, source.name, error)
                    source.failed(error)
                else:
                    return
            able.remove(source)


def _open_car(
    directory: CID, span: tuple[int, int] | None, source: Transport
) -> tuple[Source, Generator[tuple[CID, bytes], None, None]]:
    """Requests a CAR; returns its source and its blocks once the first block has arrived."""
    blocks = car_blocks(source, directory, span)
    first = next(blocks, None)

    def each() -> Generator[tuple[CID, bytes], None, None]:
        with closing(blocks):
            if first is not None:
                yield first
            yield from blocks

    return cast("Source", source), each()


class PrefetchQueue:
    """Files that will be opened, in order: some are being fetched, the others wait until those were opened.

    Thread-safe.

    Args:
        budget: Maximum number of bytes that are fetched but not yet opened.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._known: dict[str, DirectoryEntry] = {}
        self._waiting: deque[DirectoryEntry] = deque()
        self._underway = 0
        self._files = 0
        self._lock = threading.Lock()

    def __contains__(self, path: object) -> bool:
        return path in self._known

    @property
    def has_waiting(self) -> bool:
        """Whether any file is not being fetched yet."""
        return bool(self._waiting)

    def add(self, found: Iterable[tuple[str, DirectoryEntry]]) -> None:
        """Adds paths in the order in which they will be opened."""
        found = list(found)  # before taking the lock, because it may wait for blocks
        with self._lock:
            if len(self._known) > _MAX_KNOWN:  # from a reader that has moved elsewhere
                self._known.clear()
                self._waiting.clear()
                self._underway = self._files = 0
            for path, entry in found:
                # Of two that are the same, only one would be taken: the other would count for ever.
                if path not in self._known:
                    self._known[path] = entry
                    self._waiting.append(entry)

    def take(self, path: str) -> DirectoryEntry | None:
        """Returns the entry of a path that is being opened; None if it was not added."""
        with self._lock:
            entry = self._known.pop(path, None)
            if entry is not None:
                self._underway -= entry.tsize
                self._files -= 1
            return entry

    def next_batch(self, most: int) -> list[DirectoryEntry]:
        """Returns the files to fetch now; none until half of those being fetched were opened.

        Args:
            most: Maximum number of files that are fetched but not yet opened.
        """
        batch: list[DirectoryEntry] = []
        with self._lock:
            if self._underway > self._budget // 2 or self._files > most // 2:
                return batch
            while self._waiting and self._underway <= self._budget and self._files < most:
                batch.append(self._waiting.popleft())
                self._underway += batch[-1].tsize
                self._files += 1
        return batch


class FolderReadAhead(ReadAhead[CID]):
    """The small files of one folder that will be read next, in order: they arrive in a CAR of the folder.

    Args:
        fetcher: Fetches and verifies.
        root: The folder.
    """

    def __init__(self, fetcher: Fetcher, root: CID) -> None:
        super().__init__(fetcher)
        self._root = root
        # Whether no source serves the folder as a CAR in the order in which it is read.
        self._no_car = False

    def fetch(self, cids: Iterable[CID]) -> None:
        """Starts fetching files of one block each, in order."""
        self.add(self._fetcher.acquire_blocks(cids))

    def _fetch_batch(self, batch: dict[CID, Flight]) -> None:
        is_worth_it = len(batch) >= _MIN_FILES or self.has_stream or self._root in batch
        if self._no_car or not is_worth_it:
            return
        with until(self._fetcher.work.half()):
            self._fetcher.bulk.fetch_files(self._root, batch, self, self._fetcher.keep)
        self._no_car = bool(batch)

    def _fetch_rest(self, batch: dict[CID, Flight]) -> None:
        self._fetcher.fetch_blocks(batch)
