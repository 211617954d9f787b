"""The one place that decides what to ask sources for: blocks one by one, or runs of leaves as ranges.

What a request costs a node hardly depends on its bytes up to a leaf's size: a leaf by its CID is about three
times cheaper than a range of any length in a large file, but a range of many leaves costs only one request.
So runs of neighbouring leaves come as one plain range, cut at the leaves' boundaries and each checked
against its CID; lone leaves come as blocks. A range that does not deliver what it should is finished by
blocks, so a wrong or broken range costs time, never correctness.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ipfs_dataset_core.cache import BytesCache
from ipfs_dataset_core.content import CID, NodeType, hasher, leaf_frame, parse_file
from ipfs_dataset_core.errors import IPFSDatasetError, TransportError, VerificationError
from ipfs_dataset_core.threads import DaemonPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.layout import FileLayout, Leaf
    from ipfs_dataset_core.options import Options
    from ipfs_dataset_core.sources import Sources

log = logging.getLogger(__name__)

# Below this many neighbours, leaves one by one are cheaper than a range (measured on Kubo: 0.9 ms of the
# node's CPU for a leaf of 256 KiB, 3.3 ms for a range).
MIN_RUN_LEAVES = 4
MAX_RUN_BYTES = 8 << 20


class NotALeafError(Exception):
    """A block that was taken for a leaf has children."""


class Fetcher:
    """Verified blocks and leaves of one process, cached, each asked for once at a time.

    Args:
        sources: Where blocks come from.
        options: `memory` and `verify` count here.
    """

    def __init__(self, sources: Sources, options: Options) -> None:
        self.sources = sources
        self._verify = options.verify
        self._cache = BytesCache(options.memory)
        self._in_flight: dict[bytes, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._pool = DaemonPool(sources.concurrency, "ipfs-dataset-fetch")
        self.read_ahead_bytes = min(16 << 20, options.memory // 4)

    def close(self) -> None:
        """Ends the threads and closes the sources; who still waits for bytes gets an error."""
        self._pool.close()
        with self._lock:
            waiting, self._in_flight = list(self._in_flight.values()), {}
        for future in waiting:
            if not future.done():
                future.set_exception(TransportError("The dataset was closed while this was read"))
        self.sources.close()

    def block(self, cid: CID) -> bytes:
        """Returns a verified block; raises as `Sources.get_block` does."""
        return self._get(cid.to_bytes(), lambda: self.sources.get_block(cid))

    def leaf(self, layout: FileLayout, leaf: Leaf) -> bytes:
        """Returns the bytes that a leaf holds, verified.

        Raises:
            NotALeafError: It is an inner node.
        """
        return self._get(_leaf_key(leaf), lambda: self._leaf_from_block(layout, leaf))

    def prefetch_blocks(self, cids: Iterable[CID]) -> None:
        """Starts fetching blocks that will be needed soon."""
        for cid in cids:
            self._start(cid.to_bytes(), lambda cid=cid: self.sources.get_block(cid))  # type: ignore[misc]

    def prefetch_leaves(self, layout: FileLayout, leaves: Iterable[Leaf]) -> None:
        """Starts fetching leaves, given in order, that will be needed soon."""
        mine = dict(self._claim_missing(leaves))
        for run in runs(mine):
            wanted = [(leaf, mine[leaf]) for leaf in run]
            if len(run) >= MIN_RUN_LEAVES:
                self._pool.submit(lambda wanted=wanted: self._fetch_run(layout, wanted))  # type: ignore[misc]
            else:
                for pair in wanted:
                    self._pool.submit(lambda pair=pair: self._fetch_leaf(layout, *pair))  # type: ignore[misc]

    def _claim_missing(self, leaves: Iterable[Leaf]) -> Iterator[tuple[Leaf, Future[bytes]]]:
        for leaf in leaves:
            if (key := _leaf_key(leaf)) not in self._cache:
                future, mine = self._claim(key)
                if mine:
                    yield leaf, future

    def _get(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        """Returns what is cached, on its way, or else fetched here and now."""
        while True:
            value = self._cache.get(key)
            if value is not None:
                return value
            future, mine = self._claim(key)
            if mine:
                self._fulfil(key, future, fetch)
            try:
                return future.result()
            except TransportError:
                # Another's attempt failed; one of our own says for itself whether the sources still do.
                if mine:
                    raise

    def _start(self, key: bytes, fetch: Callable[[], bytes]) -> None:
        if key in self._cache:
            return
        future, mine = self._claim(key)
        if mine:
            self._pool.submit(lambda: self._fulfil(key, future, fetch))

    def _claim(self, key: bytes) -> tuple[Future[bytes], bool]:
        with self._lock:
            future = self._in_flight.get(key)
            if future is not None:
                return future, False
            future = self._in_flight[key] = Future()
            return future, True

    def _fulfil(self, key: bytes, future: Future[bytes], fetch: Callable[[], bytes]) -> None:
        try:
            self._settle(key, future, fetch())
        except BaseException as error:
            with self._lock:
                self._in_flight.pop(key, None)
            future.set_exception(error)

    def _settle(self, key: bytes, future: Future[bytes], value: bytes) -> None:
        self._cache.put(key, value)
        with self._lock:
            self._in_flight.pop(key, None)
        future.set_result(value)

    def _leaf_from_block(self, layout: FileLayout, leaf: Leaf) -> bytes:
        cid = CID.from_bytes(leaf.cid)
        block = self.sources.get_block(cid)
        size = leaf.stop - leaf.start
        if leaf.raw:
            data = block
        else:
            node = parse_file(cid, block)
            if node.links:
                raise NotALeafError(str(cid))
            data = node.data
        if len(data) != size:
            raise VerificationError(
                f"Block {cid} of file {layout.cid} holds {len(data)} bytes where its parent says {size}: "
                "the file was built wrongly and cannot be read"
            )
        return data

    def _fetch_leaf(self, layout: FileLayout, leaf: Leaf, future: Future[bytes]) -> None:
        self._fulfil(_leaf_key(leaf), future, lambda: self._leaf_from_block(layout, leaf))

    def _fetch_run(self, layout: FileLayout, wanted: Sequence[tuple[Leaf, Future[bytes]]]) -> None:
        settled = 0
        try:
            for data in self._range(layout, [leaf for leaf, _ in wanted]):
                leaf, future = wanted[settled]
                self._settle(_leaf_key(leaf), future, data)
                settled += 1
        except (IPFSDatasetError, NotImplementedError) as error:
            log.info("A range of %s ended early, its rest comes as blocks: %s", layout.cid, error)
        finally:
            for leaf, future in wanted[settled:]:
                self._fetch_leaf(layout, leaf, future)

    def _range(self, layout: FileLayout, leaves: Sequence[Leaf]) -> Iterator[bytes]:
        """Yields the bytes of neighbouring leaves from one range; ends early where they do not verify."""
        stream = self.sources.open_range(layout.cid, leaves[0].start, leaves[-1].stop)
        if stream is None:
            return
        try:
            for leaf in leaves:
                data = stream.read(leaf.stop - leaf.start)
                if self._verify and not _holds(leaf, data):
                    return
                yield data
        finally:
            stream.close()


def runs(leaves: Iterable[Leaf]) -> Iterator[list[Leaf]]:
    """Yields maximal runs of neighbouring leaves, none over `MAX_RUN_BYTES` unless it is one leaf."""
    run: list[Leaf] = []
    for leaf in leaves:
        if run and (leaf.start != run[-1].stop or leaf.stop - run[0].start > MAX_RUN_BYTES):
            yield run
            run = []
        run.append(leaf)
    if run:
        yield run


def _leaf_key(leaf: Leaf) -> bytes:
    # A dag-pb block and the bytes in it are different values; a raw block and its bytes are the same.
    return leaf.cid if leaf.raw else b"leaf" + leaf.cid


def _holds(leaf: Leaf, data: bytes) -> bool:
    """Tells whether `data` are the bytes of the block that the leaf's CID names."""
    cid = CID.from_bytes(leaf.cid)
    if leaf.raw:
        return _hashes_to(cid, data)
    # Balanced builders call a leaf a file, trickle builders raw bytes.
    frames = (leaf_frame(kind, len(data)) for kind in (NodeType.FILE, NodeType.RAW))
    return any(_hashes_to(cid, prefix, data, suffix) for prefix, suffix in frames)


def _hashes_to(cid: CID, *pieces: bytes) -> bool:
    state = hasher(cid)
    for piece in pieces:
        state.update(piece)
    return state.digest() == cid.digest
