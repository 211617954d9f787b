"""Keeps verified blocks and indexes of objects on disk between epochs and jobs, up to a maximum size.

A disk that fails or hangs never stops reading, which continues without the cache after one warning.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import re
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from ipfs_dataset_core.errors import (
    CacheFolderError,
    IPFSDatasetError,
    IPFSDatasetWarning,
    VerificationError,
)
from ipfs_dataset_core.ipld import CID, verify
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.runtime.human import human_size
from ipfs_dataset_core.runtime.pool import DaemonPool
from ipfs_dataset_core.runtime.user_warnings import is_in_user_code, warn_user
from ipfs_dataset_core.sources.disk_calls import DiskCalls, SilentDiskError
from ipfs_dataset_core.toolkit.block_files import BlockFiles, is_block_name
from ipfs_dataset_core.toolkit.data_folders import BLOCKS, INDEXES, CacheFolder
from ipfs_dataset_core.toolkit.index_cache import HEAD_BYTES, shown
from ipfs_dataset_core.toolkit.shared_folder import (
    NotDirectoryError,
    NotRegularError,
    Shelves,
    mark_used,
    read_up_to,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from ipfs_dataset_core.toolkit.index_cache import IndexKey
    from ipfs_dataset_core.toolkit.shared_folder import Entry

log = logging.getLogger(__name__)

# Fraction of the size that is freed at once, so that the folder is listed rarely.
_SLACK = 0.1
# Seconds after which a read of a block is recorded again, which saves a write for most reads.
_TOUCH_SECONDS = 60.0
# Seconds for which nothing is written after the disk was full.
_PAUSE_SECONDS = 60.0
# Maximum number of blocks and indexes that wait to be written.
_BACKLOG = 32
# Number of files that are compared by age at once: about 300 MB of memory, even if the folder was filled with
# them.
_MOST_CONSIDERED = 1_000_000
# The CID, and 32 hexadecimal digits for everything else that the index depends on, including its user.
INDEX_NAMES = re.compile(r"b[a-z2-7]{2,215}\.[0-9a-f]{32}", re.ASCII)

# Folders whose failure this process has warned of. Datasets often share one.
_warned_of: set[Path] = set()


class DiskCache:
    """A folder of blocks shared by any number of processes and jobs.

    Keys are hashes and values never change, so nothing becomes stale, and damaged data is detected when it is
    read, and fetched again. The folder belongs to the cache, see `data_folders`; others may be able to write
    to it, see `shared_folder`.

    Args:
        folder: The path of the folder, which is created by the first write.
        size: Approximate maximum size in bytes; the least recently used files are removed first.
        block_bytes: Maximum size of a block that is read.
        seconds: Seconds after which a disk that does not respond is no longer used, until it responds.

    Attributes:
        failure: The reason why something was not stored, or not kept; None if everything was.

    Raises:
        CacheFolderError: The folder is not a cache and must not become one.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        block_bytes: int = Limits().block_bytes,
        seconds: float = math.inf,
    ) -> None:
        self._folder = CacheFolder(folder)
        # Damage is detected on reading, so nothing has to be flushed to the disk.
        self._files = BlockFiles(
            folder / BLOCKS, durable=False, block_bytes=block_bytes, parent=self._folder
        )
        self._blocks = self._files.shelves
        self._indexes = Shelves(self._folder, INDEXES, INDEX_NAMES, durable=False)
        self._size = size
        self.failure: str | None = None
        self._lock = threading.Lock()
        # Number of bytes that may be written before the folder is listed again; 0 until its size is known.
        self._room = 0
        self._paused_until = 0.0
        # Whether there is no cache, or another program has replaced it.
        self._lost = False
        # Failures often happen in a thread of this library; the next call by the user warns of the first.
        self._warning: str | None = None
        # When the first of the files that this job used was last used, by the clock of their disk, which may
        # differ from the clock of this machine.
        self._first_use = math.inf
        self._disk = DiskCalls(f"The cache {folder}", seconds)
        self._writer = DaemonPool(1, "ipfs-dataset-cache")
        self._unwritten: queue.Queue[Callable[[], None]] = queue.Queue(_BACKLOG)
        # Number of completed writes, from which `close` sees whether the disk is merely slow.
        self._written = 0
        try:
            self._disk.run(self._folder.check)
        except NotDirectoryError as error:
            self._lose(error)
        except SilentDiskError as error:
            self._hang(error)
        except OSError as error:
            self._pause(error)
        self._warn()

    def has(self, cid: CID) -> bool:
        """Returns whether a block is probably cached."""
        return bool(self.those_of([cid]))

    def those_of(self, cids: Collection[CID]) -> list[CID]:
        """Returns the blocks that are probably cached."""
        if self._lost or not cids:
            return []
        try:
            return self._disk.run(lambda: list(filter(self._files.has, cids)))
        except CacheFolderError as error:
            self._lose(error)
        except SilentDiskError as error:
            self._hang(error)
        return []

    def get(self, cid: CID) -> bytes | None:
        """Returns a verified block; None if there is none. Removes a damaged one."""
        self._warn_while_reading()
        return self._read(f"block {cid}", lambda: self._get(cid))

    def put(self, cid: CID, block: bytes) -> None:
        """Writes a verified block; a failure of the disk causes a warning."""
        self._put(lambda: self._files.write(cid, block), len(block), lambda: self._files.open(cid))

    def put_soon(self, cid: CID, block: bytes) -> None:
        """Writes a verified block in another thread, and waits for it if too many wait to be written."""
        self._warn_while_reading()
        self._soon(lambda: self.put(cid, block))

    def get_index(self, cid: str, key: str, secret: IndexKey) -> bytes | None:
        """Returns an index; None if there is none that was made with this secret.

        Args:
            cid: The object to which the index belongs.
            key: Everything that the index depends on; see `index_cache`.
            secret: The key of the user who made it.
        """
        self._warn_while_reading()
        return self._read(shown(key), lambda: self._get_index(cid, key, secret))

    def put_index_soon(self, cid: str, key: str, secret: IndexKey, payload: bytes) -> None:
        """Writes an index like `put_soon`; arguments as for `get_index`."""
        self._warn_while_reading()
        name, data = _index_name(cid, key, secret), secret.seal(key, payload)
        self._soon(
            lambda: self._put(
                lambda: self._indexes.write(name, data),
                len(data),
                lambda: self._indexes.open_file(name),
            )
        )

    def close(self, seconds: float | None = None) -> None:
        """Waits until everything is written, unless the disk does not respond.

        Args:
            seconds: Time without a completed write after which the rest is discarded; None for no limit.
        """
        answers = self._wait_until_written(seconds)
        self._writer.close()
        if not answers:
            self._lost = True
            self._fail(
                f"the disk has not responded for {seconds:g} s",
                f"The cache {self._folder.path} has not responded for {seconds:g} s: "
                f"{self._unwritten.unfinished_tasks} blocks and indexes are not stored",
            )
        else:
            # Items added in the meantime.
            while not self._unwritten.empty() and self._wait_for(self._write_next):
                pass
        self._warn()

    def _wait_until_written(self, seconds: float | None) -> bool:
        """Returns whether everything was written; False after `seconds` without a completed write."""
        unwritten = self._unwritten
        with unwritten.all_tasks_done:
            while unwritten.unfinished_tasks:
                before = self._written
                if not unwritten.all_tasks_done.wait(seconds) and self._written == before:
                    return False
        return True

    def _read(self, what: str, read: Callable[[], bytes | None]) -> bytes | None:
        if self._lost:
            return None
        try:
            return self._disk.run(read)
        except (CacheFolderError, NotDirectoryError) as error:
            self._lose(error)
        except SilentDiskError as error:
            self._hang(error)
        except OSError as error:
            log.warning("Cannot read %s from the cache: %s", what, error)
        return None

    def _get(self, cid: CID) -> bytes | None:
        try:
            with self._files.open(cid) as file:
                size = os.fstat(file.fileno()).st_size
                block = read_up_to(file, size) if size <= self._files.block_bytes else b""
                verify(cid, block)
                self._mark_used(file)
        except FileNotFoundError:
            return None
        except VerificationError:
            log.warning(
                "Block %s in the cache %s is damaged and is fetched again", cid, self._files.folder
            )
            self._files.remove(cid)
            return None
        return block

    def _get_index(self, cid: str, key: str, secret: IndexKey) -> bytes | None:
        try:
            with self._indexes.open_file(_index_name(cid, key, secret)) as file:
                head = read_up_to(file, HEAD_BYTES)
                size = secret.payload_bytes(key, head)
                # A file of another size is not read, because somebody may have made it as large as the disk.
                if size is not None and os.fstat(file.fileno()).st_size == len(head) + size:
                    payload = read_up_to(file, size)
                    if secret.is_payload(key, head, payload):
                        self._mark_used(file)
                        return payload
        except FileNotFoundError:
            return None
        log.warning(
            "The %s in the cache %s is damaged and is built again", shown(key), self._folder.path
        )
        return None

    def _put(self, write: Callable[[], bool], size: int, written: Callable[[], IO[bytes]]) -> None:
        """Writes a file unless the cache is not used at present.

        Args:
            write: Writes it, and returns whether it was missing.
            size: Its size in bytes.
            written: Opens what was written.
        """
        if self._lost or size > self._size or time.monotonic() < self._paused_until:
            return
        try:
            if write():
                if self._first_use == math.inf:
                    with (
                        suppress(FileNotFoundError),
                        written() as file,
                    ):  # unless another job removed it
                        self._mark_used(file)
                self._make_room(size)
        except (CacheFolderError, NotDirectoryError) as error:
            self._lose(error)
        except NotRegularError as error:
            # Only this one file is affected: the others can be written.
            self._fail(str(error), f"Cannot write to the cache: {error}")
        except OSError as error:
            self._pause(error)
        except Exception as error:  # the thread has other writes, and no reader depends on this one
            self.failure = repr(error)
            log.warning("Cannot write to the cache %s", self._folder.path, exc_info=True)

    def _lose(self, error: Exception) -> None:
        if self._lost:
            return
        self._lost = True
        self._fail(str(error), f"The cache is not used; reading continues without it: {error}")

    def _pause(self, error: OSError) -> None:
        """Stops writing for a while, because the disk is full or refuses."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = "is full"
            remedy = "Free some space there, or give cache_dir= a folder on another disk"
        else:
            what = "cannot be written"
            remedy = "To keep blocks, give cache_dir= a folder in which you can write"
        self._fail(
            f"it {what} ({error}). {remedy}",
            f"The cache {self._folder.path} {what} ({error}): reading continues without it. {remedy}",
        )
        self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def _hang(self, error: SilentDiskError) -> None:
        """Notes that the disk did not answer, which `DiskCalls` has logged."""
        self._warning = self._warning or f"{error}: it is not used until it does"

    def _fail(self, reason: str, message: str) -> None:
        """Notes why something was not stored, and logs it."""
        self.failure = reason
        self._warning = self._warning or message
        log.warning("%s", message)

    def _warn(self) -> None:
        """Warns of the first failure, once for all caches of this process in the same folder.

        Raises:
            IPFSDatasetWarning: The user's filters turn warnings into errors.
        """
        if self._warning is None or self._folder.path in _warned_of:
            return
        warn_user(self._warning, IPFSDatasetWarning)
        _warned_of.add(self._folder.path)

    def _warn_while_reading(self) -> None:
        """Warns like `_warn`, but leaves an error to `close`: the data that is read is not affected.

        It also leaves the warning to a later call if a thread of this library reads, where no line of the
        user's code can be shown.
        """
        if self._warning is not None and is_in_user_code():
            with suppress(IPFSDatasetWarning):
                self._warn()

    def _soon(self, put: Callable[[], None]) -> None:
        try:
            self._unwritten.put_nowait(put)
        except queue.Full:
            self._wait_for(put)
            return
        try:
            self._writer.submit(self._write_next)
        except RuntimeError:  # closed
            self._wait_for(self._write_next)

    def _wait_for(self, write: Callable[[], None]) -> bool:
        """Returns whether the disk answered while this was written."""
        try:
            self._disk.run(write)
        except SilentDiskError as error:
            self.failure = str(error)
            self._hang(error)
            return False
        return True

    def _write_next(self) -> None:
        try:
            put = self._unwritten.get_nowait()
        except queue.Empty:  # another thread took it
            return
        try:
            put()
        finally:
            self._written += 1
            self._unwritten.task_done()

    def _make_room(self, written: int) -> None:
        with self._lock:
            self._room -= written
            if self._room >= 0:
                return
            self._room = self._evict()

    def _evict(self) -> int:
        """Removes the least recently used files until there is room; returns how many bytes may be written.

        Raises:
            CacheFolderError: The folder is no longer a cache.
        """
        with self._folder.open() as directory:
            self._folder.verify(directory)
        used = 0
        found: list[tuple[Entry, int]] = []
        for number, shelves in enumerate((self._blocks, self._indexes)):
            for entry in shelves.entries():
                used += entry.size
                # Names are hashes, so the files on some shelves are a fair sample of all files.
                if len(found) < _MOST_CONSIDERED:
                    found.append((entry, number))
        found.sort()
        goal = int(self._size * (1 - _SLACK))
        victims: tuple[list[str], list[str]] = ([], [])
        for entry, number in found:
            if used <= goal:
                break
            if entry.modified >= self._first_use:
                self.failure = (
                    f"it keeps at most {human_size(self._size)}, so what was read first was removed again; "
                    "give a larger cache_size="
                )
            if (is_index_name if number else is_block_name)(entry.name):
                victims[number].append(entry.name)
                used -= entry.size
        self._blocks.remove_all(victims[0])
        self._indexes.remove_all(victims[1])
        return max(self._size - used, int(self._size * _SLACK)) // 2

    def _mark_used(self, file: IO[bytes]) -> None:
        try:
            self._first_use = min(self._first_use, mark_used(file, _TOUCH_SECONDS))
        except OSError:
            log.debug("Cannot mark a file of %s as used", self._folder.path)


def is_index_name(name: str) -> bool:
    """Returns whether an index may have a file of this name."""
    if not INDEX_NAMES.fullmatch(name):
        return False
    cid = name.partition(".")[0]
    try:
        return str(CID.parse(cid)) == cid
    except IPFSDatasetError:
        return False


def _index_name(cid: str, key: str, secret: IndexKey) -> str:
    return f"{cid}.{secret.file_suffix(key)}"
