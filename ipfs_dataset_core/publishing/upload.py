"""Uploads blocks in batches, in bounded memory, skipping blocks that are already stored."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import TransportError, TransportTimeoutError, sentence
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.runtime.human import human_size
from ipfs_dataset_core.runtime.pool import DaemonPool, settle
from ipfs_dataset_core.sources.retry import with_retries

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID

log = logging.getLogger(__name__)

E = TypeVar("E", bound=TransportError)
_Blocks = Sequence[tuple["CID", bytes]]

# One batch is filled while two are uploaded: 24 MiB together.
BATCH_BYTES = 8 << 20
# Maximum number of uploads if the store loses blocks between storing and pinning them.
MOST_LOSSES = 3
# Seconds to wait for a batch beyond its deadline: a transport that observes the deadline raises a better
# error itself.
GRACE_SECONDS = 10.0
# A node receives the second batch while it stores the first; with a single batch both sides would idle.
_UNDER_WAY = 2
# Bytes.
_FREED = 16 << 20
# After a batch of only new blocks, one block in this many is looked up until a stored one is found.
_PROBE_EVERY = 8


class UploadCount:
    """Counts the blocks that were made, already present, and sent; `str` gives a summary.

    Attributes:
        blocks: Number of blocks of the published files and directories.
        bytes: Their total size.
        present_blocks: Number of blocks that were already stored.
        present_bytes: Their total size.
        sent_blocks: Number of blocks that were sent and stored.
        sent_bytes: Their total size.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Sets all to 0."""
        self.blocks = self.bytes = 0
        self.present_blocks = self.present_bytes = 0
        self.sent_blocks = self.sent_bytes = 0

    def made(self, size: int) -> None:
        """Counts a block."""
        self.blocks += 1
        self.bytes += size

    def stored(self, batch: _Blocks, sent: _Blocks) -> None:
        """Counts a stored batch, and the part of it that was sent."""
        in_all, sent_bytes = (sum(len(block) for _, block in part) for part in (batch, sent))
        self.present_blocks += len(batch) - len(sent)
        self.present_bytes += in_all - sent_bytes
        self.sent_blocks += len(sent)
        self.sent_bytes += sent_bytes

    def advise(self, error: E, undone: str, transport: Transport) -> E:
        """Returns an error that ended an upload, with the progress of the upload and advice added.

        Args:
            error: The error.
            undone: Participle for what has not been done, such as "published".
            transport: The target of the upload.
        """
        if not (self.present_bytes + self.sent_bytes) and not error.retryable:
            return error
        return with_advice(error, self.outlook(undone, transport))

    def outlook(self, undone: str, transport: Transport) -> str:
        """Describes the progress of an upload that ended early, and the effect of running it again.

        Every message about an interrupted upload uses this text.

        Args:
            undone: Participle for what has not been done, such as "published".
            transport: The target of the upload.
        """
        made = human_size(self.bytes)
        if not transport.keeps_blocks:
            return (
                f"Nothing is {undone}, and nothing of the {made} made so far is kept: run the export again, "
                "which begins anew"
            )
        stored = human_size(self.present_bytes + self.sent_bytes)
        return (
            f"{stored} of the {made} made so far are stored, nothing is {undone}: run the export again, "
            "which sends only what is missing then"
        )

    def __str__(self) -> str:
        text = human_size(self.bytes)
        return (
            f"{text}, {human_size(self.present_bytes)} already there"
            if self.present_bytes
            else text
        )


class BlockUpload:
    """Uploads blocks in batches while further blocks are made, two at once if the transport allows it.

    The thread that uploads a batch first calls `Transport.lacking` to find the blocks that have to be sent.
    Looking up every block would slow down uploads of new data, so after a batch of only new blocks, one block
    in eight is looked up until a stored one is found.

    Args:
        transport: Stores the blocks.
        batch_bytes: Total size of the blocks in a batch; at most three batches are in memory.
        retries: How often a batch that failed temporarily is sent again.
        deadline: Seconds for one batch, including retries.
        count: Counts the blocks.
    """

    def __init__(
        self,
        transport: Transport,
        batch_bytes: int = BATCH_BYTES,
        *,
        retries: int = 0,
        deadline: float = math.inf,
        count: UploadCount | None = None,
    ) -> None:
        self._transport = transport
        self._retries = retries
        self._deadline = deadline
        self._limit = batch_bytes
        self._batch: list[tuple[CID, bytes]] = []
        self._size = 0
        self._at_once = min(_UNDER_WAY, transport.concurrency)
        # Each with the time, on the monotonic clock, until which to wait for it.
        self._under_way: dict[Future[tuple[_Blocks, _Blocks]], float] = {}
        self._pool = DaemonPool(self._at_once, "ipfs-dataset-upload")
        self._looks_up = True
        self._all_new = False
        self.count = UploadCount() if count is None else count
        # The error of a failed batch, as it was raised.
        self.error: TransportError | None = None
        # Freeing a large piece at once makes glibc raise its threshold and keep memory that is freed later.
        # Otherwise a fifth of an export's time is spent on returning the memory of sent blocks to the system
        # and getting it back cleared.
        # bytes, for the memory of a bytearray is written to, which takes a hundredth of a second.
        bytes(_FREED)

    def emit(self, cid: CID, block: bytes) -> None:
        """Adds a block to the current batch.

        Waits while the maximum number of batches is being uploaded; raises the error of an earlier batch.
        """
        self._batch.append((cid, block))
        self._size += len(block)
        self.count.made(len(block))
        if self._size >= self._limit:
            self._send()

    def finish(self) -> None:
        """Waits until all blocks are stored; raises the error of a batch that failed."""
        self._send()
        self._wait(0)

    def _send(self) -> None:
        self._wait(self._at_once - 1)
        batch, self._batch, self._size = self._batch, [], 0
        if batch:
            stored: Future[tuple[_Blocks, _Blocks]] = Future()
            self._under_way[stored] = time.monotonic() + self._deadline + GRACE_SECONDS
            work = partial(settle, stored, partial(self._put, batch))
            try:
                self._pool.submit(work)
            except RuntimeError:  # no thread could be started
                work()

    def _put(self, batch: _Blocks) -> tuple[_Blocks, _Blocks]:
        """Stores a batch; returns the batch, and the part of it that was sent."""
        with until(time.monotonic() + self._deadline):
            lacking = self._lacking(batch) if self._looks_up else batch
            # Storing a block twice has no effect, so the whole batch can be sent again.
            if lacking:
                with_retries(lambda: self._transport.put_blocks(lacking), self._retries)
        return batch, lacking

    def _lacking(self, batch: _Blocks) -> _Blocks:
        """Returns the blocks of a batch that have to be sent."""
        try:
            if self._all_new:
                probes = batch[(len(batch) - 1) % _PROBE_EVERY // 2 :: _PROBE_EVERY]
                if len(self._transport.lacking(probes)) == len(probes):
                    return batch
            lacking = self._transport.lacking(batch)
        except TransportError as error:
            log.info("All blocks are sent, whether or not they are present: %s", error)
            self._looks_up = False
            return batch
        self._all_new = len(lacking) == len(batch)
        return lacking

    def _wait(self, most: int) -> None:
        while len(self._under_way) > most:
            left = _at_most(min(self._under_way.values()) - time.monotonic())
            done, _ = wait(self._under_way, left, FIRST_COMPLETED)
            try:
                if not done:
                    raise TransportTimeoutError(
                        f"{self._transport.name}: a batch of blocks was neither stored nor refused within "
                        f"deadline={self._deadline:g} seconds: if it is only slow, give a longer deadline"
                    )
                # Batches that succeeded come first, so that the error counts them.
                for stored in sorted(done, key=lambda each: each.exception() is not None):
                    del self._under_way[stored]
                    self.count.stored(*stored.result())
            except TransportError as error:
                self.error = self.count.advise(error, "published", self._transport)
                raise self.error from error

    def close(self) -> None:
        """Waits for the batches that are being uploaded, up to their deadlines, and discards the rest.

        Batches that were stored by then are counted.
        """
        self._batch.clear()
        self._pool.close()
        self._pool.join(max(1.0, max(self._under_way.values(), default=0.0) - time.monotonic()))
        for stored in self._under_way:
            if stored.done() and not stored.cancelled() and stored.exception() is None:
                self.count.stored(*stored.result())
        self._under_way.clear()


def _at_most(seconds: float) -> float:
    """Clips a waiting time to the range that the system supports, starting at 0 seconds."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)


def with_advice(error: E, advice: str) -> E:
    """Returns an error of the same type and attributes, with advice appended to its message."""
    advised = type(error)(f"{sentence(str(error))} {advice}")
    vars(advised).update(vars(error))
    return advised
