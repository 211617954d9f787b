"""The two kinds of folders in which this library keeps blocks, and how each is recognized and kept apart.

An embedded store keeps blocks until somebody removes them, and pins, which name the roots of whole DAGs.

A cache deletes what has not been used for long. So it works only in a folder of its own, which has its mark:
the file ``CACHEDIR.TAG`` (https://bford.info/cachedir/, which also makes backup programs leave it out) with a
second line of ours. The mark is written into a new or empty folder before anything else. A folder that has
something in it and no mark is refused, whatever it looks like: the blocks of an earlier cache cannot be told
from those of an embedded store whose dataset is still being published. The repository of a Kubo node is
neither, and both are refused in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import AddressError, CacheFolderError, LimitError
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.toolkit.block_files import BlockFiles
from ipfs_dataset_core.toolkit.shared_folder import (
    TEMPORARY,
    Directory,
    NotDirectoryError,
    NotRegularError,
    PlainFolder,
)

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import CID


MARK = "CACHEDIR.TAG"
_MARK_LINES = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"  # that of the specification
    b"# ipfs-dataset cache 1\n"
)
_MARK_TEXT = _MARK_LINES + (
    b"# Blocks and indexes that ipfs-dataset (cache_dir=) can fetch and make again. Files that were not\n"
    b"# used for long are deleted. Keep nothing of your own here. See https://bford.info/cachedir/\n"
)
_MARK_BYTES = 4096
# What stands at the root of a file system that was made for the cache.
_NOBODYS = frozenset({"lost+found"})
# How many temporary files killed jobs may have left before the first one could mark the folder.
_MOST_LEFT = 1000

BLOCKS, INDEXES, PINS = "blocks", "indexes", "pins"
_KUBO_FILE = "datastore_spec"

_BLOCK_BYTES = Limits().block_bytes

_A_CACHE = "a cache of ipfs-dataset"
_A_STORE = "an embedded store, which keeps what was published"
_A_REPOSITORY = "the repository of an IPFS node"

_REMEDY = (
    "A cache deletes what was not used for long, so it needs a folder of its own: give cache_dir= a new or "
    "an empty one"
)


class CacheFolder:
    """The folder of a cache, checked whenever another directory stands at its path.

    Args:
        path: Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - links are refused, not resolved
        self._admitted: tuple[int, int] | None = None

    def check(self) -> None:
        """Refuses a place that is no cache and must not become one.

        Raises:
            CacheFolderError: The folder is not empty and has no mark, is a link, or lies in a cache, in an
                embedded store or in the repository of a node.
            OSError: That cannot be found out.
        """
        try:
            with self.open():
                pass
        except FileNotFoundError:
            _check_place(self.path)

    def open(self, *, make: bool = False) -> Directory:
        """Opens the folder.

        Args:
            make: Whether it is made, and marked, where it is missing or empty.

        Raises:
            CacheFolderError: As from `check`.
            FileNotFoundError: There is no cache yet.
            OSError: It cannot be opened or made.
        """
        try:
            directory = self._open(make=make)
        except NotDirectoryError:
            if not self.path.is_symlink():
                raise
            raise CacheFolderError(
                f"The cache folder {str(self.path)!r} is a link, which whoever may write beside it could "
                f"change: give cache_dir={os.path.realpath(self.path)!r}, where it leads now"
            ) from None
        try:
            if directory.identity != self._admitted:
                self._admitted = None
                self._admit(directory, make=make)
                self._admitted = directory.identity
        except BaseException:
            directory.__exit__()
            raise
        return directory

    def verify(self, directory: Directory) -> None:
        """Checks again, before files are deleted, that the folder is marked and no store was made in it.

        Raises:
            CacheFolderError: It is not.
        """
        self._refuse_stores(directory)
        if not _is_marked(directory):
            raise self._unmarked("its mark is gone")

    def _open(self, *, make: bool) -> Directory:
        try:
            return Directory.open(self.path)
        except FileNotFoundError:
            if not make:
                raise
        _check_place(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        return Directory.open(self.path)

    def _admit(self, directory: Directory, *, make: bool) -> None:
        _check_place(self.path)
        self._refuse_stores(directory)
        if _is_marked(directory):
            self._refuse_links(directory)
            return
        found = _something_in(directory)
        # Another job may have marked the folder, and begun to fill it, since we looked for the mark.
        if _is_marked(directory):
            return
        if found is not None:
            raise self._unmarked(f"it holds {found!r}")
        if not make:
            raise FileNotFoundError(f"The folder {str(self.path)!r} is empty")
        directory.write(MARK, _MARK_TEXT)

    def _refuse_stores(self, directory: Directory) -> None:
        kind = _store_kind(directory)
        if kind:
            raise CacheFolderError(f"The folder {str(self.path)!r} is {kind}, no cache. {_REMEDY}")

    def _refuse_links(self, directory: Directory) -> None:
        """Refuses a cache whose folders lead elsewhere, while the error still reaches the user."""
        for name in (BLOCKS, INDEXES):
            status = directory.status(name)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                raise CacheFolderError(
                    f"{name!r} in the cache {str(self.path)!r} is a link or a file, which somebody else must "
                    "have put there: find out who, and remove it"
                )

    def _unmarked(self, found: str) -> CacheFolderError:
        return CacheFolderError(
            f"The folder {str(self.path)!r} is no cache of ipfs-dataset: it has no file {MARK} of ours, and "
            f"{found}. {_REMEDY}"
        )


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


def check_store_place(path: Path) -> None:
    """Refuses an embedded store in a cache, which would delete its blocks, or in a node's repository.

    Raises:
        AddressError: The path is, or lies in, one of these.
    """
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents):
        kind = _kind(place)
        if kind in (_A_CACHE, _A_REPOSITORY):
            where = "is" if place == real else f"lies in {str(place)!r}, which is"
            advice = (
                "start the node and give the address of its API"
                if kind == _A_REPOSITORY
                else "name another folder for the store"
            )
            raise AddressError(f"{str(path)!r} {where} {kind}, no place for a store: {advice}")


