"""Walks of directory trees. The walk of fsspec would silently leave out what a source failed to deliver."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset_core import Limits

    Level = tuple[str, Any, Any]

log = logging.getLogger(__name__)

# For the whole process, because fsspec makes a filesystem for each thread.
_logged: set[tuple[str, str]] = set()
_MAX_LOGGED = 10_000


@attrs.define
class Walk:
    """A walk. The other arguments are those of `IPFSDatasetFileSystem.walk`.

    Args:
        ls: Lists the directory at its second argument, with names as if it were at the first.
        limits: Its `directory_depth` and `members` limit the walk.
        count: The number of entries so far.
    """

    ls: Callable[[str, str], list[dict[str, Any]]]
    limits: Limits
    topdown: bool
    on_error: Any
    detail: bool
    count: int = 0

    def below(
        self, path: str, pinned: str, levels_left: int | None, depth: int = 0
    ) -> Iterator[Level]:
        """Yields a directory and the directories below it.

        Args:
            path: The path of the directory.
            pinned: Its CID, with which it is opened without resolving the path again; or its path.
            levels_left: The number of levels to descend, including this one; None for all.
            depth: The number of levels above it.
        """
        listing = self._listing(path, pinned, depth)
        if listing is None:
            return
        dirs = {_name(info): info for info in listing if info["type"] == "directory"}
        files = {_name(info, path): info for info in listing if info["type"] == "file"}
        level = (path, dirs, files) if self.detail else (path, list(dirs), list(files))
        if self.topdown:
            yield level
        if levels_left is None or levels_left > 1:
            # If directories come first, the caller may have removed some that are not to be entered.
            remaining = level[1] if self.topdown else dirs
            fewer = None if levels_left is None else levels_left - 1
            for info in [dirs[name] for name in remaining if name in dirs]:
                yield from self.below(info["name"], info["CID"], fewer, depth + 1)
        if not self.topdown:
            yield level

    def _listing(self, path: str, pinned: str, depth: int) -> list[dict[str, Any]] | None:
        if depth > self.limits.directory_depth:
            raise LimitError(
                f"{path!r} is nested deeper than {self.limits.directory_depth} directories"
            )
        try:
            listing = self.ls(path, pinned)
        except OSError as error:
            if callable(self.on_error):
                self.on_error(error)
            elif self.on_error == "raise" or not isinstance(error, FileNotFoundError):
                raise
            return None
        self.count += len(listing)
        self.limits.check("members", self.count, f"the tree of {path!r}")
        for info in listing:
            if info["type"] not in ("file", "directory"):
                _log_once(info)
        return listing


def _log_once(info: dict[str, Any]) -> None:
    """Logs that an entry is left out of walks, once in each process."""
    entry = info["name"], info["CID"]
    if entry not in _logged and len(_logged) < _MAX_LOGGED:
        _logged.add(entry)
        log.warning("%r is a %s, left out", info["name"], info["type"])


def _name(info: dict[str, Any], path: str | None = None) -> str:
    """Returns the last part of a name; empty for the file that is the start of a walk, as fsspec expects."""
    name: str = info["name"]
    return "" if name == path else name.rpartition("/")[2]
