"""Resolution of paths, through verified directories, to files, directories and symlinks."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import (
    CID,
    AddressError,
    FormatError,
    IPFSDatasetError,
    ObjectDirectory,
    ObjectFile,
    ObjectNotFoundError,
    open_object,
)
from ipfs_dataset_core.ipld import lookup, node_kind
from ipfs_dataset_fsspec.errors import IsDirectoryError
from ipfs_dataset_fsspec.listings import Listings
from ipfs_dataset_fsspec.paths import join, of_name, split_name, url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core import Connections
    from ipfs_dataset_fsspec.listings import Child


@attrs.frozen
class Symlink:
    """A symlink, which is listed but never followed."""

    cid: CID


_NEVER = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Errors for paths that do not exist, which are never raised because a source failed.
NOT_FOUND_ERRORS = (AddressError, FormatError, FileNotFoundError)

Node = ObjectFile | ObjectDirectory | Symlink


class Tree:
    """Resolves and lists paths.

    Args:
        connections: The sources.
        name_seconds: The number of seconds after which a mutable name is resolved again; None for never.
        keep_listings: Whether listings are cached.
    """

    def __init__(
        self, connections: Connections, name_seconds: float | None, *, keep_listings: bool
    ) -> None:
        self.connections = connections
        self._name_seconds = name_seconds
        # The CID of each mutable name; when it was resolved, and when it was first resolved to this CID.
        self._names: dict[str, tuple[str, float]] = {}
        self._changed: dict[str, tuple[str, datetime]] = {}
        self._listings = Listings(connections, keep=keep_listings)

    def node(self, path: str) -> Node:
        """Returns the file, directory or symlink at a path.

        Raises:
            AddressError: The path does not begin with a CID or mutable name, or cannot be resolved.
            ObjectNotFoundError: Verified blocks prove that it does not exist.
            FormatError: It goes through a symlink, or is not a UnixFS node.
            TransportError: The sources failed.
        """
        try:
            return open_object(url(self.pinned(path)), self.connections)
        except FormatError as error:
            return self._symlink(path, error)

    def file(self, path: str) -> ObjectFile:
        """Returns the file at a path; raises like `node` and `as_file`."""
        return as_file(path, self.node(path))

    def children(self, directory: ObjectDirectory) -> list[Child]:
        """Returns the entries of a directory, in order."""
        return self._listings.children(directory)

    def exists(self, path: str) -> bool:
        """Returns whether a path exists, without fetching the blocks of a file."""
        try:
            pinned = self.pinned(path)
            root, _, rest = pinned.partition("/")
            if not rest or split_name(pinned)[0] is not None:
                self.node(pinned)
                return True
            found = open_object(url(root), self.connections)
        except NOT_FOUND_ERRORS:
            return False
        return isinstance(found, ObjectDirectory) and found.contains(rest)

    def prefetch(self, paths: Iterable[str]) -> None:
        """Starts fetching files that will be opened soon. Errors are ignored: opening raises them again."""
        below: dict[str, list[str]] = {}
        for path in paths:
            with suppress(IPFSDatasetError):
                root, _, rest = self.pinned(path).partition("/")
                below.setdefault(root, []).append(rest)
        fetcher = self.connections.fetcher()
        for root in below:
            with suppress(IPFSDatasetError):
                fetcher.prefetch_blocks([CID.parse(root)])
        for root, files in below.items():
            with suppress(IPFSDatasetError):
                found = open_object(url(root), self.connections) if any(files) else None
                if isinstance(found, ObjectDirectory):
                    found.prefetch([file for file in files if file])

    def pinned(self, path: str) -> str:
        """Returns the path with its mutable name, if any, replaced by the CID of the name."""
        name, rest = split_name(path)
        if name is None:
            return path
        cid, since = self._names.get(name, ("", 0.0))
        if not cid or not self._is_fresh(since):
            found = open_object(url(of_name(name)), self.connections)
            if found.cid is None:
                return path
            cid = str(found.cid)
            self._names[name] = cid, time.monotonic()
            if self._changed.get(name, ("", None))[0] != cid:
                self._changed[name] = cid, datetime.now(timezone.utc)
        return join(cid, rest)

    def changed_at(self, path: str) -> datetime:
        """Returns when the name in a path was first resolved to its current CID; 1970 if there is no name."""
        name, _ = split_name(path)
        if name is None:
            return _NEVER
        self.pinned(path)
        # Without verification, the CID is unknown, and the name may have changed just now.
        return self._changed.get(name, ("", datetime.now(timezone.utc)))[1]

    def forget_names(self) -> None:
        """Makes the next use of each mutable name resolve it again."""
        self._names.clear()

    def _is_fresh(self, since: float) -> bool:
        return self._name_seconds is None or time.monotonic() - since < self._name_seconds

    def _symlink(self, path: str, error: FormatError) -> Symlink:
        """Returns the symlink at a path that could not be opened.

        Args:
            path: The path.
            error: The error of opening it.

        Raises:
            ObjectNotFoundError: The path continues below a file.
            FormatError: `error`, if there is no symlink.
        """
        name, pinned = split_name(self.pinned(path))
        if name is not None:
            raise error
        load = self.connections.fetcher().block
        root, *names = pinned.split("/")
        cid = CID.parse(root)
        for name in names:
            kind = node_kind(cid, load(cid))
            if kind == "file":
                raise ObjectNotFoundError(
                    f"{path!r} does not exist: {name!r} would be below a file"
                )
            entry = lookup(cid, name, load) if kind != "symlink" else None
            if entry is None:
                raise error
            cid = entry.cid
        if node_kind(cid, load(cid)) != "symlink":
            raise error
        return Symlink(cid)


def as_file(path: str, found: Node) -> ObjectFile:
    """Returns the node at a path as a file.

    Raises:
        IsDirectoryError: It is a directory.
        FormatError: It is a symlink.
    """
    if isinstance(found, ObjectDirectory):
        raise IsDirectoryError(
            f"{path!r} is a directory, not a file: list it, or add the name of a file to the path"
        )
    if isinstance(found, Symlink):
        raise FormatError(f"{path!r} ({found.cid}) is a symlink, and symlinks are never followed")
    return found
