"""Copies to local files: whole or not at all, and the next files fetched meanwhile."""

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
    """Opens a file for writing that takes the place of `path` at the end, and only where nothing failed."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    # A short name of its own: one made of the given name could be too long.
    unfinished = path.with_name(f".ipfs-dataset-{secrets.token_hex(6)}")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def copy(source: ObjectFile, target: IO[bytes], callback: Any) -> None:
    """Copies a file, and tells an fsspec callback of every piece."""
    callback.set_size(source.size)
    while piece := source.read(_PIECE_BYTES):
        target.write(piece)
        callback.relative_update(len(piece))


class Ahead:
    """An fsspec callback that goes on to another one, and fetches the next files while one is copied.

    Args:
        callback: The user's.
        prefetch: Told the paths that will be copied soon.
        count: How many of them are fetched at a time.
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
        """Passes pairs of a local and a remote path on."""
        return self._callback.wrap(self._ahead(iter(pairs)))

    def _ahead(self, pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        following = self._started(pairs)
        while window := following:
            following = self._started(pairs)
            yield from window

    def _started(self, pairs: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
        window = list(islice(pairs, self._count))
        self._prefetch([remote for _, remote in window])
        return window
