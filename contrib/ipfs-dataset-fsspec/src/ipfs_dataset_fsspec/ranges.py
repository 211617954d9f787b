"""Reading of many ranges of many files: the next ones are fetched while some are read."""

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
class FileRange:
    """A range of bytes of a file.

    Attributes:
        path: The path of the file.
        start: As in a slice: None for the start of the file, negative numbers count from the end.
        end: Likewise; exclusive.
    """

    path: str
    start: int | None = None
    end: int | None = None

    def span(self, size: int) -> Span:
        """Returns the positions of the bytes in a file of this size."""
        start, stop, _ = slice(self.start, self.end).indices(size)
        return start, max(start, stop)


def files_ahead(memory: int) -> int:
    """Returns the number of small files, or pieces of 1 MiB of large ones, to fetch before they are read.

    This number is fetched twice at a time, for the current window and the next one, which together must fit
    in half of the cache.

    Args:
        memory: The size of the memory cache in bytes.
    """
    return max(1, memory // 4 // _PIECE_BYTES)


def windows(ranges: Iterable[FileRange], files: int) -> Iterator[list[FileRange]]:
    """Divides ranges, in order, into windows of up to this number of different files."""
    window: list[FileRange] = []
    paths: set[str] = set()
    for wanted in ranges:
        if wanted.path not in paths and len(paths) == files:
            yield window
            window, paths = [], set()
        window.append(wanted)
        paths.add(wanted.path)
    if window:
        yield window


def read_ranges(
    tree: Tree, ranges: Iterable[FileRange], ahead: int
) -> Iterator[bytes | IPFSDatasetError]:
    """Yields, for each range in order, its bytes or the error.

    Args:
        tree: Opens the files.
        ranges: The ranges.
        ahead: The number of files or pieces to fetch ahead, from `files_ahead`.
    """
    remaining = windows(ranges, ahead)
    window = next(remaining, None)
    _prefetch_files(tree, window)
    while window is not None:
        next_window = next(remaining, None)
        _prefetch_files(tree, next_window)
        yield from _Window(tree, window).read(ahead)
        window = next_window


def _prefetch_files(tree: Tree, window: Sequence[FileRange] | None) -> None:
    tree.prefetch(dict.fromkeys(wanted.path for wanted in window or ()))


class _Window:
    """Ranges of a few files, which are opened together."""

    def __init__(self, tree: Tree, ranges: Sequence[FileRange]) -> None:
        self._ranges = ranges
        self._files: dict[str, ObjectFile | IPFSDatasetError] = {}
        for path in dict.fromkeys(wanted.path for wanted in ranges):
            try:
                self._files[path] = tree.file(path)
            except IPFSDatasetError as error:
                self._files[path] = error

    def read(self, max_pieces: int) -> Iterator[bytes | IPFSDatasetError]:
        """Yields the bytes of each range, or the error; up to `max_pieces` pieces are fetched at a time."""
        for batch in self._batches(max_pieces):
            self._prefetch(batch)
            for wanted in batch:
                yield self._read(wanted)

    def _batches(self, max_pieces: int) -> Iterator[list[FileRange]]:
        """Divides the ranges so that the pieces of a batch stay in the cache until they are read."""
        batch: list[FileRange] = []
        pieces: set[tuple[str, int]] = set()
        for wanted in self._ranges:
            more = self._pieces(wanted, max_pieces)
            if batch and len(pieces | more) > max_pieces:
                yield batch
                batch, pieces = [], set()
            batch.append(wanted)
            pieces |= more
        yield batch

    def _pieces(self, wanted: FileRange, max_pieces: int) -> set[tuple[str, int]]:
        """Returns the first pieces of a range, each as the path and the number of the piece."""
        file = self._files[wanted.path]
        if isinstance(file, IPFSDatasetError):
            return set()
        start, stop = wanted.span(file.size)
        numbers = range(start // _PIECE_BYTES, -(-stop // _PIECE_BYTES))
        return {(wanted.path, number) for number in numbers[:max_pieces]}

    def _prefetch(self, batch: Sequence[FileRange]) -> None:
        files: dict[str, tuple[ObjectFile, list[Span]]] = {}
        for wanted in batch:
            file = self._files[wanted.path]
            if not isinstance(file, IPFSDatasetError):
                files.setdefault(wanted.path, (file, []))[1].append(wanted.span(file.size))
        for file, spans in files.values():
            with suppress(IPFSDatasetError):  # reading raises it again
                file.prefetch(spans)

    def _read(self, wanted: FileRange) -> bytes | IPFSDatasetError:
        file = self._files[wanted.path]
        if isinstance(file, IPFSDatasetError):
            return file
        start, stop = wanted.span(file.size)
        try:
            return file.read_at(start, stop - start)
        except IPFSDatasetError as error:
            return error
