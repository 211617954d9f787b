"""An embedded store in a folder, filled with content of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.ipld import CID, RAW
from ipfs_dataset_plugins.store import FolderStore
from tests.support import builders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.builders import Blocks

# Small leaves, so that little content has many.
SMALL_LEAVES = "unixfs-v0-2015"


class Store:
    """A store; `address` is the value for ``ipfs_api_address`` of a dataset."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder)
        self._store = FolderStore(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def file(self, data: bytes, profile: str = builders.PROFILE) -> str:
        """Returns the CID of a file."""
        return self._put(*builders.one_file(data, profile))

    def tree(self, files: Mapping[str, bytes]) -> str:
        """Returns the CID of a directory."""
        return self._put(*builders.tree(files))

    def folder(self, files: Mapping[str, bytes]) -> str:
        """Returns the CID of a directory with a ``metadata.txt``."""
        return self._put(*builders.folder(files))

    def _put(self, root: CID, blocks: Blocks) -> str:
        self._store.put_blocks((CID(1, RAW, multihash), data) for multihash, data in blocks.items())
        return str(root)


def blocks_in(folder: Path) -> Iterator[tuple[CID, bytes]]:
    """Yields the blocks of a store or cache in a folder."""
    for path in (folder / "blocks").rglob("*"):
        # A fetch that is no longer awaited may still be writing a temporary file.
        if path.is_file() and not path.name.startswith(".tmp-"):
            yield CID.parse(path.name), path.read_bytes()


def members(count: int, prefix: str = "m") -> dict[str, bytes]:
    """Returns small, different members by name."""
    return {f"{prefix}{number:03}.txt": f"{prefix} {number}".encode() for number in range(count)}
