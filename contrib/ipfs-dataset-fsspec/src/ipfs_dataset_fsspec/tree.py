"""What is at a path: a file, a directory or a symlink, resolved through verified directories."""

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

# What is raised where a path leads nowhere, and never because a source fails.
NOT_THERE = (AddressError, FormatError, FileNotFoundError)

Node = ObjectFile | ObjectDirectory | Symlink


class Tree:
    """Finds what paths name.

    Args:
        connections: Where to read.
        name_seconds: How long a mutable name is taken to point where it did; None for ever.
        keep_listings: Whether directories that were listed are remembered; what a CID names never changes.
    """

    def __init__(
        self, connections: Connections, name_seconds: float | None, *, keep_listings: bool
    ) -> None:
        self.connections = connections
        self._name_seconds = name_seconds
        self._names: dict[str, tuple[str, float]] = {}
        self._changed: dict[str, tuple[str, datetime]] = {}
        self._listings = Listings(connections, keep=keep_listings)

    def node(self, path: str) -> Node:
        """Returns what is at a path.

        Raises:
            AddressError: The path does not begin with a CID or name, or cannot be walked.
            ObjectNotFoundError: Verified blocks prove that nothing is there.
            FormatError: It leads through a symlink, or to what is no UnixFS node.
            TransportError: The sources did not deliver.
        """
        try:
            return open_object(url(self.pinned(path)), self.connections)
        except FormatError as error:
            return self._instead(path, error)

    def file(self, path: str) -> ObjectFile:
        """Returns the file at a path; raises like `node` and `as_file`."""
        return as_file(path, self.node(path))

    def children(self, directory: ObjectDirectory) -> list[Child]:
        """Returns what a directory has, in order."""
        return self._listings.children(directory)

    def exists(self, path: str) -> bool:
        """Tells whether there is anything at a path; the blocks of a file are not fetched for that."""
        try:
            pinned = self.pinned(path)
            root, _, rest = pinned.partition("/")
            if not rest or split_name(pinned)[0] is not None:
                self.node(pinned)
                return True
            found = open_object(url(root), self.connections)
        except NOT_THERE:
            return False
        return isinstance(found, ObjectDirectory) and found.contains(rest)

    def prefetch(self, paths: Iterable[str]) -> None:
        """Starts fetching files that will be opened soon; what cannot be found is said by who opens it."""
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
        """Returns the path with a mutable name in it replaced by the CID that it points to."""
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

    def changed(self, path: str) -> datetime:
        """Returns when a mutable name in a path was first seen to point where it does; 1970 without one."""
        name, _ = split_name(path)
        if name is None:
            return _NEVER
        self.pinned(path)
        # A name for which nothing is proven may have changed just now.
        return self._changed.get(name, ("", datetime.now(timezone.utc)))[1]

    def forget_names(self) -> None:
        """Makes every mutable name be looked up again."""
        self._names.clear()

    def _is_fresh(self, since: float) -> bool:
        return self._name_seconds is None or time.monotonic() - since < self._name_seconds

    def _instead(self, path: str, error: FormatError) -> Symlink:
        """Returns the symlink at a path at which there is neither a file nor a directory.

        Raises:
            ObjectNotFoundError: The path goes on below a file.
            FormatError: As given, in all other cases.
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
                    f"{path!r}: there is nothing called {name!r} below a file"
                )
            entry = lookup(cid, name, load) if kind != "symlink" else None
            if entry is None:
                raise error
            cid = entry.cid
        if node_kind(cid, load(cid)) != "symlink":
            raise error
        return Symlink(cid)


def as_file(path: str, found: Node) -> ObjectFile:
    """Returns what was found at a path, where it is a file.

    Raises:
        IsDirectoryError: It is a directory.
        FormatError: It is a symlink.
    """
    if isinstance(found, ObjectDirectory):
        raise IsDirectoryError(
            f"{path!r} is a directory, not a file: list it, or name a file in it"
        )
    if isinstance(found, Symlink):
        raise FormatError(f"{path!r} ({found.cid}) is a symlink, and symlinks are never followed")
    return found
