"""Listings of directories with the kind and size of each entry, cached by CID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from ipfs_dataset_core import FormatError, VerificationError
from ipfs_dataset_core.ipld import RAW, node_kind, parse_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import CID, Connections, ObjectDirectory
    from ipfs_dataset_core.ipld import DirectoryEntry

Kind = Literal["file", "directory", "link", "other"]

_WINDOW = 64  # entries whose blocks are fetched together
_MAX_CACHED_ENTRIES = 200_000


@attrs.frozen
class Child:
    """An entry of a directory.

    Attributes:
        name: Its name.
        cid: Its CID.
        kind: Its kind; ``"other"`` if its block is not a valid UnixFS node.
        size: The size of a file in bytes, 0 for a directory or symlink, None for other entries.
    """

    name: str
    cid: str
    kind: Kind
    size: int | None


class Listings:
    """Lists directories, and caches up to 200,000 entries of those that were listed last.

    Args:
        connections: The sources.
        keep: Whether to cache listings.
    """

    def __init__(self, connections: Connections, *, keep: bool) -> None:
        self._connections = connections
        self._max_entries = _MAX_CACHED_ENTRIES if keep else 0
        self._cached: dict[CID, list[Child]] = {}  # those that were used last at the end

    def children(self, directory: ObjectDirectory) -> list[Child]:
        """Returns the entries of a directory, sorted by the bytes of their names.

        The size of a file of one raw block is that which the directory declares. The sizes of other files are
        in their first blocks, which are fetched and verified.
        """
        cid = directory.cid
        if cid is None:
            directory.names()  # raises the error that explains why it cannot be listed
            return []
        children = self._cached.pop(cid, None)
        if children is None:
            children = list(self._read(directory))
        self._keep(cid, children)
        return children

    def _keep(self, cid: CID, children: list[Child]) -> None:
        """Caches a listing, and removes those that were used the longest time ago."""
        if len(children) > self._max_entries:
            return
        self._cached[cid] = children
        used = sum(map(len, tuple(self._cached.values())))
        for oldest in tuple(self._cached):
            if used <= self._max_entries:
                return
            used -= len(self._cached.pop(oldest, ()))

    def _read(self, directory: ObjectDirectory) -> Iterator[Child]:
        fetcher, entries = self._connections.fetcher(), list(directory.entries())
        for start in range(0, len(entries), _WINDOW):
            # The blocks of the next window are fetched while those of this one are used.
            soon = entries[start : start + 2 * _WINDOW]
            fetcher.prefetch_blocks(entry.cid for entry in soon if not _declares_size(entry))
            for entry in entries[start : start + _WINDOW]:
                yield self._child(entry)

    def _child(self, entry: DirectoryEntry) -> Child:
        cid = entry.cid
        if _declares_size(entry):
            return Child(entry.name, str(cid), "file", entry.tsize)
        block = self._connections.fetcher().block(cid)
        return Child(entry.name, str(cid), *_kind_and_size(cid, block))


def _declares_size(entry: DirectoryEntry) -> bool:
    """Returns whether the size in a directory is that of the file; some importers leave it out."""
    return entry.cid.codec == RAW and not entry.cid.is_identity and entry.tsize > 0


def _kind_and_size(cid: CID, block: bytes) -> tuple[Kind, int | None]:
    try:
        kind = node_kind(cid, block)
        if kind == "file":
            return "file", parse_file(cid, block).size
    except (FormatError, VerificationError):
        return "other", None  # opening it raises the error
    return ("link" if kind == "symlink" else "directory"), 0
