"""Walking down directories, where fsspec's own way would pass over what a source failed to deliver."""

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

# fsspec makes a filesystem for each thread, so this is of the process.
_logged: set[tuple[str, str]] = set()
_MOST_LOGGED = 10_000


@attrs.define
class Walk:
    """One walk; other arguments are as of `IPFSDatasetFileSystem.walk`.

    Args:
        ls: Returns what is in the directory at its second argument, called as if it were at the first.
        limits: `directory_depth` and `members` count here.
    """

    ls: Callable[[str, str], list[dict[str, Any]]]
    limits: Limits
    topdown: bool
    on_error: Any
    detail: bool
    met: int = 0

    def below(self, path: str, at: str, left: int | None, depth: int = 0) -> Iterator[Level]:
        """Yields what is in a directory and, down to `left` levels, below.

        Args:
            path: What it is called.
            at: Where it is: its CID, where that is known, so that nothing above is walked again.
            left: How many levels there are to go, None for all.
            depth: How many there have been.
        """
        listing = self._listing(path, at, depth)
        if listing is None:
            return
        dirs = {_name(info): info for info in listing if info["type"] == "directory"}
        files = {_name(info, path): info for info in listing if info["type"] == "file"}
        level = (path, dirs, files) if self.detail else (path, list(dirs), list(files))
        if self.topdown:
            yield level
        if left is None or left > 1:
            # What is left of `level` after the caller had it is what shall be entered.
            deeper = None if left is None else left - 1
            wanted = level[1] if self.topdown else dirs
            for info in [dirs[name] for name in wanted if name in dirs]:
                yield from self.below(info["name"], info["CID"], deeper, depth + 1)
        if not self.topdown:
            yield level

    def _listing(self, path: str, at: str, depth: int) -> list[dict[str, Any]] | None:
        if depth > self.limits.directory_depth:
            raise LimitError(
                f"{path!r} is nested deeper than {self.limits.directory_depth} directories"
            )
        try:
            listing = self.ls(path, at)
        except OSError as error:
            if callable(self.on_error):
                self.on_error(error)
            elif self.on_error == "raise" or not isinstance(error, FileNotFoundError):
                raise
            return None
        self.met += len(listing)
        self.limits.check("members", self.met, f"the tree of {path!r}")
        for info in listing:
            if info["type"] not in ("file", "directory"):
                _log_once(info)
        return listing


def _log_once(info: dict[str, Any]) -> None:
    """Logs that an entry is left out of walks, once in this process."""
    entry = info["name"], info["CID"]
    if entry not in _logged and len(_logged) < _MOST_LOGGED:
        _logged.add(entry)
        log.warning("%r is a %s, left out", info["name"], info["type"])


def _name(info: dict[str, Any], path: str | None = None) -> str:
    """Returns the last part of a name; of a file that is walked itself, fsspec wants none."""
    name: str = info["name"]
    return "" if name == path else name.rpartition("/")[2]
