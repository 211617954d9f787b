"""Blocks go out in batches, beside the work that makes the next ones, at bounded memory."""

from __future__ import annotations

import math
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.sources.retry import with_retries

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID

# One batch fills while two are under way: together 24 MiB.
BATCH_BYTES = 8 << 20
# While a node or a disk finishes with one, it takes the next: with one at a time both would wait.
_UNDER_WAY = 2
_FREED = 16 << 20


class BlockUpload:
    """Hands blocks to a transport, batch by batch, two at once where the transport takes two.

    Args:
        transport: Stores the blocks.
        batch_bytes: How large a batch is; three are in memory at the most.
        retries: How often a batch that may be taken later is sent again.
        deadline: Seconds in all for one batch, over all tries.
    """

    def __init__(
        self,
        transport: Transport,
        batch_bytes: int = BATCH_BYTES,
        *,
        retries: int = 0,
        deadline: float = math.inf,
    ) -> None:
        self._transport = transport
        self._retries = retries
        self._deadline = deadline
        self._limit = batch_bytes
        self._batch: list[tuple[CID, bytes]] = []
        self._size = 0
        self._at_once = min(_UNDER_WAY, transport.concurrency)
        self._under_way: set[Future[None]] = set()
        self._threads = ThreadPoolExecutor(self._at_once, "ipfs-dataset-upload")
        # Having freed so much at once, glibc keeps what is freed later: a fifth of an export's time
        # would go into giving the memory of sent blocks back, and into getting it again, cleared.
        bytearray(_FREED)

    def emit(self, cid: CID, block: bytes) -> None:
        """Takes a block; waits, and raises what went wrong, when too much is under way."""
        self._batch.append((cid, block))
        self._size += len(block)
        if self._size >= self._limit:
            self._send()

    def finish(self) -> None:
        """Returns when all blocks are stored; raises what went wrong."""
        self._send()
        self._wait(0)

    def _send(self) -> None:
        self._wait(self._at_once - 1)
        batch, self._batch, self._size = self._batch, [], 0
        if batch:
            self._under_way.add(self._threads.submit(self._put, batch))

    def _put(self, batch: list[tuple[CID, bytes]]) -> None:
        # Storing a block twice is storing it once, so a batch can be sent again whole.
        with until(time.monotonic() + self._deadline):
            with_retries(lambda: self._transport.put_blocks(batch), self._retries)

    def _wait(self, most: int) -> None:
        while len(self._under_way) > most:
            done, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()

    def close(self) -> None:
        """Waits for the batches under way and drops the rest, so that nothing is left running."""
        self._batch.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)
