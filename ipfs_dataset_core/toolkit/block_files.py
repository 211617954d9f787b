"""Blocks as files named by their multihash, in a folder that any number of processes share without locks.

``<folder>/<last two letters>/<base32>``, written aside, flushed and renamed: a crash at any moment leaves
nothing half-written under a block's name, and two writers of one block write the same bytes.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset_core.ipld import CID, RAW

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = ".tmp-"
# What a writer that was killed left behind; a living one takes no hour for a block.
_STALE_SECONDS = 3600.0


class BlockFiles:
    """The blocks in one folder; it is made at the first write.

    Nothing is verified here: who reads checks the hash, as with any other source.

    Args:
        folder: Where they are.
        durable: Whether what was written is there after a power cut. Who reads notices damage.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self._durable = durable

    def path(self, cid: CID) -> Path:
        """Returns where the block of a CID is, or would be, whatever the CID's version and codec."""
        name = str(CID(1, RAW, cid.multihash))
        return self.folder / name[-2:] / name

    def has(self, cid: CID) -> bool:
        """Tells whether there is a file for the block."""
        return self.path(cid).is_file()

    def read(self, cid: CID) -> bytes | None:
        """Returns what is stored for a block, None where nothing is.

        Raises:
            OSError: It is there and cannot be read.
        """
        try:
            return self.path(cid).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, cid: CID, block: bytes) -> bool:
        """Stores a block, over a damaged one too; tells whether it was not there intact before.

        Raises:
            OSError: It cannot be written.
        """
        path = self.path(cid)
        if _holds(path, block):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, block, durable=self._durable)
        return True

    def remove(self, cid: CID) -> None:
        """Removes a block where it is there."""
        self.path(cid).unlink(missing_ok=True)

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Yields the entry of every block; removes what writers that were killed left behind."""
        return shelved(self.folder)


def shelved(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yields the entry of every file ``<folder>/<shelf>/<file>``, likewise."""
    with suppress(FileNotFoundError), os.scandir(folder) as shelves:
        for shelf in shelves:
            if shelf.is_dir(follow_symlinks=False):
                yield from _files_in(shelf.path)


def _files_in(shelf: str) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(shelf) as entries:
        for entry in entries:
            if not entry.name.startswith(_PREFIX):
                yield entry
            else:
                with suppress(FileNotFoundError):
                    if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                        Path(entry.path).unlink()


def _holds(path: Path, block: bytes) -> bool:
    try:
        return path.stat().st_size == len(block) and path.read_bytes() == block
    except OSError:
        return False


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes a file so that, whatever happens to this process, it is there whole or as it was before.

    Args:
        path: The file.
        data: What it is to hold.
        durable: Whether that is so after a power cut, too, at the cost of a wait for the disk.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    # Not tempfile's: its files can be read by their owner only, and folders are shared.
    aside = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}")
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
