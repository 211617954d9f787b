"""Directories with the kinds and sizes of what is in them, remembered by CID."""

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

_WINDOW = 64
_KEPT_ENTRIES = 200_000


@attrs.frozen
class Child:
    """One entry of a directory.

    Attributes:
        size: Bytes of a file, 0 for a directory or symlink, None where there is nothing to count.
    """

    name: str
    cid: str
    kind: Kind
    size: int | None


class Listings:
    """Lists directories, each once as long as it is remembered.

    Args:
        connections: Where to read.
        keep: Whether to remember.
    """

    def __init__(self, connections: Connections, *, keep: bool) -> None:
        self._connections = connections
        self._room = _KEPT_ENTRIES if keep else 0
        self._kept: dict[CID, list[Child]] = {}

    def children(self, directory: ObjectDirectory) -> list[Child]:
        """Returns a directory's entries, sorted by the bytes of their names.

        Files of one raw block have the size that the directory says; that of all others is in their first
        block, which is fetched and verified.
        """
        cid = directory.cid
        if cid is None:
            directory.names()  # says that it cannot be listed, and why
            return []
        found = self._kept.pop(cid, None)
        if found is None:
            found = list(self._described(directory))
        self._keep(cid, found)
        return found

    def _keep(self, cid: CID, found: list[Child]) -> None:
        if len(found) > self._room:
            return
        self._kept[cid] = found
        used = sum(map(len, tuple(self._kept.values())))
        for oldest in tuple(self._kept):
            if used <= self._room:
                return
            used -= len(self._kept.pop(oldest, ()))

    def _described(self, directory: ObjectDirectory) -> Iterator[Child]:
        fetcher, found = self._connections.fetcher(), list(directory.entries())
        for start in range(0, len(found), _WINDOW):
            # The blocks of this window and the next, so that there are always some on their way.
            soon = found[start : start + 2 * _WINDOW]
            fetcher.prefetch_blocks(entry.cid for entry in soon if not _tells_size(entry))
            for entry in found[start : start + _WINDOW]:
                yield self._child(entry)

    def _child(self, entry: DirectoryEntry) -> Child:
        cid = entry.cid
        if _tells_size(entry):
            return Child(entry.name, str(cid), "file", entry.tsize)
        block = self._connections.fetcher().block(cid)
        return Child(entry.name, str(cid), *_kind_and_size(cid, block))


def _tells_size(entry: DirectoryEntry) -> bool:
    """Tells whether an entry's size in storage is that of a file; some importers leave it out."""
    return entry.cid.codec == RAW and not entry.cid.is_identity and entry.tsize > 0


def _kind_and_size(cid: CID, block: bytes) -> tuple[Kind, int | None]:
    try:
        kind = node_kind(cid, block)
        if kind == "file":
            return "file", parse_file(cid, block).size
    except (FormatError, VerificationError):
        return "other", None  # what is wrong with it is said where it is opened
    return ("link" if kind == "symlink" else "directory"), 0
