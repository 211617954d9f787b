"""Uploads blocks in batches at bounded memory, without those that are stored already."""

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

# One batch is filled while two are uploaded: together 24 MiB.
BATCH_BYTES = 8 << 20
# How often all is uploaded at most, where the store loses blocks between storing and pinning them.
MOST_LOSSES = 3
# How much longer than its deadline a batch is waited for: a transport that keeps to it ends with a better
# error.
GRACE_SECONDS = 10.0
# A node receives the second batch while it stores the first: with one at a time both sides would wait.
_UNDER_WAY = 2
# Bytes.
_FREED = 16 << 20
# After a batch that was new as a whole, one block in this many is looked up, until one is found.
_PROBE_EVERY = 8


class UploadCount:
    """How many blocks were made, were there already, and were sent; its text is for people.

    Attributes:
        blocks: Blocks of the published files and directories.
        bytes: Their bytes.
        present_blocks: Blocks that were stored before.
        present_bytes: Their bytes.
        sent_blocks: Blocks that were sent and stored.
        sent_bytes: Their bytes.
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
        """Counts a batch that is stored, and the part of it that was sent."""
        in_all, sent_bytes = (sum(len(block) for _, block in part) for part in (batch, sent))
        self.present_blocks += len(batch) - len(sent)
        self.present_bytes += in_all - sent_bytes
        self.sent_blocks += len(sent)
        self.sent_bytes += sent_bytes

    def advise(self, error: E, undone: str, transport: Transport) -> E:
        """Returns the error that ended an upload with how far it got, and what to do.

        Args:
            error: The error.
            undone: A participle, such as "published", for what has not been done.
            transport: What was to store the blocks.
        """
        if not (self.present_bytes + self.sent_bytes) and not error.retryable:
            return error
        return with_advice(error, self.outlook(undone, transport))

    def outlook(self, undone: str, transport: Transport) -> str:
        """Returns how far an upload got that has ended early, and what running the export again does.

        The one place that tells users so, whatever ended the upload.

        Args:
            undone: A participle, such as "published", for what has not been done.
            transport: What was to store the blocks.
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
    """Uploads blocks in batches, two at once where the transport allows it, while further blocks are made.

    `Transport.lacking` first returns which blocks of a batch have to be sent, in the thread that uploads the
    batch. Looking all of them up would slow down the upload of new data, so after a batch that was new as a
    whole only one block in eight is looked up, until one is found.

    Args:
        transport: Stores the blocks.
        batch_bytes: How many bytes of blocks a batch has; at most three batches are in memory.
        retries: How often a batch that may be taken later is sent again.
        deadline: Seconds in all for one batch, over all tries.
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
        # With the time on the monotonic clock until which each is waited for.
        self._under_way: dict[Future[tuple[_Blocks, _Blocks]], float] = {}
        self._pool = DaemonPool(self._at_once, "ipfs-dataset-upload")
        self._looks_up = True
        self._all_new = False
        self.count = UploadCount() if count is None else count
        # What a batch has failed with, as it was raised.
        self.error: TransportError | None = None
        # After so much was freed at once, glibc raises its threshold and keeps memory that is freed later.
        # Otherwise a fifth of an export's time went into returning the memory of sent blocks to the system,
        # and into getting it back cleared.
        bytearray(_FREED)

    def emit(self, cid: CID, block: bytes) -> None:
        """Adds a block to the current batch.

        Waits while too much is being uploaded; an error of an earlier batch is raised here.
        """
        self._batch.append((cid, block))
        self._size += len(block)
        self.count.made(len(block))
        if self._size >= self._limit:
            self._send()

    def finish(self) -> None:
        """Waits until all blocks are stored; an error of a batch is raised here."""
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
            except RuntimeError:  # the system refuses a thread
                work()

    def _put(self, batch: _Blocks) -> tuple[_Blocks, _Blocks]:
        """Stores a batch; returns it, and the part of it that was sent."""
        with until(time.monotonic() + self._deadline):
            lacking = self._lacking(batch) if self._looks_up else batch
            # Storing a block twice is storing it once, so a batch can be sent again whole.
            if lacking:
                with_retries(lambda: self._transport.put_blocks(lacking), self._retries)
        return batch, lacking

    def _lacking(self, batch: _Blocks) -> _Blocks:
        """Returns what has to be sent of a batch."""
        try:
            if self._all_new:
                probes = batch[(len(batch) - 1) % _PROBE_EVERY // 2 :: _PROBE_EVERY]
                if len(self._transport.lacking(probes)) == len(probes):
                    return batch
            lacking = self._transport.lacking(batch)
        except TransportError as error:
            log.info("Everything is sent, whether it is there or not: %s", error)
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
                        f"deadline={self._deadline:g} seconds: where it is only slow, give a longer one"
                    )
                # First those that are stored, so that the error counts them.
                for stored in sorted(done, key=lambda each: each.exception() is not None):
                    del self._under_way[stored]
                    self.count.stored(*stored.result())
            except TransportError as error:
                self.error = self.count.advise(error, "published", self._transport)
                raise self.error from error

    def close(self) -> None:
        """Waits for the batches that are being uploaded, no longer than for any, and drops the rest.

        What is stored by then is counted.
        """
        self._batch.clear()
        self._pool.close()
        self._pool.join(max(1.0, max(self._under_way.values(), default=0.0) - time.monotonic()))
        for stored in self._under_way:
            if stored.done() and not stored.cancelled() and stored.exception() is None:
                self.count.stored(*stored.result())
        self._under_way.clear()


def _at_most(seconds: float) -> float:
    """Returns for how long to wait at once: never less than 0, and no longer than the system can."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)


def with_advice(error: E, advice: str) -> E:
    """Returns an error of the same type and attributes, whose message ends with some advice."""
    advised = type(error)(f"{sentence(str(error))} {advice}")
    vars(advised).update(vars(error))
    return advised
