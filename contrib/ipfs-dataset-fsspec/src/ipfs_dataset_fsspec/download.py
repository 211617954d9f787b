"""Copies to local files, which are complete or do not exist; the next files are prefetched."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ipfs_dataset_core import ObjectFile

_PIECE_BYTES = 4 << 20


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a temporary file for writing, which replaces `path` at the end if no error was raised."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    # Not a name made from that of the file, which could then be too long.
    unfinished = path.with_name(f".ipfs-dataset-{secrets.token_hex(6)}")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def copy(source: ObjectFile, target: IO[bytes], callback: Any) -> None:
    """Copies a file in pieces of 4 MiB, and reports each to a callback of fsspec."""
    callback.set_size(source.size)
    while piece := source.read(_PIECE_BYTES):
        target.write(piece)
        callback.relative_update(len(piece))


class PrefetchingCallback:
    """Wraps a callback of fsspec: starts fetching the next files while one is copied.

    Args:
        callback: The callback of the user.
        prefetch: Starts fetching files.
        count: The number of files that are fetched at a time.
    """

    def __init__(
        self, callback: Any, prefetch: Callable[[Sequence[str]], None], count: int
    ) -> None:
        self._callback = callback
        self._prefetch = prefetch
        self._count = count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)

    def wrap(self, pairs: Iterable[tuple[str, str]]) -> Any:
        """Yields the pairs of a local and a remote path, after prefetching those that follow."""
        return self._callback.wrap(self._prefetched(iter(pairs)))

    def _prefetched(self, pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        next_window = self._next_window(pairs)
        while window := next_window:
            next_window = self._next_window(pairs)
            yield from window

    def _next_window(self, pairs: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
        window = list(islice(pairs, self._count))
        self._prefetch([remote for _, remote in window])
        return window
