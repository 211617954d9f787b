"""Maintenance of a cache on disk: inspects it, empties it, and verifies every block in it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import AddressError, CacheFolderError, VerificationError
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.ipld.cid import hasher
from ipfs_dataset_core.sources.disk_cache import INDEX_NAMES
from ipfs_dataset_core.toolkit.block_files import BlockFiles, is_block_name
from ipfs_dataset_core.toolkit.data_folders import BLOCKS, INDEXES, CacheFolder
from ipfs_dataset_core.toolkit.shared_folder import Shelves

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

# Files of any size are hashed in pieces of this size.
_PIECE_BYTES = 1 << 20


@attrs.define
class CacheUse:
    """The contents of a cache.

    Attributes:
        folder: The folder of the cache.
        blocks: Number of blocks.
        block_bytes: Total size of the blocks.
        indexes: Number of archive indexes.
        index_bytes: Total size of the indexes.
    """

    folder: str
    blocks: int = 0
    block_bytes: int = 0
    indexes: int = 0
    index_bytes: int = 0


@attrs.define
class CacheCheck:
    """The result of checking a cache.

    Attributes:
        folder: The folder of the cache.
        blocks: Number of intact blocks.
        bytes: Total size of the intact blocks.
        damaged: Names of damaged blocks, which were removed.
        unreadable: Names of files that cannot be read, or are damaged and cannot be removed, with the reason.
            They are left as they are.
    """

    folder: str
    blocks: int = 0
    bytes: int = 0
    damaged: list[str] = attrs.field(factory=list)
    unreadable: dict[str, str] = attrs.field(factory=dict)


def inspect_cache(folder: str | os.PathLike[str]) -> CacheUse:
    """Returns the contents of a cache.

    Raises:
        AddressError: There is no cache, or it cannot be read.
        CacheFolderError: The folder is not a cache.
    """
    with _opened(folder) as cache:
        return _inspected(cache)


def _inspected(cache: _Cache) -> CacheUse:
    found = CacheUse(str(cache.folder.path))
    for entry in cache.files.entries():
        found.blocks += 1
        found.block_bytes += entry.size
    for entry in cache.indexes.entries():
        found.indexes += 1
        found.index_bytes += entry.size
    return found


def clear_cache(folder: str | os.PathLike[str]) -> CacheUse:
    """Empties a cache and returns its former contents; jobs that use it fetch again what they need.

    Files that do not belong to the cache stay, as does the folder itself, with its marker file.

    Raises:
        AddressError: There is no cache, it cannot be read, or a file cannot be removed.
        CacheFolderError: The folder is not a cache.
    """
    with _opened(folder) as cache:
        found = _inspected(cache)
        cache.check()
        for shelves in (cache.files.shelves, cache.indexes):
            failure = shelves.remove_all([entry.name for entry in shelves.entries()])
            if failure is not None:
                raise failure
        return found


def verify_cache(
    folder: str | os.PathLike[str], *, progress: Callable[[int], object] | None = None
) -> CacheCheck:
    """Hashes every block of a cache, and removes those that do not match their names.

    Blocks may have any size, regardless of the limits of the datasets that fetched them.

    Args:
        folder: The folder of the cache.
        progress: Called with the size of each block in bytes.

    Raises:
        AddressError: There is no cache, or it cannot be read.
        CacheFolderError: The folder is not a cache.
    """
    with _opened(folder) as cache:
        found = CacheCheck(str(cache.folder.path))
        for entry in cache.files.entries():
            if is_block_name(entry.name):
                _verify_file(cache, entry.name, found)
            if progress is not None:
                progress(entry.size)
        return found


def _verify_file(cache: _Cache, name: str, found: CacheCheck) -> None:
    cid = CID.parse(name)
    try:
        size = _verified_size(cache.files, cid)
    except FileNotFoundError:  # evicted by another job
        return
    except VerificationError:
        try:
            cache.check()
            cache.files.remove(cid)
        except OSError as error:
            found.unreadable[name] = f"it is damaged and cannot be removed ({error})"
        else:
            found.damaged.append(name)
    except OSError as error:
        found.unreadable[name] = f"it cannot be read ({error})"
    else:
        found.blocks += 1
        found.bytes += size


def _verified_size(files: BlockFiles, cid: CID) -> int:
    """Hashes a block in pieces; returns its size, or raises like `verify`."""
    state, size = hasher(cid), 0
    with files.open(cid) as file:
        while piece := file.read(_PIECE_BYTES):
            state.update(piece)
            size += len(piece)
    if state.digest() != cid.digest:
        raise VerificationError(f"{size} bytes in the cache are not block {cid}")
    return size


@attrs.frozen
class _Cache:
    """An existing cache, with its two kinds of files."""

    folder: CacheFolder
    files: BlockFiles
    indexes: Shelves

    def check(self) -> None:
        """Checks again, before files are deleted, that the folder is a cache."""
        with self.folder.open() as directory:
            self.folder.verify(directory)


@contextmanager
def _opened(folder: str | os.PathLike[str]) -> Iterator[_Cache]:
    path = Path(folder)
    cache = CacheFolder(path)
    try:
        with cache.open():
            pass
        files = BlockFiles(path / BLOCKS, durable=False, parent=cache)
        yield _Cache(cache, files, Shelves(cache, INDEXES, INDEX_NAMES, durable=False))
    except NotADirectoryError as error:
        raise CacheFolderError(f"The cache {str(path)!r} is not a folder: {error}") from error
    except FileNotFoundError as error:
        raise AddressError(
            f"There is no cache at {str(path)!r}: give the folder that datasets use as cache_dir="
        ) from error
    except OSError as error:
        raise AddressError(
            f"The cache {str(path)!r} cannot be used: {error}. Give this user access to it, or name another "
            "folder"
        ) from error
