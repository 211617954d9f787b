"""Maintenance of a cache on disk: inspect it, empty it, and verify every block of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import AddressError, LimitError, VerificationError
from ipfs_dataset_core.ipld import CID, verify
from ipfs_dataset_core.sources.disk_cache import INDEX_NAMES
from ipfs_dataset_core.toolkit.block_files import BlockFiles
from ipfs_dataset_core.toolkit.data_folders import BLOCKS, INDEXES, CacheFolder
from ipfs_dataset_core.toolkit.shared_folder import Shelves

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.define
class CacheUse:
    """What a cache holds, or held.

    Attributes:
        folder: Where it is.
        blocks: How many blocks.
        block_bytes: Their bytes.
        indexes: How many indexes of archives.
        index_bytes: Their bytes.
    """

    folder: str
    blocks: int = 0
    block_bytes: int = 0
    indexes: int = 0
    index_bytes: int = 0


@attrs.define
class CacheCheck:
    """What a check of a cache found.

    Attributes:
        folder: Where it is.
        blocks: How many blocks are intact.
        bytes: Their bytes.
        damaged: The names of those that were not, and were removed.
    """

    folder: str
    blocks: int = 0
    bytes: int = 0
    damaged: list[str] = attrs.field(factory=list)


def inspect_cache(folder: str | os.PathLike[str]) -> CacheUse:
    """Returns what a cache holds.

    Raises:
        AddressError: There is no cache.
        CacheFolderError: The folder is something else.
    """
    _, files, indexes = _opened(folder)
    found = CacheUse(os.fspath(folder))
    for entry in files.entries():
        found.blocks += 1
        found.block_bytes += entry.size
    for entry in indexes.entries():
        found.indexes += 1
        found.index_bytes += entry.size
    return found


def clear_cache(folder: str | os.PathLike[str]) -> CacheUse:
    """Empties a cache and returns what it held; jobs that use it fetch again what they need.

    Files that are not the cache's own stay, as does the folder itself, with its mark.

    Raises:
        AddressError: There is no cache.
        CacheFolderError: The folder is something else.
    """
    cache, files, indexes = _opened(folder)
    found = inspect_cache(folder)
    with cache.open() as directory:
        cache.verify(directory)
    files.shelves.remove_all([entry.name for entry in files.entries()])
    indexes.remove_all([entry.name for entry in indexes.entries()])
    return found


def verify_cache(
    folder: str | os.PathLike[str], *, progress: Callable[[int], object] | None = None
) -> CacheCheck:
    """Hashes every block of a cache, and removes those that are not what their names promise.

    Args:
        folder: Where it is.
        progress: Called with the bytes of each block.

    Raises:
        AddressError: There is no cache.
        CacheFolderError: The folder is something else.
    """
    _, files, _ = _opened(folder)
    found = CacheCheck(os.fspath(folder))
    for entry in files.entries():
        cid = CID.parse(entry.name)
        try:
            block = files.read(cid)
            if block is None:
                continue
            verify(cid, block)
        except (VerificationError, LimitError, OSError):
            files.remove(cid)
            found.damaged.append(entry.name)
        else:
            found.blocks += 1
            found.bytes += len(block)
        if progress is not None:
            progress(entry.size)
    return found


def _opened(folder: str | os.PathLike[str]) -> tuple[CacheFolder, BlockFiles, Shelves]:
    path = Path(folder)
    cache = CacheFolder(path)
    try:
        with cache.open():
            pass
    except FileNotFoundError as error:
        raise AddressError(
            f"There is no cache at {str(path)!r}: it is the folder that cache_dir= of a dataset names"
        ) from error
    files = BlockFiles(path / BLOCKS, durable=False, parent=cache)
    return cache, files, Shelves(cache, INDEXES, INDEX_NAMES, durable=False)
