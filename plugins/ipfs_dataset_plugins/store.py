"""The embedded store: blocks in a folder, or in a `.car` file that is read in place."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from ipfs_dataset_core import (
    AddressError,
    FormatError,
    LimitError,
    Limits,
    ObjectNotFoundError,
    Pin,
    StoreFolder,
    Transport,
    TransportError,
    TransportTimeoutError,
    file_path,
    time_left,
)
from ipfs_dataset_core.ipld import RAW, car_header, car_section_head, index_car, links, make_cid

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from ipfs_dataset_core import (
        CID,
        Options,
    )


_SECONDS_TO_LOCK = 5
# Errors of a system on which a disk or a quota is full, and which does not let this user write.
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_REFUSED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))


def open_store(address: str, options: Options) -> Transport:
    """Returns the store at a path: a folder, a `.car` file to read, or one to write."""
    path = file_path(address)
    if path.is_dir():
        return FolderStore(path, block_bytes=options.limits.block_bytes)
    if path.is_file():
        return CarWriter(path, overwrite=True) if options.overwrite else CarStore(path)
    if path.exists():
        raise AddressError(f"{str(path)!r} is neither a folder nor a .car file")
    if path.suffix.lower() == ".car":
        return CarWriter(path)
    return FolderStore(path, block_bytes=options.limits.block_bytes)


class FolderStore(Transport):
    """Blocks in a folder, which is created by the first write.

    Args:
        path: The folder.
        block_bytes: Maximum size of a block that is read.

    Raises:
        AddressError: It is a cache or the repository of a node, or is in one.
    """

    concurrency = 2
    local = True
    writable = True

    def __init__(self, path: Path, *, block_bytes: int = Limits().block_bytes) -> None:
        self.name = f"store {path}"
        self._path = path
        self._folder = StoreFolder(path, block_bytes=block_bytes)
        self._files = self._folder.blocks

    def get_block(self, cid: CID) -> bytes:
        try:
            block = self._files.read(cid)
        except OSError as error:
            raise TransportError(f"{self.name}: {error}") from error
        if block is None:
            raise ObjectNotFoundError(f"{self.name}: {self._lacks(cid)}")
        return block

    def lacking(self, blocks: Sequence[tuple[CID, bytes]]) -> Sequence[tuple[CID, bytes]]:
        # Blocks are compared, not only looked up, so that damaged ones are written again.
        try:
            return [(cid, block) for cid, block in blocks if self._folder.lacks(cid, block)]
        except OSError as error:
            raise TransportError(f"{self.name}: {error}{self._remedy(error)}") from error

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        self._folder.write_all(list(blocks), self._cannot_write)

    def _cannot_write(self, cid: CID, error: OSError) -> TransportError:
        return TransportError(
            f"{self.name}: cannot write block {cid}: {error}{self._remedy(error)}"
        )

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        """Checks that the whole DAG is stored, and records its root in ``pins/``, in a file with the name."""
        missing = next(self._missing(cid), None)
        if missing is not None:
            raise ObjectNotFoundError(f"{self.name}: cannot pin {cid}, it lacks block {missing}")
        try:
            self._folder.pin(cid, name)
        except OSError as error:
            raise TransportError(
                f"{self.name}: cannot pin {cid}: {error}{self._remedy(error)}"
            ) from error

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        """Checks that the blocks are stored, and records them in ``pins/``."""
        for cid in cids:
            if not self._files.has(cid):
                raise ObjectNotFoundError(f"{self.name}: cannot pin block {cid}, it is not here")
        try:
            self._folder.pin_blocks(cids)
        except OSError as error:
            raise TransportError(
                f"{self.name}: cannot pin blocks: {error}{self._remedy(error)}"
            ) from error

    def pinned_blocks(self) -> Iterator[CID]:
        try:
            yield from self._folder.pinned_blocks()
        except OSError as error:
            raise TransportError(f"{self.name}: cannot read its pins: {error}") from error

    def unpin_blocks(self, cids: Sequence[CID]) -> None:
        try:
            self._folder.unpin_blocks(cids)
        except OSError as error:
            raise self._cannot_remove("pins of blocks", error) from error

    def pins(self) -> Iterator[Pin]:
        try:
            found = self._folder.pins()
        except OSError as error:
            raise TransportError(f"{self.name}: cannot read its pins: {error}") from error
        for cid in sorted(found, key=str):
            yield Pin(cid=cid, name=found[cid])

    def unpin(self, cid: CID) -> None:
        try:
            removed = self._folder.unpin(cid)
        except OSError as error:
            raise self._cannot_remove(f"the pin of {cid}", error) from error
        if not removed:
            raise ObjectNotFoundError(f"{self.name}: {cid} is not pinned")

    def close(self) -> None:
        self._folder.close()

    def _remedy(self, error: OSError) -> str:
        if error.errno in _REFUSED:
            return (
                f". Blocks are written to {str(self._path)!r}: give a folder in which you can write"
            )
        if error.errno in _FULL:
            return (
                ". Free some space there and publish again, which writes only missing blocks, or publish to "
                "another place"
            )
        return ""

    def _cannot_remove(self, what: str, error: OSError) -> TransportError:
        remedy = (
            f". Give this user access to {str(self._path)!r}" if error.errno in _REFUSED else ""
        )
        return TransportError(f"{self.name}: cannot remove {what}: {error}{remedy}")

    def _lacks(self, cid: CID) -> str:
        lacks = f"has no block {cid}"
        if self._files.folder.is_dir():
            return lacks
        if self._path.is_dir():
            return (
                f"{lacks}, or any other block, because the folder is not a store: stores written by "
                f"IPFSDatasetExporter contain a folder {self._files.folder.name!r}"
            )
        return f"{lacks}, because there is no such folder. A URL starts with http:// or https://"

    def _missing(self, root: CID) -> Iterator[CID]:
        waiting, seen = [root], {root.multihash}
        while waiting:
            cid = waiting.pop()
            if cid.is_identity or (cid.codec == RAW and self._files.has(cid)):
                continue
            if not self._files.has(cid):
                yield cid
                continue
            for link in links(cid, self.get_block(cid)):
                if link.multihash not in seen:
                    seen.add(link.multihash)
                    waiting.append(link)


class CarStore(Transport):
    """The blocks of a `.car` file, found through an index of their places.

    Args:
        path: The file, CAR v1 or v2.

    Raises:
        FormatError: It is not a CAR.
        TransportTimeoutError: The deadline of the read passed while its blocks were looked up.
    """

    concurrency = 2
    local = True

    def __init__(self, path: Path) -> None:
        self.name = f"CAR {path}"
        self._lock = threading.Lock()
        try:
            self._file = _open_regular(path)
        except OSError as error:
            raise TransportError(f"{self.name}: {error}") from error
        # Datasets are seldom closed, and Python warns about open files that are garbage-collected.
        weakref.finalize(self, _close_unless_read, self._file, self._lock)
        try:
            self._index = index_car(self._file, check=self._check_deadline)
        except (FormatError, LimitError) as error:
            self._file.close()
            reason = str(error).rstrip(".")
            raise FormatError(
                f"{str(path)!r} is not a usable CAR file: {reason}. Was it cut off while it was written or "
                "copied? Get it again, or publish it again with overwrite=True"
            ) from error
        except BaseException:
            self._file.close()
            raise

    def get_block(self, cid: CID) -> bytes:
        place = self._index.get(cid.multihash)
        if place is None:
            raise ObjectNotFoundError(f"{self.name}: has no block {cid}")
        offset, size = place
        try:
            with self._lock:
                self._file.seek(offset)
                return self._file.read(size)
        except (OSError, ValueError) as error:  # ValueError: it was closed
            raise TransportError(f"{self.name}: {error}") from error

    def close(self) -> None:
        self._file.close()

    def _check_deadline(self) -> None:
        if time_left() <= 0:
            raise TransportTimeoutError(
                f"{self.name}: not all of its blocks were found before the deadline. Give a longer "
                "deadline=, or put the blocks into a store"
            )


class CarWriter(Transport):
    """A `.car` file being written: blocks first, then the root by pinning it, which completes the file.

    Args:
        path: The file, which must not exist yet.
        overwrite: Whether it may exist; the old file is then kept until the new one is complete.
    """

    # One batch of blocks after the other, so that equal datasets give equal files.
    concurrency = 1
    writable = True
    keeps_blocks = False

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.name = f"CAR {path}"
        self._path = path
        self._overwrite = overwrite
        self._complete = False
        self._part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
        self._file: BinaryIO | None = None
        self._written: set[bytes] = set()
        self._linked: set[bytes] = set()
        # The root is known last, but its CID is in the header, in which space is reserved for it.
        self._placeholder = car_header([make_cid(b"", RAW)])

    def get_block(self, cid: CID) -> bytes:
        if self._file is None and not self._path.exists():
            raise ObjectNotFoundError(
                f"{self.name}: has no block {cid}, because the file does not exist"
            )
        raise ObjectNotFoundError(
            f"{self.name}: is being written, block {cid} cannot be read from it yet"
        )

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        self._check_free()
        try:
            file = self._open()
            for cid, block in blocks:
                if cid.multihash not in self._written:
                    self._note(cid, block)
                    file.writelines((car_section_head(cid, len(block)), block))
            file.flush()
        except OSError as error:
            raise self._cannot_write(error) from error

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        missing = (self._linked | {cid.multihash}) - self._written
        if missing:
            raise ObjectNotFoundError(
                f"{self.name}: cannot be completed, {len(missing)} of the blocks under {cid} were not written"
            )
        self._finish(cid)

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        missing = {cid.multihash for cid in cids} - self._written
        if missing:
            raise ObjectNotFoundError(
                f"{self.name}: cannot be completed, {len(missing)} blocks were not written"
            )
        self._finish(cids[0])

    def _finish(self, cid: CID) -> None:
        """Completes the file, with a CID as its root."""
        header = car_header([cid.to_v1()])
        if len(header) != len(self._placeholder):
            raise TransportError(f"{self.name}: the root {cid} does not fit the header")
        self._check_free()
        try:
            with self._open() as file:
                file.seek(0)
                file.write(header)
                file.flush()
                os.fsync(file.fileno())
            self._part.replace(self._path)
            self._complete = True
        except OSError as error:
            raise self._cannot_write(error) from error

    def close(self) -> None:
        """Removes a file that was not completed."""
        if self._file is None:
            return
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _cannot_write(self, error: OSError) -> TransportError:
        remedy = ""
        if error.errno in _FULL:
            remedy = ". Free some space there, or publish to another place"
        elif error.errno in _REFUSED:
            remedy = (
                f". The file is written in {str(self._path.parent)!r}: name one in a folder in which you can "
                "write"
            )
        return TransportError(f"{self.name}: {error}{remedy}")

    def _open(self) -> BinaryIO:
        """Returns the file, which stays open, so that it cannot be replaced by a link between two writes."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            self._file = self._part.open("xb")
            _lock(self._file.fileno())
            weakref.finalize(self, self._file.close)
            self._file.write(self._placeholder)
        return self._file

    def _check_free(self) -> None:
        if self._complete or (self._path.exists() and not self._overwrite):
            raise TransportError(
                f"{self.name}: exists already: name another file, or give overwrite=True"
            )

    def _remove_abandoned(self) -> None:
        """Removes temporary files of killed writers of this file; a running writer holds a lock."""
        part = re.compile(rf"{re.escape(self._path.name)}\.[0-9a-f]{{16}}\.part")
        for path in self._path.parent.iterdir():
            if part.fullmatch(path.name):
                with suppress(OSError):
                    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
                    descriptor = os.open(path, os.O_RDWR | flags)
                    try:
                        status = os.fstat(descriptor)
                        # A file that was just created may not be locked yet.
                        old = time.time() - status.st_mtime > _SECONDS_TO_LOCK
                        if stat.S_ISREG(status.st_mode) and old and _lock(descriptor):
                            path.unlink()
                    finally:
                        os.close(descriptor)

    def _note(self, cid: CID, block: bytes) -> None:
        self._written.add(cid.multihash)
        self._linked |= {link.multihash for link in links(cid, block) if not link.is_identity}


def _lock(descriptor: int) -> bool:
    """Locks a file until it is closed; returns False if it cannot be locked."""
    if sys.platform == "win32":  # there, files of killed writers are not removed
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked by another process, or the file system has no locks
        return False
    return True


def _close_unless_read(file: BinaryIO, lock: threading.Lock) -> None:
    """Closes a file, unless a thread still waits for its disk, for which closing would wait as well."""
    if lock.acquire(blocking=False):
        try:
            file.close()
        finally:
            lock.release()


def _open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading, without blocking on a FIFO or device in its place."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")
