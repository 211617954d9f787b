"""Reading whole files and ranges, one or many, into memory or to local files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from ipfs_dataset_core import IPFSDatasetError, ObjectDirectory
from ipfs_dataset_fsspec.download import Ahead, copy, replacing
from ipfs_dataset_fsspec.errors import IsDirectoryError
from ipfs_dataset_fsspec.ranges import Wanted, contents, files_ahead
from ipfs_dataset_fsspec.tree import as_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_fsspec.tree import Tree


class BulkReading:
    """What of a filesystem moves whole files; comes before fsspec's base."""

    _tree: Tree
    _memory: int

    if TYPE_CHECKING:  # fsspec's base has them
        _strip_protocol: Any
        expand_path: Any

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Returns the bytes of a file from `start` to `end`, as of a slice."""
        path = self._strip_protocol(path)
        file = self._tree.file(path)
        first, stop = Wanted(path, start, end).span(file.size)
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
            paths: A file for each range.
            starts: Where each range starts, or all do.
            ends: Where each range ends, or all do.
            max_gap: Without effect: blocks come whole, and what ranges share comes once.
            on_error: Whether an error is in its range's place (``"return"``) or raised (``"raise"``).
            **kwargs: Without effect.

        Raises:
            ValueError: There are not equally many of all.
        """
        if not isinstance(paths, list):
            raise TypeError(f"paths is a list, not {paths!r}")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError(f"{len(paths)} paths, {len(starts)} starts and {len(ends)} ends")
        return [data for _, data in self._contents(paths, starts, ends, on_error)]

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Returns the bytes of one file, or of many by path, fetched together.

        Args:
            path: A path or pattern, or several.
            recursive: Whether to read all files below directories.
            on_error: ``"raise"``, ``"omit"`` the file, or ``"return"`` the error in its place.
            **kwargs: `start` and `end`, as of `cat_file`.
        """
        paths = self.expand_path(path, recursive=recursive)
        if not isinstance(path, list) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **kwargs)
        count = len(paths)
        starts, ends = [kwargs.get("start")] * count, [kwargs.get("end")] * count
        found = self._contents(paths, starts, ends, "return")
        return dict(_chosen(found, on_error, files_only=recursive))

    def _contents(
        self, paths: Sequence[str], starts: Sequence[Any], ends: Sequence[Any], on_error: str
    ) -> Iterator[tuple[str, bytes | IPFSDatasetError]]:
        items = [
            Wanted(self._strip_protocol(path), start, end)
            for path, start, end in zip(paths, starts, ends, strict=True)
        ]
        found = contents(self._tree, items, files_ahead(self._memory))
        for item, data in zip(items, found, strict=True):
            if on_error == "raise" and isinstance(data, IPFSDatasetError):
                raise data
            yield item.path, data

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copies files to local ones, as of fsspec; the next ones are fetched meanwhile."""
        ahead = Ahead(callback, self._prefetch, files_ahead(self._memory))
        super().get(rpath, lpath, recursive, ahead, maxdepth, **kwargs)  # type: ignore[misc]

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **kwargs: Any,
    ) -> None:
        """Copies a file to a local one, which is there when all of it is; or to an open file."""
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


def _chosen(
    found: Iterator[tuple[str, bytes | IPFSDatasetError]], on_error: str, *, files_only: bool
) -> Iterator[tuple[str, bytes | IPFSDatasetError]]:
    """Yields what `cat` returns of what was found."""
    for path, data in found:
        if files_only and isinstance(data, IsDirectoryError):
            continue
        if isinstance(data, IPFSDatasetError) and on_error != "return":
            if on_error == "raise":
                raise data
            continue
        yield path, data
