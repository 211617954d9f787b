"""Batches: many blocks in one request, from sources that support them, each continuing where others failed.

A batch raises no errors of sources: blocks that have not arrived are fetched one by one, which tries every
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

# Average number of times that each block of a batch may be sent.
_TIMES = 2
# Minimum number of seconds without a block after which a batch is abandoned for single requests to other
# sources: data in transit is then lost, and a large block takes time on a slow line.
_LEAST_PATIENCE = 5.0


class Batch:
    """Blocks that are wanted together. Sources deliver in threads of their own; each block counts once.

    Args:
        cids: The blocks.
        check: Raises `VerificationError` or `LimitError` if data from a source is not the block of a CID.
        arrived: Called with each checked block, by one thread at a time.
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
        """Requests the blocks from one source after the other, in the calling thread."""
        for source in sources:
            if self._missing and time_left() > 0:
                self._read(source)

    def request_hedged(
        self, sources: Sequence[Source], hedged: HedgedRequests, *, others: bool
    ) -> None:
        """Requests the blocks from the first source, and missing blocks from the next one if that is late.

        A source is late if no block has arrived for longer than it usually takes. If a source ends without
        all blocks, the next one follows at once.

        Args:
            sources: The sources, in order.
            hedged: Provides threads and permits for hedging.
            others: Whether a source without batches may have the blocks as well. If so, even the last source
                is abandoned once it is late.
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
        """Waits until a block has arrived or a source has ended; returns False if the next block is late.

        Args:
            may_hedge: Whether to return early for a late block.
            at_least: Minimum number of seconds before a block is late.
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
            # A bug in a transport must not end the thread for which others wait.
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
                        f"{transport.name}: sent block {cid}, which was not requested, or was sent repeatedly"
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
            # Closing a generator of a transport ends its requests.
            if (close := getattr(blocks, "close", None)) is not None:
                close()
        if not came:
            raise ObjectNotFoundError(f"{transport.name}: has none of {len(wanted)} blocks")
