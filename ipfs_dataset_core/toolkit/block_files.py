"""Blocks as files named by their multihash, in a folder that any number of processes share without locks.

``<folder>/<last two letters>/<base32>``, written aside, flushed and renamed: a crash at any moment leaves
nothing half-written under a block's name, and two writers of one block write the same bytes. No link in the
folder is followed and nothing but regular files is opened, for others may write it too: see `shared_folder`.
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
    """The blocks in one folder; it is made at the first write.

    Nothing is verified here: the caller checks the hash, as with any other source.

    Args:
        folder: Where they are.
        durable: Whether what was written is there after `sync` and a power cut. Damage is
            noticed by the hash in any case.
        block_bytes: The longest block that is read.
        parent: Opens the folder that contains it, and may check it first; by default any folder at that path.
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
        """Returns where the block of a CID is, or would be, whatever the CID's version and codec."""
        name = block_name(cid)
        return self.folder / name[-2:] / name

    def has(self, cid: CID) -> bool:
        """Tells whether there is a file for the block."""
        return self.shelves.has(block_name(cid))

    def holds(self, cid: CID, block: bytes) -> bool:
        """Tells whether the file for the block has exactly these bytes."""
        return self.shelves.holds(block_name(cid), block)

    def read(self, cid: CID) -> bytes | None:
        """Returns what is stored for a block, None where nothing is.

        Raises:
            LimitError: The file is longer than a block may be; it is not read.
            OSError: It is there and cannot be read, or something that is no regular file stands there.
        """
        try:
            return self.shelves.read(block_name(cid), self.block_bytes)
        except LimitError as error:
            raise LimitError(
                f"{error}: where you trust it, give limits=Limits(block_bytes=…)"
            ) from error

    def open(self, cid: CID) -> IO[bytes]:
        """Opens the file of a block, unbuffered.

        Raises:
            OSError: It is not there or cannot be opened, or something that is no regular file stands there.
        """
        return self.shelves.open_file(block_name(cid))

    def write(self, cid: CID, block: bytes) -> bool:
        """Stores a block, also over a damaged one, and returns whether it was missing or damaged before.

        Raises:
            OSError: It cannot be written, or something that is no regular file stands there.
        """
        return self.shelves.write(block_name(cid), block)

    @contextmanager
    def opened(self) -> Iterator[Callable[[CID, bytes], bool]]:
        """Gives what stores blocks as `write` does, and keeps the folder open from one to the next.

        Raises:
            OSError: The folder cannot be opened.
        """
        with self.shelves.opened() as write:
            yield lambda cid, block: write(block_name(cid), block)

    def sync(self) -> None:
        """Waits until what this object wrote is on the disk, where it is `durable`.

        Raises:
            OSError: The folder cannot be opened.
        """
        self.shelves.sync()

    def remove(self, cid: CID) -> None:
        """Removes a block where it is there."""
        self.shelves.remove(block_name(cid))

    def entries(self, stale_seconds: float = STALE_SECONDS) -> Iterator[Entry]:
        """Yields the entry of every block; removes what writers that were killed left behind.

        Args:
            stale_seconds: How old what they left has to be.
        """
        return self.shelves.entries(stale_seconds)


def is_block_name(name: str) -> bool:
    """Tells whether a block could have a file of this name."""
    if not _NAMES.fullmatch(name):
        return False
    try:
        return block_name(CID.parse(name)) == name
    except IPFSDatasetError:
        return False


def block_name(cid: CID) -> str:
    """Returns the name of the file for a block, whatever the CID's version and codec."""
    return str(CID(1, RAW, cid.multihash))
