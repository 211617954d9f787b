"""Batches: many blocks in one request, from sources that serve such, each continuing where others failed.

A batch raises no failure of a source: what has not arrived is fetched block by block, which tries every
source, retries, and reports all failures.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import ObjectNotFoundError, VerificationError
from ipfs_dataset_core.runtime.deadlines import time_left
from ipfs_dataset_core.sources.source import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.sources.hedging import HedgedRequests
    from ipfs_dataset_core.sources.source import Source

log = logging.getLogger(__name__)

# How often each block of a batch may be sent on the average.
_TIMES = 2
# Seconds without a block, at the least, after which a batch is given up for single requests to other sources:
# what is under way is lost then, and over a slow line a large block takes its time.
_LEAST_PATIENCE = 5.0


class Batch:
    """Blocks that are wanted together. Sources deliver in threads of their own; each block counts once.

    Args:
        cids: The blocks.
        check: Raises `VerificationError` or `LimitError` where what a source sent is not the block of a CID.
        arrived: Takes each checked block; called by one thread at a time.
    """

    def __init__(
        self,
        cids: Iterable[CID],
        check: Callable[[Transport, CID, bytes], None],
        arrived: Callable[[CID, bytes], None],
    ) -> None:
        self._missing = dict.fromkeys(cids)
        self._check = check
        self._arrived = arrived
        self._changed = threading.Condition()
        self._arrivals = 0
        self._running: list[Source] = []
        self._stopped = False

    def request(self, sources: Sequence[Source]) -> None:
        """Requests the blocks from one source after the other, in the thread of the caller."""
        for source in sources:
            if self._missing and time_left() > 0:
                self._read(source)

    def request_hedged(
        self, sources: Sequence[Source], hedged: HedgedRequests, *, others: bool
    ) -> None:
        """Requests the blocks from the first source, and what is missing from the next where that is late.

        A source is late when no block has arrived for longer than it usually takes. One that ends without all
        blocks is followed by the next one at once.

        Args:
            sources: In the order in which they are asked.
            hedged: Has threads and permits for hedging.
            others: Whether some source that serves no batches may have the blocks as well. Then the last
                source is not waited for either, once it is late.
        """
        waiting = deque(sources)
        permits = 0
        try:
            while self._missing and (waiting or self._running):
                if not self._running:
                    self._start(waiting.popleft(), hedged)
                at_least = 0.0 if waiting else _LEAST_PATIENCE
                if self._wait(may_hedge=bool(waiting) or others, at_least=at_least):
                    continue
                if time_left() <= 0:
                    return
                if not waiting:
                    for source in self._running:
                        source.was_late()
                    return
                if hedged.permits.acquire(blocking=False):
                    permits += 1
                    self._start(waiting.popleft(), hedged)
        finally:
            for _ in range(permits):
                hedged.permits.release()
            with self._changed:
                self._stopped = True

    def _start(self, source: Source, hedged: HedgedRequests) -> None:
        with self._changed:
            self._running.append(source)
        hedged.start(partial(self._read, source), partial(self._ended, source))

    def _wait(self, *, may_hedge: bool, at_least: float) -> bool:
        """Returns whether a block has arrived, or a source ended, before the next one is late.

        Args:
            may_hedge: Whether anything is ever late.
            at_least: Seconds before which nothing is.
        """
        with self._changed:
            if not self._running:
                return True
            before = self._arrivals, len(self._running)
            delay = math.inf
            if may_hedge:
                delay = max(at_least, self._running[-1].hedge_delay(in_batch=True))
            seconds = max(0.0, min(delay, time_left(), threading.TIMEOUT_MAX))
            return self._changed.wait_for(
                lambda: (self._arrivals, len(self._running)) != before, seconds
            )

    def _read(self, source: Source) -> None:
        try:
            source.ask(self._take_all)
        except (*FAILURES, NotImplementedError) as error:
            log.debug("A batch of blocks from %s: %s", source.name, error)
        except Exception:
            # A transport's defect must not end the thread that others wait for.
            log.exception("%s failed at a batch of blocks", source.name)
        finally:
            self._ended(source)

    def _ended(self, source: Source) -> None:
        with self._changed:
            if source in self._running:
                self._running.remove(source)
            self._changed.notify_all()

    def _take_all(self, transport: Transport) -> None:
        with self._changed:
            wanted = dict(self._missing)
        blocks = transport.get_blocks(list(wanted))
        left = _TIMES * len(wanted)
        came = False
        try:
            for cid, block in blocks:
                left -= 1
                if cid not in wanted or left < 0:
                    raise VerificationError(
                        f"{transport.name}: sent block {cid}, which was not asked for, or again and again"
                    )
                self._check(transport, cid, block)
                came = True
                with self._changed:
                    if cid in self._missing and not self._stopped:
                        self._arrived(cid, block)
                        del self._missing[cid]
                        self._arrivals += 1
                        self._changed.notify_all()
                    if self._stopped or not self._missing:
                        return
        finally:
            # A generator of a transport ends its requests.
            if (close := getattr(blocks, "close", None)) is not None:
                close()
        if not came:
            raise ObjectNotFoundError(f"{transport.name}: has none of {len(wanted)} blocks")
