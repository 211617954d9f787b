"""Verified blocks kept on disk between epochs and jobs, up to a size; a failing disk never stops reading."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from ipfs_dataset_core.block_files import BlockFiles
from ipfs_dataset_core.content import verify
from ipfs_dataset_core.errors import VerificationError
from ipfs_dataset_core.threads import DaemonPool

if TYPE_CHECKING:
    from pathlib import Path

    from ipfs_dataset_core.content import CID

log = logging.getLogger(__name__)

# Room is made for this part of the size at once, so that the folder is listed seldom.
_SLACK = 0.1
# How much later a block must be used again to count as used again: saves a write for most reads.
_TOUCH_SECONDS = 60.0
# How long nothing is written after the disk was full.
_PAUSE_SECONDS = 60.0
_BACKLOG_BLOCKS = 32


class DiskCache:
    """A folder of blocks that any number of processes and jobs share.

    Keys are hashes and values never change, so nothing is ever stale, and what is damaged is noticed when it
    is read and fetched again.

    Args:
        folder: Where it is; made at the first write.
        size: How many bytes it may have, about; the least recently used go first.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._files = BlockFiles(folder / "blocks")
        self._size = size
        self._lock = threading.Lock()
        # How much may be written before the folder is looked through again: nothing is known at first.
        self._room = 0
        self._paused_until = 0.0
        self._writer = DaemonPool(1, "ipfs-dataset-cache")
        self._backlog = threading.Semaphore(_BACKLOG_BLOCKS)

    def has(self, cid: CID) -> bool:
        """Tells whether a block is probably there."""
        return self._files.has(cid)

    def get(self, cid: CID) -> bytes | None:
        """Returns a block that hashes to its CID, None where there is none; removes a damaged one."""
        try:
            block = self._files.read(cid)
        except OSError as error:
            log.warning("Cannot read block %s from the cache: %s", cid, error)
            return None
        if block is None:
            return None
        try:
            verify(cid, block)
        except VerificationError:
            log.warning(
                "Block %s in the cache %s is damaged, it is fetched again", cid, self._files.folder
            )
            self._remove(cid)
            return None
        self._touch(cid)
        return block

    def put(self, cid: CID, block: bytes) -> None:
        """Keeps a verified block; where the disk refuses, warns and goes on without."""
        if len(block) > self._size or time.monotonic() < self._paused_until:
            return
        try:
            if self._files.write(cid, block):
                self._make_room(len(block))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            log.warning(
                "The cache %s %s (%s): reading goes on without it",
                self._files.folder,
                "is full" if full else "cannot be written",
                error,
            )
            self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def put_soon(self, cid: CID, block: bytes) -> None:
        """Keeps a verified block, written beside the reading; where writing lags behind, here and now."""
        if not self._backlog.acquire(blocking=False):
            self.put(cid, block)
            return
        try:
            self._writer.submit(lambda: self._put_queued(cid, block))
        except RuntimeError:  # closed
            self._backlog.release()
            self.put(cid, block)

    def close(self) -> None:
        """Waits until all is written that was to be written."""
        for _ in range(_BACKLOG_BLOCKS):
            self._backlog.acquire()
        self._writer.close()
        for _ in range(_BACKLOG_BLOCKS):
            self._backlog.release()

    def _put_queued(self, cid: CID, block: bytes) -> None:
        try:
            self.put(cid, block)
        finally:
            self._backlog.release()

    def _make_room(self, written: int) -> None:
        with self._lock:
            self._room -= written
            if self._room >= 0:
                return
            self._room = self._evict()

    def _evict(self) -> int:
        """Removes the least recently used blocks until there is room; returns how much there is to write."""
        found = []
        for entry in self._files.entries():
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime, status.st_size, entry.path))
        used = sum(size for _, size, _ in found)
        goal = int(self._size * (1 - _SLACK))
        for _, size, path in sorted(found):
            if used <= goal:
                break
            try:
                os.unlink(path)  # noqa: PTH108 - a string from scandir
            except OSError:
                continue
            used -= size
        return max(self._size - used, int(self._size * _SLACK)) // 2

    def _remove(self, cid: CID) -> None:
        try:
            self._files.remove(cid)
        except OSError as error:
            log.warning("Cannot remove block %s from the cache: %s", cid, error)

    def _touch(self, cid: CID) -> None:
        path = self._files.path(cid)
        try:
            if time.time() - path.stat().st_mtime > _TOUCH_SECONDS:
                os.utime(path)
        except OSError:
            log.debug("Cannot mark block %s as used", cid)
