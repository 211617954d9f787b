"""An open Zarr store: its arrays, and the rows of theirs that were read last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset_zarr.array import Array
from ipfs_dataset_zarr.array_choice import chosen
from ipfs_dataset_zarr.borrowed_directory import Borrowed
from ipfs_dataset_zarr.metadata import Documents
from ipfs_dataset_zarr.row_cache import KEPT_BYTES, Runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipfs_dataset_core import ObjectDirectory


class Opened:
    """The arrays of a store, opened when they are needed.

    Args:
        directory: The store; whoever uses this keeps it.
        max_bytes: How many bytes an array may need at once.
    """

    def __init__(self, directory: ObjectDirectory, max_bytes: int) -> None:
        self._directory = Borrowed(directory)
        self._max_bytes = max_bytes
        self._documents = Documents(self._directory)
        self._arrays: dict[str, Array] = {}
        self._runs = Runs()

    def paths(self, variables: Sequence[str] | None) -> list[str]:
        """Returns the paths of the arrays to read; raises like `Documents.get` and `chosen`."""
        if variables is None:
            return [found.path for found in chosen(self._documents.all(), self._directory.name)]
        return [self._documents.get(path).path for path in variables]

    def arrays(self, paths: Iterable[str]) -> list[Array]:
        """Returns arrays; raises like `Array`."""
        wanted = list(paths)
        if new := [path for path in wanted if path not in self._arrays]:
            self._documents.prefetch(new)
        return [self._array(path) for path in wanted]

    def sample(self, paths: Sequence[str], position: int) -> Any:
        """Returns the rows of arrays by path, or the row of the only one; raises like `Array.rows`."""
        arrays = self.arrays(paths)
        for array in arrays:
            self._runs.start(array, position // array.step)
        rows = {array.path: self._runs.row(array, position) for array in arrays}
        return rows[""] if list(rows) == [""] else rows

    def prefetch(self, paths: Sequence[str], positions: Iterable[int]) -> None:
        """Starts to read rows, in order, not more than what can be kept until they are used."""
        arrays, started = self.arrays(paths), set()
        left = KEPT_BYTES // 2
        for position in positions:
            for array in arrays:
                run = array.path, position // array.step
                if run not in started:
                    started.add(run)
                    left -= array.step * array.row_bytes
                    if left < 0:
                        return
                    self._runs.start(array, run[1])

    def _array(self, path: str) -> Array:
        if path not in self._arrays:
            document = self._documents.current(path)
            self._arrays[path] = Array(self._directory, document, self._max_bytes)
        return self._arrays[path]
