"""The folder of the embedded store: blocks, and the pins that keep whole DAGs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.toolkit.block_files import BlockFiles
from ipfs_dataset_core.toolkit.cache_folder import BLOCKS, PINS, check_store_place
from ipfs_dataset_core.toolkit.shared_folder import PlainFolder

if TYPE_CHECKING:
    from pathlib import Path

    from ipfs_dataset_core.ipld import CID

_BLOCK_BYTES = Limits().block_bytes


class StoreFolder:
    """A folder of blocks that are kept until somebody removes them; made at the first write.

    Links in the path to the folder are followed once; links in the folder never are.

    Args:
        path: The folder.
        block_bytes: The longest block that is read.

    Attributes:
        blocks: Its blocks; to write some, use `write`.

    Raises:
        AddressError: It is, or lies in, a cache or the repository of a node.
    """

    def __init__(self, path: Path, *, block_bytes: int = _BLOCK_BYTES) -> None:
        check_store_place(path)
        self._path = path
        self._folder = PlainFolder(path)
        self.blocks = BlockFiles(path / BLOCKS, block_bytes=block_bytes, parent=self._folder)
        self._prepared = False

    def write(self, cid: CID, block: bytes) -> None:
        """Stores a block.

        Raises:
            AddressError: A cache was made here in the meantime.
            OSError: It cannot be written.
        """
        if not self._prepared:
            self._prepare()
        self.blocks.write(cid, block)

    def pin(self, cid: CID) -> None:
        """Records the root of a DAG whose blocks are all here; they and the pin then survive a power cut.

        Raises:
            AddressError: A cache was made here in the meantime.
            OSError: It cannot be written.
        """
        self._prepare()
        self.blocks.sync()
        with self._folder.open() as folder, folder.enter(PINS) as pins:
            pins.touch(str(cid))
            pins.sync()
            folder.sync()

    def _prepare(self) -> None:
        """Makes the folder of pins, by which caches recognise a store, before anything else."""
        check_store_place(self._path)
        with self._folder.open(make=True) as folder, folder.enter(PINS, make=True):
            self._prepared = True
