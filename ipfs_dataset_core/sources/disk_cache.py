"""Verified blocks, and indexes of objects, kept on disk between epochs and jobs, up to a size.

A failing disk never stops reading.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from itertools import chain
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import VerificationError
from ipfs_dataset_core.ipld import verify
from ipfs_dataset_core.runtime.pool import DaemonPool
from ipfs_dataset_core.toolkit.block_files import BlockFiles, shelved, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipfs_dataset_core.ipld import CID

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
        # Damage is noticed on reading, so nothing has to be waited for.
        self._files = BlockFiles(folder / "blocks", durable=False)
        self._indexes = folder / "indexes"
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
        self._touch(self._files.path(cid))
        return block

    def put(self, cid: CID, block: bytes) -> None:
        """Keeps a verified block; where the disk refuses, warns and goes on without."""
        self._put(lambda: self._files.write(cid, block), len(block))

    def put_soon(self, cid: CID, block: bytes) -> None:
        """Keeps a verified block, written beside the reading; where writing lags behind, here and now."""
        self._soon(lambda: self.put(cid, block))

    def get_index(self, name: str) -> bytes | None:
        """Returns what was kept under a name, None where nothing is; nothing here proves it."""
        path = self._index_path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("Cannot read index %s from the cache: %s", name, error)
            return None
        self._touch(path)
        return data

    def put_index_soon(self, name: str, data: bytes) -> None:
        """Keeps an index under a name that fits a file, as `put_soon` does."""

        def write() -> bool:
            path = self._index_path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, durable=False)
            return True

        self._soon(lambda: self._put(write, len(data)))

    def close(self) -> None:
        """Waits until all is written that was to be written."""
        for _ in range(_BACKLOG_BLOCKS):
            self._backlog.acquire()
        self._writer.close()
        for _ in range(_BACKLOG_BLOCKS):
            self._backlog.release()

    def _index_path(self, name: str) -> Path:
        return self._indexes / name[-2:] / name

    def _put(self, write: Callable[[], bool], size: int) -> None:
        if size > self._size or time.monotonic() < self._paused_until:
            return
        try:
            if write():
                self._make_room(size)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            log.warning(
                "The cache %s %s (%s): reading goes on without it",
                self._files.folder,
                "is full" if full else "cannot be written",
                error,
            )
            self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def _soon(self, put: Callable[[], None]) -> None:
        if not self._backlog.acquire(blocking=False):
            put()
            return

        def queued() -> None:
            try:
                put()
            finally:
                self._backlog.release()

        try:
            self._writer.submit(queued)
        except RuntimeError:  # closed
            self._backlog.release()
            put()

    def _make_room(self, written: int) -> None:
        with self._lock:
            self._room -= written
            if self._room >= 0:
                return
            self._room = self._evict()

    def _evict(self) -> int:
        """Removes what was not used for longest until there is room; returns how much there is to write."""
        found = []
        for entry in chain(self._files.entries(), shelved(self._indexes)):
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

    def _touch(self, path: Path) -> None:
        try:
            if time.time() - path.stat().st_mtime > _TOUCH_SECONDS:
                os.utime(path)
        except OSError:
            log.debug("Cannot mark %s as used", path)