def check_apart(cache: Path, store: Path) -> None:
    """Refuses a cache and a store of which one is, or lies in, the other, whether they exist or not.

    Raises:
        CacheFolderError: That is so.
    """
    one, other = (Path(os.path.realpath(path)) for path in (cache, store))
    if one == other or one in other.parents or other in one.parents:
        raise CacheFolderError(
            f"cache_dir={str(cache)!r} and the store {str(store)!r} are the same place, or one lies in the "
            f"other. {_REMEDY}"
        )


def _check_place(path: Path) -> None:
    """Refuses what lies in another cache, in a store or in a repository."""
    for place in Path(os.path.realpath(path)).parents:
        kind = _kind(place)
        if kind:
            raise CacheFolderError(
                f"The folder {str(path)!r} lies in {str(place)!r}, which is {kind}. {_REMEDY}"
            )


def _kind(place: Path) -> str:
    """Returns what a folder is, "" where it is nothing of the kind or cannot be looked into."""
    try:
        with Directory.open(place) as directory:
            return _store_kind(directory) or (_A_CACHE if _is_marked(directory) else "")
    except OSError:
        return ""


def _store_kind(directory: Directory) -> str:
    if not _is_directory(directory, BLOCKS):
        return ""
    if directory.status(_KUBO_FILE) is not None:
        return _A_REPOSITORY
    return _A_STORE if _is_directory(directory, PINS) else ""


def _is_directory(directory: Directory, name: str) -> bool:
    status = directory.status(name)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _is_marked(directory: Directory) -> bool:
    try:
        text = directory.read(MARK, _MARK_BYTES)
    except (NotRegularError, LimitError):
        return False
    return text is not None and text.startswith(_MARK_LINES)


def _something_in(directory: Directory) -> str | None:
    """Returns the name of something that stands against making a cache here, None where nothing does."""
    for number, entry in enumerate(directory.scan(), 1):
        if not _is_nobodys(entry) or number > _MOST_LEFT:
            return entry.name
    return None


def _is_nobodys(entry: os.DirEntry[str]) -> bool:
    """Tells whether an entry may stand in a new cache: what a job leaves that is just marking it."""
    if entry.name in _NOBODYS:
        return entry.is_dir(follow_symlinks=False)
    return bool(TEMPORARY.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
