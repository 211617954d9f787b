"""Many files and ranges at once: what is wanted next is on its way while what has come is handed out."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import IPFSDatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core import ObjectFile, Span
    from ipfs_dataset_fsspec.tree import Tree

_PIECE_BYTES = 1 << 20


@attrs.frozen
class Wanted:
    """Bytes of a file, `start` and `end` as in a slice."""

    path: str
    start: int | None = None
    end: int | None = None

    def span(self, size: int) -> Span:
        """Returns where these bytes lie in a file of a size."""
        start, stop, _ = slice(self.start, self.end).indices(size)
        return start, max(start, stop)


def files_ahead(memory: int) -> int:
    """Returns how many small files, or pieces of large ones, may be fetched before they are read.

    Two lots are under way at a time, and together they must not fill more than half of the cache.
    """
    return max(1, memory // 4 // _PIECE_BYTES)


def windows(items: Iterable[Wanted], files: int) -> Iterator[list[Wanted]]:
    """Yields the items in runs that name up to so many different files."""
    window: list[Wanted] = []
    paths: set[str] = set()
    for item in items:
        if item.path not in paths and len(paths) == files:
            yield window
            window, paths = [], set()
        window.append(item)
        paths.add(item.path)
    if window:
        yield window


def contents(tree: Tree, items: Iterable[Wanted], ahead: int) -> Iterator[bytes | IPFSDatasetError]:
    """Yields the bytes of each item in order, or the error that came instead.

    Args:
        tree: Finds the files.
        items: What is wanted.
        ahead: As of `files_ahead`.
    """
    pending = windows(items, ahead)
    window = next(pending, None)
    _start(tree, window)
    while window is not None:
        following = next(pending, None)
        _start(tree, following)
        yield from _Window(tree, window).contents(ahead)
        window = following


def _start(tree: Tree, window: Sequence[Wanted] | None) -> None:
    tree.prefetch(dict.fromkeys(item.path for item in window or ()))


class _Window:
    """Items of few files, opened together."""

    def __init__(self, tree: Tree, items: Sequence[Wanted]) -> None:
        self._items = items
        self._files: dict[str, ObjectFile | IPFSDatasetError] = {}
        for path in dict.fromkeys(item.path for item in items):
            try:
                self._files[path] = tree.file(path)
            except IPFSDatasetError as error:
                self._files[path] = error

    def contents(self, pieces: int) -> Iterator[bytes | IPFSDatasetError]:
        for batch in self._batches(pieces):
            self._prefetch(batch)
            for item in batch:
                yield self._read(item)

    def _batches(self, pieces: int) -> Iterator[list[Wanted]]:
        """Splits the items so that what is fetched for a batch is in the cache until it is read."""
        batch: list[Wanted] = []
        touched: set[tuple[str, int]] = set()
        for item in self._items:
            more = self._pieces(item, pieces)
            if batch and len(touched | more) > pieces:
                yield batch
                batch, touched = [], set()
            batch.append(item)
            touched |= more
        yield batch

    def _pieces(self, item: Wanted, most: int) -> set[tuple[str, int]]:
        """Returns the pieces of a file that an item touches, not more than matter."""
        file = self._files[item.path]
        if isinstance(file, IPFSDatasetError):
            return set()
        start, stop = item.span(file.size)
        numbers = range(start // _PIECE_BYTES, -(-stop // _PIECE_BYTES))
        return {(item.path, number) for number in numbers[:most]}

    def _prefetch(self, batch: Sequence[Wanted]) -> None:
        spans: dict[str, list[Span]] = {}
        for item in batch:
            file = self._files[item.path]
            if not isinstance(file, IPFSDatasetError):
                spans.setdefault(item.path, []).append(item.span(file.size))
        for path, wanted in spans.items():
            file = self._files[path]
            with suppress(IPFSDatasetError):  # said where it is read
                if not isinstance(file, IPFSDatasetError):
                    file.prefetch(wanted)

    def _read(self, item: Wanted) -> bytes | IPFSDatasetError:
        file = self._files[item.path]
        if isinstance(file, IPFSDatasetError):
            return file
        start, stop = item.span(file.size)
        try:
            return file.read_at(start, stop - start)
        except IPFSDatasetError as error:
            return error
