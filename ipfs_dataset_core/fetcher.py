"""The one place that decides what to ask sources for: blocks one by one, or runs of leaves in bulk.

What a request costs a node hardly depends on its bytes up to a leaf's size: a leaf by its CID is about three
times cheaper than a range of any length in a large file, but a range of many leaves costs only one request.
So runs of neighbouring leaves come as one plain range, cut at the leaves' boundaries and each checked
against its CID, or where no source serves that, as one CAR; lone leaves come as blocks. What a range or CAR
does not deliver as it should comes as blocks, so a wrong or broken one costs time, never correctness.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.cache import BytesCache
from ipfs_dataset_core.content import CID
from ipfs_dataset_core.deadlines import time_left, until
from ipfs_dataset_core.errors import (
    IPFSDatasetError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
)
from ipfs_dataset_core.runs import (
    NotALeafError,
    block_around,
    by_car,
    by_range,
    leaf_bytes,
    runs,
)
from ipfs_dataset_core.threads import DaemonPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.layout import FileLayout, Leaf
    from ipfs_dataset_core.options import Options
    from ipfs_dataset_core.sources import Sources

log = logging.getLogger(__name__)

# Below this many neighbours, leaves one by one are cheaper than a range (measured on Kubo: 0.9 ms of the
# node's CPU for a leaf of 256 KiB, 3.3 ms for a range).
MIN_RUN_LEAVES = 4


class Fetcher:
    """Verified blocks and leaves of one process, cached, each asked for once at a time.

    Args:
        sources: Where blocks come from.
        options: `memory`, `deadline` and `verify` count here.
        origin: Returns what another process gets its own such fetcher with, as ``__reduce__`` does.
    """

    def __init__(
        self,
        sources: Sources,
        options: Options,
        origin: Callable[[], tuple[Any, ...]] | None = None,
    ) -> None:
        self.sources = sources
        self._origin = origin
        self.verifies = options.verify
        self.limits = options.limits
        self._deadline = options.deadline
        self._cache = BytesCache(options.memory)
        self._in_flight: dict[bytes, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._pool = DaemonPool(sources.concurrency, "ipfs-dataset-fetch")
        self.read_ahead_bytes = min(16 << 20, options.memory // 4)
        # What is fetched before its time must not push out of the cache what is about to be read.
        self._prefetch_bytes = options.memory // 2

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise TypeError("this fetcher belongs to no dataset, and cannot be pickled")
        return self._origin()

    def close(self) -> None:
        """Ends the threads and closes the sources; who still waits for bytes gets an error."""
        self._pool.close()
        with self._lock:
            waiting, self._in_flight = list(self._in_flight.values()), {}
        for future in waiting:
            future.set_exception(TransportError("The dataset was closed while this was read"))
        self.sources.close()

    def block(self, cid: CID) -> bytes:
        """Returns a verified block; raises as `Sources.get_block` does."""
        return self.get(cid.to_bytes(), lambda: self.sources.get_block(cid))

    def leaf(self, layout: FileLayout, leaf: Leaf) -> bytes:
        """Returns the bytes that a leaf holds, verified.

        Raises:
            NotALeafError: It is an inner node.
        """
        return self.get(_leaf_key(leaf), lambda: self._leaf_from_block(layout, leaf))

    def get(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        """Returns what is cached under a key, on its way, or else fetched here and now."""
        with until(self._end()):
            while True:
                future, mine = self._claim(key)
                if mine:
                    self._fulfil(key, future, fetch)
                elif not future.done():
                    _wait(future)
                try:
                    return future.result()
                except TransportError:
                    # Another's attempt failed; one of our own says for itself whether the sources still do.
                    if mine:
                        raise

    def start(self, key: bytes, fetch: Callable[[], bytes]) -> None:
        """Starts fetching what `get` will be asked for soon."""
        future, mine = self._claim(key)
        if mine:
            self._submit(lambda: self._fulfil(key, future, fetch))

    def prefetch_blocks(self, cids: Iterable[CID]) -> None:
        """Starts fetching blocks that will be needed soon."""
        for cid in cids:
            self.start(cid.to_bytes(), lambda cid=cid: self.sources.get_block(cid))  # type: ignore[misc]

    def prefetch_leaves(self, layout: FileLayout, leaves: Iterable[Leaf]) -> None:
        """Starts fetching leaves, given in order, that will be needed soon; not more than fit the cache."""
        # All of them before the first claim: to find them may fail, and a claim must be kept.
        mine = dict(self._claim_missing(list(self._within_budget(leaves))))
        if self.sources.keeps:
            kept = {leaf for leaf in mine if self.sources.has_kept(CID.from_bytes(leaf.cid))}
            self._fetch_each(layout, {leaf: mine.pop(leaf) for leaf in kept})
        for run in runs(mine):
            wanted = {leaf: mine[leaf] for leaf in run}
            if len(run) >= MIN_RUN_LEAVES:
                self._submit(lambda wanted=wanted: self._fetch_run(layout, wanted))  # type: ignore[misc]
            else:
                self._fetch_each(layout, wanted)

    def _within_budget(self, leaves: Iterable[Leaf]) -> Iterator[Leaf]:
        left = self._prefetch_bytes
        for leaf in leaves:
            left -= leaf.stop - leaf.start
            if left < 0:
                return
            yield leaf

    def _claim_missing(self, leaves: Iterable[Leaf]) -> Iterator[tuple[Leaf, Future[bytes]]]:
        for leaf in leaves:
            future, mine = self._claim(_leaf_key(leaf))
            if mine:
                yield leaf, future

    def _claim(self, key: bytes) -> tuple[Future[bytes], bool]:
        """Returns the promise of a value, and whether it is the caller's to keep."""
        with self._lock:
            future = self._in_flight.get(key)
            if future is not None:
                return future, False
            future = Future()
            value = self._cache.get(key)
            if value is not None:
                future.set_result(value)
                return future, False
            self._in_flight[key] = future
            return future, True

    def _fulfil(self, key: bytes, future: Future[bytes], fetch: Callable[[], bytes]) -> None:
        try:
            self._settle(key, future, fetch())
        except BaseException as error:  # noqa: BLE001 - goes to whoever waits
            if self._release(key, future):
                future.set_exception(error)

    def _settle(self, key: bytes, future: Future[bytes], value: bytes) -> None:
        self._cache.put(key, value)
        if self._release(key, future):
            future.set_result(value)

    def _release(self, key: bytes, future: Future[bytes]) -> bool:
        """Returns whether the promise was still open; `close` may have answered it."""
        with self._lock:
            if self._in_flight.get(key) is not future:
                return False
            del self._in_flight[key]
            return True

    def _end(self) -> float:
        return time.monotonic() + self._deadline

    def _submit(self, work: Callable[[], None]) -> None:
        end = min(self._end(), time.monotonic() + time_left())

        def timed() -> None:
            with until(end):
                work()

        try:
            self._pool.submit(timed)
        except RuntimeError:  # closed: who still reads does so without help
            timed()

    def _leaf_from_block(self, layout: FileLayout, leaf: Leaf) -> bytes:
        # What was taken for a leaf before and was none is cached as a block.
        block = self._cache.get(leaf.cid) or self.sources.get_block(CID.from_bytes(leaf.cid))
        try:
            return leaf_bytes(layout.cid, leaf, block)
        except NotALeafError:
            self._cache.put(leaf.cid, block)
            raise

    def _fetch_each(self, layout: FileLayout, wanted: dict[Leaf, Future[bytes]]) -> None:
        for leaf, future in wanted.items():
            self._submit(
                lambda leaf=leaf, future=future: self._fulfil(  # type: ignore[misc]
                    _leaf_key(leaf), future, lambda: self._leaf_from_block(layout, leaf)
                )
            )

    def _fetch_run(self, layout: FileLayout, wanted: dict[Leaf, Future[bytes]]) -> None:
        """Fetches neighbouring leaves as a range from any source, else as a CAR, else block by block."""
        able = self.sources.transports
        # Half of the time is left for what comes block by block.
        half = time.monotonic() + min(time_left(), self._deadline) / 2
        try:
            for deliver, sources in (
                (by_range, [t for t in able if t.serves_ranges]),
                (by_car, [t for t in able if t.serves_cars]),
            ):
                if len(wanted) >= MIN_RUN_LEAVES:
                    with until(half):
                        self._deliver(deliver, sources, layout, wanted)
        finally:
            self._fetch_each(layout, wanted)

    def _deliver(
        self,
        deliver: Callable[..., Iterator[tuple[Leaf, bytes]]],
        sources: Sequence[Transport],
        layout: FileLayout,
        wanted: dict[Leaf, Future[bytes]],
    ) -> None:
        """Settles what the sources deliver, one going on where the other ended, and removes it."""

        def ask(transport: Transport) -> None:
            for leaf, data in deliver(transport, layout.cid, list(wanted), verified=self.verifies):
                self._settle(_leaf_key(leaf), wanted.pop(leaf), data)
                if self.sources.keeps:
                    self._keep(leaf, data)

        try:
            # Other failures are not waited for: blocks may still come, and are retried.
            self.sources.first(ask, f"bytes of {layout.cid}", sources, retried=RateLimitedError)
        except (IPFSDatasetError, NotImplementedError) as error:
            log.debug("No %s of %d leaves: %s", deliver.__name__, len(wanted), error)
        except Exception:
            # A transport's defect must not end the thread that others wait for.
            log.exception(
                "A source failed at %s of %s, blocks are asked for", deliver.__name__, layout.cid
            )

    def _keep(self, leaf: Leaf, data: bytes) -> None:
        """Keeps the block around a verified leaf's bytes, where it can be told what it looks like."""
        cid = CID.from_bytes(leaf.cid)
        if (block := block_around(leaf, data)) is not None:
            self.sources.keep(cid, block)


def _wait(future: Future[bytes]) -> None:
    """Waits for what another thread fetches, as long as there is time."""
    left = max(0.0, time_left())
    wait((future,), timeout=left)
    if not future.done():
        raise TransportTimeoutError(f"What another thread fetches did not come within {left:.0f} s")


def _leaf_key(leaf: Leaf) -> bytes:
    # A dag-pb block and the bytes in it are different values; a raw block and its bytes are the same.
    return leaf.cid if leaf.raw else b"leaf" + leaf.cid
