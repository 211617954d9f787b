"""Methods of the filesystem that read files and ranges into memory, or copy files to local ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from ipfs_dataset_core import IPFSDatasetError, ObjectDirectory
from ipfs_dataset_fsspec.download import PrefetchingCallback, copy, replacing
from ipfs_dataset_fsspec.errors import IsDirectoryError
from ipfs_dataset_fsspec.ranges import FileRange, files_ahead, read_ranges
from ipfs_dataset_fsspec.tree import as_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_fsspec.tree import Tree


class BulkReading:
    """A base class before that of fsspec, whose methods of these names fetch one file after the other."""

    _tree: Tree
    _memory: int

    if TYPE_CHECKING:  # methods of the base class of fsspec
        _strip_protocol: Any
        expand_path: Any

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Returns the bytes of a file from `start` to `end`, which mean the same as in a slice."""
        path = self._strip_protocol(path)
        file = self._tree.file(path)
        first, stop = FileRange(path, start, end).span(file.size)
        return file.read_at(first, stop - first)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Returns the bytes of many ranges, fetched together.

        Args:
            paths: The file of each range.
            starts: The start of each range, or one for all.
            ends: The end of each range, or one for all.
            max_gap: Has no effect: whole blocks are fetched, each only once.
            on_error: Whether errors are raised (``"raise"``), or returned in place of the bytes
                (``"return"``).
            **kwargs: Have no effect.

        Raises:
            ValueError: The numbers of paths, starts and ends differ.
        """
        if not isinstance(paths, list):
            raise TypeError(f"paths must be a list, not {paths!r}")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError(
                f"there are {len(paths)} paths, {len(starts)} starts and {len(ends)} ends: give one of each "
                "for every range"
            )
        return [data for _, data in self._read_ranges(paths, starts, ends, on_error)]

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Returns the bytes of a file; for several files, a dict of their bytes by path, fetched together.

        Args:
            path: A path or pattern, or a list of them.
            recursive: Whether to read all files below directories.
            on_error: Whether to raise errors (``"raise"``), leave the file out (``"omit"``), or return the
                error in place of the bytes (``"return"``).
            **kwargs: `start` and `end`, as in `cat_file`.
        """
        paths = self.expand_path(path, recursive=recursive)
        if not isinstance(path, list) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **kwargs)
        count = len(paths)
        starts, ends = [kwargs.get("start")] * count, [kwargs.get("end")] * count
        found = self._read_ranges(paths, starts, ends, "return")
        return dict(_without_errors(found, on_error, files_only=recursive))

    def _read_ranges(
        self, paths: Sequence[str], starts: Sequence[Any], ends: Sequence[Any], on_error: str
    ) -> Iterator[tuple[str, bytes | IPFSDatasetError]]:
        ranges = [
            FileRange(self._strip_protocol(path), start, end)
            for path, start, end in zip(paths, starts, ends, strict=True)
        ]
        found = read_ranges(self._tree, ranges, files_ahead(self._memory))
        for wanted, data in zip(ranges, found, strict=True):
            if on_error == "raise" and isinstance(data, IPFSDatasetError):
                raise data
            yield wanted.path, data

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copies files to local ones, as in fsspec; the next files are fetched while one is copied."""
        prefetching = PrefetchingCallback(callback, self._prefetch, files_ahead(self._memory))
        super().get(rpath, lpath, recursive, prefetching, maxdepth, **kwargs)  # type: ignore[misc]

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **kwargs: Any,
    ) -> None:
        """Copies a file to a local one, which appears when it is complete, or to an open file."""
        path = self._strip_protocol(rpath)
        target = lpath if outfile is None and isfilelike(lpath) else outfile
        node = self._tree.node(path)
        if target is None and isinstance(node, ObjectDirectory):
            Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        source = as_file(path, node)
        if target is not None:
            copy(source, target, callback)
            return
        with replacing(Path(lpath)) as file:
            copy(source, file, callback)

    def _prefetch(self, paths: Sequence[str]) -> None:
        self._tree.prefetch([self._strip_protocol(path) for path in paths])


def _without_errors(
    found: Iterator[tuple[str, bytes | IPFSDatasetError]], on_error: str, *, files_only: bool
) -> Iterator[tuple[str, bytes | IPFSDatasetError]]:
    """Yields the results of `cat`: errors according to `on_error`, and with `files_only` no directories."""
    for path, data in found:
        if files_only and isinstance(data, IsDirectoryError):
            continue
        if isinstance(data, IPFSDatasetError) and on_error != "return":
            if on_error == "raise":
                raise data
            continue
        yield path, data
