"""Blocks go out in batches, beside the work that makes the next ones, at bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ipfs_dataset_core.retry import with_retries

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ipfs_dataset_core.content import CID
    from ipfs_dataset_core.interfaces import Transport

# One batch fills while the other is under way: together 32 MiB.
BATCH_BYTES = 16 << 20


class BlockUpload:
    """Hands blocks to a transport, batch by batch and in order.

    Args:
        transport: Stores the blocks.
        batch_bytes: How large a batch is; two are in memory at the most.
        retries: How often a batch that may be taken later is sent again.
    """

    def __init__(
        self, transport: Transport, batch_bytes: int = BATCH_BYTES, *, retries: int = 0
    ) -> None:
        self._transport = transport
        self._retries = retries
        self._limit = batch_bytes
        self._batch: list[tuple[CID, bytes]] = []
        self._size = 0
        self._under_way: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "ipfs-dataset-upload")
        # Having freed so much at once, glibc keeps what is freed later: a fifth of an export's time
        # would go into giving the memory of sent blocks back, and into getting it again, cleared.
        bytearray(batch_bytes)

    def emit(self, cid: CID, block: bytes) -> None:
        """Takes a block; waits, and raises what went wrong, when a batch is full."""
        self._batch.append((cid, block))
        self._size += len(block)
        if self._size >= self._limit:
            self._send()

    def finish(self) -> None:
        """Returns when all blocks are stored; raises what went wrong."""
        self._send()
        self._wait()

    def _send(self) -> None:
        self._wait()
        batch, self._batch, self._size = self._batch, [], 0
        if batch:
            self._under_way = self._thread.submit(self._put, batch)

    def _put(self, batch: list[tuple[CID, bytes]]) -> None:
        # Storing a block twice is storing it once, so a batch can be sent again whole.
        with_retries(lambda: self._transport.put_blocks(batch), self._retries)

    def _wait(self) -> None:
        future, self._under_way = self._under_way, None
        if future is not None:
            future.result()

    def close(self) -> None:
        """Waits for the batch under way and drops the rest, so that nothing is left running."""
        self._batch.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)
