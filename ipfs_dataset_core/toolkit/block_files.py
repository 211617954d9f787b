"""Blocks stored as files named by their multihash, in a folder shared by processes without locks.

Files are named ``<folder>/<last two letters>/<base32>``, and are written under a temporary name, flushed and
renamed. A crash at any moment leaves no incomplete file under a block's name, and two writers of one block
write the same bytes. No link in the folder is followed and only regular files are opened, because others may
be able to write to it; see `shared_folder`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from ipfs_dataset_core.errors import IPFSDatasetError, LimitError
from ipfs_dataset_core.ipld import CID, RAW
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.toolkit.shared_folder import STALE_SECONDS, PlainFolder, Shelves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipfs_dataset_core.toolkit.shared_folder import Entry, Folder

# A CID of version 1 with the codec raw, in base32: its first two bytes are 01 55.
_NAMES = re.compile(r"bafk[q-z2-7][a-z2-7]{2,240}", re.ASCII)
_BLOCK_BYTES = Limits().block_bytes


class BlockFiles:
    """The blocks in one folder, which is created by the first write.

    Nothing is verified here: the caller checks hashes, as for any other source.

    Args:
        folder: The folder.
        durable: Whether blocks survive a power failure once `sync` has returned. Damage is detected by the
            hash in any case.
        block_bytes: Maximum size of a block that is read.
        parent: Opens the folder that contains the blocks, and may check it; by default any folder at that
            path.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        block_bytes: int = _BLOCK_BYTES,
        parent: Folder | None = None,
    ) -> None:
        self.folder = folder
        self.block_bytes = block_bytes
        self.shelves = Shelves(
            parent or PlainFolder(folder.parent), folder.name, _NAMES, durable=durable
        )

    def path(self, cid: CID) -> Path:
        """Returns the path of the block of a CID, which need not exist; independent of version and codec."""
        name = block_name(cid)
        return self.folder / name[-2:] / name

    def has(self, cid: CID) -> bool:
        """Returns whether there is a file for the block."""
        return self.shelves.has(block_name(cid))

    def holds(self, cid: CID, block: bytes) -> bool:
        """Returns whether the file for the block contains exactly these bytes."""
        return self.shelves.holds(block_name(cid), block)

    def read(self, cid: CID) -> bytes | None:
        """Returns the content of the file for a block; None if there is none.

        Raises:
            LimitError: The file is larger than a block may be; it is not read.
            OSError: It cannot be read, or is not a regular file.
        """
        try:
            return self.shelves.read(block_name(cid), self.block_bytes)
        except LimitError as error:
            raise LimitError(
                f"{error}: if you trust it, give limits=Limits(block_bytes=…)"
            ) from error

    def open(self, cid: CID) -> IO[bytes]:
        """Opens the file of a block, unbuffered.

        Raises:
            OSError: It does not exist, cannot be opened, or is not a regular file.
        """
        return self.shelves.open_file(block_name(cid))

    def write(self, cid: CID, block: bytes) -> bool:
        """Stores a block, replacing a damaged one; returns whether it was missing or damaged before.

        Raises:
            OSError: It cannot be written, or something other than a regular file has its name.
        """
        return self.shelves.write(block_name(cid), block)

    @contextmanager
    def opened(self) -> Iterator[Callable[[CID, bytes], bool]]:
        """Returns a context manager for a function like `write`, which keeps the folder open between calls.

        Raises:
            OSError: The folder cannot be opened.
        """
        with self.shelves.opened() as write:
            yield lambda cid, block: write(block_name(cid), block)

    def sync(self) -> None:
        """Waits until everything that this object wrote is on disk, if it is `durable`.

        Raises:
            OSError: The folder cannot be opened.
        """
        self.shelves.sync()

    def remove(self, cid: CID) -> None:
        """Removes a block if it exists."""
        self.shelves.remove(block_name(cid))

    def entries(self, stale_seconds: float = STALE_SECONDS) -> Iterator[Entry]:
        """Yields the entry of every block; removes temporary files of killed writers.

        Args:
            stale_seconds: Minimum age of such temporary files in seconds.
        """
        return self.shelves.entries(stale_seconds)


def is_block_name(name: str) -> bool:
    """Returns whether a block may have a file of this name."""
    if not _NAMES.fullmatch(name):
        return False
    try:
        return block_name(CID.parse(name)) == name
    except IPFSDatasetError:
        return False


def block_name(cid: CID) -> str:
    """Returns the name of the file for a block, independent of the CID's version and codec."""
    return str(CID(1, RAW, cid.multihash))
