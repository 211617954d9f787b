"""An open Zarr store: its arrays and a cache of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_zarr.array import Array
from ipfs_dataset_zarr.array_selection import select_arrays
from ipfs_dataset_zarr.directory_reference import DirectoryReference
from ipfs_dataset_zarr.metadata import Documents
from ipfs_dataset_zarr.row_cache import CACHE_BYTES, RowCache

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipfs_dataset_core import ObjectDirectory


class OpenStore:
    """A store whose arrays are opened when they are first needed.

    Args:
        directory: The directory of the store; the caller keeps it alive.
        max_bytes: The maximum number of bytes in memory for a row and its chunks.

    Raises:
        FormatError: The directory is not a Zarr store, or its metadata are damaged.
    """

    def __init__(self, directory: ObjectDirectory, max_bytes: int) -> None:
        self._directory = DirectoryReference(directory)
        self._max_bytes = max_bytes
        self._documents = Documents(self._directory)
        self._arrays: dict[str, Array] = {}
        self._cache = RowCache()

    def paths(self, variables: Sequence[str] | None) -> list[str]:
        """Returns the paths of the arrays to read; raises like `Documents.get` and `select_arrays`.

        Args:
            variables: The paths that the user named, None for the default selection.
        """
        if variables is None:
            documents = select_arrays(self._documents.all(), self._directory.name)
            return [document.path for document in documents]
        return [self._documents.get(path).path for path in variables]

    def arrays(self, paths: Iterable[str]) -> list[Array]:
        """Returns the arrays with these paths; raises like `Array`."""
        paths = list(paths)
        if new := [path for path in paths if path not in self._arrays]:
            self._documents.prefetch(new)
        return [self._array(path) for path in paths]

    def sample(self, paths: Sequence[str], position: int) -> Any:
        """Returns a dict of the rows of some arrays by path, or the row of a store that is a single array.

        Raises like `Array.rows`.
        """
        arrays = self.arrays(paths)
        for array in arrays:
            self._cache.start(array, position // array.step)
        rows = {array.path: self._cache.row(array, position) for array in arrays}
        return rows[""] if list(rows) == [""] else rows

    def prefetch(self, paths: Sequence[str], positions: Iterable[int]) -> None:
        """Starts reading the rows of samples, in order, up to half of the cache.

        Args:
            paths: The paths of the arrays.
            positions: The numbers of the samples.
        """
        arrays = self.arrays(paths)
        started: set[tuple[str, int]] = set()
        bytes_left = CACHE_BYTES // 2
        for position in positions:
            for array in arrays:
                run = position // array.step
                if (array.path, run) in started:
                    continue
                started.add((array.path, run))
                bytes_left -= array.step * array.row_bytes
                if bytes_left < 0:
                    return
                self._cache.start(array, run)

    def _array(self, path: str) -> Array:
        if path not in self._arrays:
            document = self._documents.current(path)
            self._arrays[path] = Array(self._directory, document, self._max_bytes)
        return self._arrays[path]
