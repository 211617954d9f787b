"""The two kinds of folders in which this library keeps blocks, and how they are recognized and kept apart.

An embedded store keeps blocks until somebody removes them, with pins that name the roots of whole DAGs.

A cache deletes data that has not been used for long. It therefore only uses a folder of its own, marked by
the file ``CACHEDIR.TAG`` (https://bford.info/cachedir/, which also makes backup programs skip it) with a
second line of this library. The marker is written to a new or empty folder before anything else. A folder
that is neither empty nor marked is rejected, whatever it looks like, because the blocks of an earlier cache
cannot be distinguished from those of an embedded store whose dataset is still being published. The repository
of a Kubo node is neither, and both are rejected in it.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import threading
import time
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import (
    AddressError,
    CacheFolderError,
    FormatError,
    LimitError,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.ipld import CID, RAW, links, verify
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.runtime.human import human_size
from ipfs_dataset_core.runtime.pool import call_at_once
from ipfs_dataset_core.toolkit.block_files import BlockFiles, block_name
from ipfs_dataset_core.toolkit.shared_folder import (
    TEMPORARY,
    Directory,
    NotDirectoryError,
    NotRegularError,
    PlainFolder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MARK = "CACHEDIR.TAG"
_MARK_LINES = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"  # from the specification
    b"# ipfs-dataset cache 1\n"
)
_MARK_TEXT = _MARK_LINES + (
    b"# Blocks and indexes that ipfs-dataset (cache_dir=) can fetch and make again. Files that were not\n"
    b"# used for long are deleted. Keep nothing of your own here. See https://bford.info/cachedir/\n"
)
_MARK_BYTES = 4096
# Entries at the root of a file system that was created for the cache.
_NOBODYS = frozenset({"lost+found"})
# Maximum number of temporary files that killed jobs may have left before the folder was marked.
_MOST_LEFT = 1000

BLOCKS, INDEXES, PINS = "blocks", "indexes", "pins"
_KUBO_FILE = "datastore_spec"
# Suffix of the names of pins of single blocks.
_DIRECT = ".block"
# Seconds that a write waits for a clean-up to end.
_CLEANING_SECONDS = 60.0
# Maximum length of a pin's name that is read.
_NAME_BYTES = 4096
# Blocks of one batch; two batches are stored at the same time.
_WRITTEN_AT_ONCE = 4

_BLOCK_BYTES = Limits().block_bytes

_A_CACHE = "a cache of ipfs-dataset"
_A_STORE = "an embedded store, which keeps what was published"
_A_REPOSITORY = "the repository of an IPFS node"

_REMEDY = (
    "A cache deletes data that was not used for long, so it needs a folder of its own: give "
    "cache_dir= a new or an empty one"
)


class CacheFolder:
    """The folder of a cache, checked whenever the directory at its path changes.

    Args:
        path: The path of the folder, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - links are rejected, not resolved
        self._admitted: tuple[int, int] | None = None

    def check(self) -> None:
        """Raises an error for a folder that is not a cache and must not become one.

        Raises:
            CacheFolderError: The folder is not empty but has no marker, is a link, or is in a cache, in an
                embedded store or in the repository of a node.
            OSError: The folder cannot be examined, or does not exist and cannot be created.
        """
        try:
            with self.open():
                pass
        except FileNotFoundError:
            _check_place(self.path)
            _check_creatable(self.path)

    def open(self, *, make: bool = False) -> Directory:
        """Opens the folder.

        Args:
            make: Whether to create and mark the folder if it is missing or empty.

        Raises:
            CacheFolderError: As for `check`.
            FileNotFoundError: There is no cache yet.
            OSError: It cannot be opened or created.
        """
        try:
            directory = self._open(make=make)
        except NotDirectoryError:
            if not self.path.is_symlink():
                raise
            raise CacheFolderError(
                f"The cache folder {str(self.path)!r} is a link, which others with write access "
                f"beside it could change: give cache_dir={os.path.realpath(self.path)!r}, where it "
                "leads now"
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
        """Checks again, before files are deleted, that the folder is marked and contains no store.

        Raises:
            CacheFolderError: It is not marked, or contains a store.
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
        # Another job may have marked the folder, and begun to fill it, since the check for the marker.
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
            raise CacheFolderError(
                f"The folder {str(self.path)!r} is {kind}, not a cache. {_REMEDY}"
            )

    def _refuse_links(self, directory: Directory) -> None:
        """Rejects a cache whose subfolders are links, while the error can still reach the user."""
        for name in (BLOCKS, INDEXES):
            status = directory.status(name)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                raise CacheFolderError(
                    f"{name!r} in the cache {str(self.path)!r} is a link or a file that somebody else must "
                    "have created: find out who, and remove it"
                )

    def _unmarked(self, found: str) -> CacheFolderError:
        return CacheFolderError(
            f"The folder {str(self.path)!r} is not a cache of ipfs-dataset: it has no {MARK} of "
            f"this library, and {found}. {_REMEDY}"
        )


class StoreFolder:
    """A folder of blocks that are kept until somebody removes them; created by the first write.

    Links in the path to the folder are followed once; links in the folder are never followed.

    Args:
        path: The folder.
        block_bytes: Maximum size of a block that is read.

    Attributes:
        blocks: Its blocks; to write blocks, use `write`.

    Raises:
        AddressError: It is a cache or the repository of a node, or is in one.
    """

    def __init__(self, path: Path, *, block_bytes: int = _BLOCK_BYTES) -> None:
        check_store_place(path)
        self._path = path
        self._folder = PlainFolder(path)
        self.blocks = BlockFiles(path / BLOCKS, block_bytes=block_bytes, parent=self._folder)
        # Closes the folder of pins, whose lock excludes `clean`; None before something is written.
        self._unlock: weakref.finalize[[], StoreFolder] | None = None
        self._lock = threading.Lock()

    def lacks(self, cid: CID, block: bytes) -> bool:
        """Returns whether a block is missing or damaged; a block that is intact will stay until `close`.

        Raises:
            AddressError: A cache was created here in the meantime.
            OSError: The folder cannot be created or locked.
        """
        self._begin()
        return not self.blocks.holds(cid, block)

    def write_all(
        self,
        blocks: Sequence[tuple[CID, bytes]],
        failure: Callable[[CID, OSError], Exception],
    ) -> None:
        """Stores blocks, several at once; they stay until `close`, and afterwards if they are pinned.

        Args:
            blocks: The blocks.
            failure: Returns the exception to raise if a block cannot be written.

        Raises:
            AddressError: A cache was created here in the meantime.
            Exception: As returned by `failure`.
        """
        if not blocks:
            return
        with ExitStack() as stack:
            try:
                self._begin()
                write = stack.enter_context(self.blocks.opened())
            except OSError as error:
                raise failure(blocks[0][0], error) from error

            def put(item: tuple[CID, bytes]) -> None:
                try:
                    write(*item)
                except OSError as error:
                    raise failure(item[0], error) from error

            # Each call waits for the disk, which serves all waiting calls in one turn.
            call_at_once(put, blocks, _WRITTEN_AT_ONCE, "ipfs-dataset-store")

    def pin(self, cid: CID, name: str = "") -> None:
        """Pins the root of a DAG whose blocks are all stored; they and the pin then survive a power failure.

        Args:
            cid: The root.
            name: The name of the pin; "" keeps the name of an existing pin.

        Raises:
            AddressError: A cache was created here in the meantime.
            OSError: It cannot be written.
        """
        self._begin()
        self.blocks.sync()
        with self._folder.open() as folder, folder.enter(PINS) as pins:
            if name:
                pins.write(str(cid), name.encode())
            else:
                pins.touch(str(cid))
            pins.sync()
            folder.sync()

    def pin_blocks(self, cids: Iterable[CID]) -> None:
        """Pins single stored blocks without the blocks to which they link; see `pin`."""
        self._begin()
        self.blocks.sync()
        with self._folder.open() as folder, folder.enter(PINS) as pins:
            for cid in cids:
                pins.touch(f"{cid}{_DIRECT}")
            pins.sync()
            folder.sync()

    def pinned_blocks(self) -> Iterator[CID]:
        """Yields the blocks pinned by `pin_blocks`."""
        with suppress(FileNotFoundError), self._folder.open() as folder, folder.enter(PINS) as pins:
            for entry in pins.scan():
                if entry.name.endswith(_DIRECT):
                    with suppress(AddressError):
                        yield CID.parse(entry.name.removesuffix(_DIRECT))

    def unpin_blocks(self, cids: Iterable[CID]) -> None:
        """Removes pins made by `pin_blocks`.

        Raises:
            OSError: A pin cannot be removed.
        """
        with suppress(FileNotFoundError), self._folder.open() as folder, folder.enter(PINS) as pins:
            for cid in cids:
                with suppress(FileNotFoundError):
                    pins.unlink(f"{cid}{_DIRECT}")
            pins.sync()

    def pins(self) -> dict[CID, str]:
        """Returns the names of all pins of whole DAGs by CID; empty for a folder that is not a store.

        Raises:
            OSError: The pins cannot be read.
        """
        found: dict[CID, str] = {}
        with suppress(FileNotFoundError), self._folder.open() as folder, folder.enter(PINS) as pins:
            for entry in pins.scan():
                with suppress(AddressError, FileNotFoundError, LimitError):
                    name = pins.read(entry.name, _NAME_BYTES)
                    found[CID.parse(entry.name)] = (name or b"").decode("utf-8", "replace")
        return found

    def unpin(self, cid: CID) -> bool:
        """Removes the pins of a CID, whatever its version; returns whether there were any.

        Raises:
            OSError: A pin cannot be removed.
        """
        same = [pinned for pinned in self.pins() if pinned.to_v1() == cid.to_v1()]
        if same:
            with self._folder.open() as folder, folder.enter(PINS) as pins:
                for pinned in same:
                    pins.unlink(str(pinned))
                pins.sync()
        return bool(same)

    def close(self) -> None:
        """Ends the protection of written blocks: from now on, `clean` removes those that no pin needs."""
        with self._lock:
            unlock, self._unlock = self._unlock, None
        if unlock is not None:
            unlock()

    def clean(self, *, dry_run: bool = False) -> CleanedStore:
        """Removes the blocks that no pin needs, and temporary files; see `clean_store`.

        Raises:
            OSError: The folder cannot be locked or read, or a block cannot be removed; others were removed.
        """
        with self._folder.open() as folder, folder.enter(PINS) as pins:
            if not pins.lock(shared=False):
                raise _in_use(self._path, pins.lock(shared=True))
            kept = {block_name(cid) for cid in self._needed()}
            stale = math.inf if dry_run else 0.0
            unneeded = [entry for entry in self.blocks.entries(stale) if entry.name not in kept]
            if not dry_run:
                failure = self.blocks.shelves.remove_all(entry.name for entry in unneeded)
                if failure is not None:
                    raise failure
                for directory in (folder, pins):
                    directory.clear_abandoned(0.0)
        return CleanedStore(
            removed_blocks=len(unneeded),
            removed_bytes=sum(entry.size for entry in unneeded),
            needed_blocks=len(kept),
        )

    def _needed(self) -> Iterator[CID]:
        """Yields the CID of each block under a pin, once.

        Raises:
            FormatError: A block that links to others is missing or damaged, so these are unknown.
        """
        yield from self.pinned_blocks()
        for root in self.pins():
            yield from self._needed_under(root)

    def _needed_under(self, root: CID) -> Iterator[CID]:
        waiting, seen = [root], {root.multihash}
        while waiting:
            cid = waiting.pop()
            if cid.is_identity:
                continue
            yield cid
            if cid.codec == RAW:
                continue
            try:
                found = links(cid, self._inner_block(cid))
            except (VerificationError, FormatError, LimitError, OSError) as error:
                raise FormatError(
                    f"{str(self._path)!r}: the blocks that the pin {root} needs are unknown "
                    f"({error}), so nothing was removed: publish that dataset again, or remove its "
                    "pin"
                ) from error
            for link in found:
                if link.multihash not in seen:
                    seen.add(link.multihash)
                    waiting.append(link)

    def _begin(self) -> None:
        """Creates and locks the folder of pins, by which caches recognize a store, before anything else."""
        if self._unlock is not None:
            return
        with self._lock:
            if self._unlock is None:
                # Users sometimes do not close stores.
                self._unlock = weakref.finalize(self, self._locked().__exit__)

    def _locked(self) -> Directory:
        check_store_place(self._path)
        with self._folder.open(make=True) as folder:
            pins = folder.enter(PINS, make=True)
        try:
            self._wait_for_lock(pins)
        except BaseException:
            pins.__exit__()
            raise
        return pins

    def _wait_for_lock(self, pins: Directory) -> None:
        end = time.monotonic() + _CLEANING_SECONDS
        while pins.lock(shared=True) is False:
            if time.monotonic() > end:
                raise TimeoutError(
                    errno.ETIMEDOUT, "it is being cleaned up: try again later", str(self._path)
                )
            time.sleep(0.05)

    def _inner_block(self, cid: CID) -> bytes:
        """Returns a block that links to others; raises `VerificationError` if it is missing or damaged."""
        block = self.blocks.read(cid)
        if block is None:
            raise VerificationError(f"block {cid} is missing")
        verify(cid, block)
        return block


@attrs.frozen(kw_only=True)
class CleanedStore:
    """The result of cleaning up an embedded store.

    Attributes:
        removed_blocks: Number of blocks that no pin needed.
        removed_bytes: Total size of these blocks.
        needed_blocks: Number of blocks that the pins need.
    """

    removed_blocks: int
    removed_bytes: int
    needed_blocks: int

    def __str__(self) -> str:
        return f"{self.removed_blocks} blocks, {human_size(self.removed_bytes)}"


def _in_use(path: Path, locks: bool | None) -> TransportError:  # noqa: FBT001 - as Directory.lock returns it
    if locks is None:
        return TransportError(
            f"{str(path)!r} cannot be cleaned up, because its file system has no locks, so it is unknown "
            "whether something is being published to it: copy it to a local disk to clean it up"
        )
    return TransportError(
        f"{str(path)!r} is being published to by another process, so nothing was removed: try again when "
        "that has ended",
        retryable=True,
    )


def check_store_place(path: Path) -> None:
    """Rejects an embedded store in a cache, which would delete its blocks, or in a node's repository.

    Raises:
        AddressError: The path is one of these, or is in one.
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
            raise AddressError(f"{str(path)!r} {where} {kind}, not a place for a store: {advice}")


def check_apart(cache: Path, store: Path) -> None:
    """Rejects a cache and a store if one is, or is in, the other, whether or not they exist.

    Raises:
        CacheFolderError: One is, or is in, the other.
    """
    one, other = (Path(os.path.realpath(path)) for path in (cache, store))
    if one == other or one in other.parents or other in one.parents:
        raise CacheFolderError(
            f"cache_dir={str(cache)!r} and the store {str(store)!r} are the same place, or one lies in the "
            f"other. {_REMEDY}"
        )


def _check_place(path: Path) -> None:
    """Rejects a place in another cache, in a store or in a repository."""
    for place in Path(os.path.realpath(path)).parents:
        kind = _kind(place)
        if kind:
            raise CacheFolderError(
                f"The folder {str(path)!r} lies in {str(place)!r}, which is {kind}. {_REMEDY}"
            )


def _check_creatable(path: Path) -> None:
    """Raises the error with which making a folder would fail, without making it."""
    place = next(parent for parent in path.parents if parent.exists())
    if not place.is_dir():
        raise NotDirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        number = errno.EACCES
        if hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY:
            number = errno.EROFS
        raise OSError(number, os.strerror(number), str(path))


def _kind(place: Path) -> str:
    """Returns the kind of a folder; "" if it is none of the kinds or cannot be examined."""
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
    """Returns the name of an entry that prevents making a cache here; None if there is none."""
    for number, entry in enumerate(directory.scan(), 1):
        if not _is_nobodys(entry) or number > _MOST_LEFT:
            return entry.name
    return None


def _is_nobodys(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is allowed in a new cache, such as those of a job that is just marking it."""
    if entry.name in _NOBODYS:
        return entry.is_dir(follow_symlinks=False)
    return bool(TEMPORARY.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
