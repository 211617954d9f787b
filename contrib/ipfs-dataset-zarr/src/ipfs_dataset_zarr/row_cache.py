"""A cache for runs of rows. Rows that share their chunks are read together, as a run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ipfs_dataset_zarr.event_loop import submit

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ipfs_dataset_zarr.array import Array

CACHE_BYTES = 64 << 20

Key = tuple[str, int]
"""The path of an array and the number of a run."""


class RowCache:
    """The runs that were used last, up to 64 MiB, including runs that are still being read.

    The class is thread-safe. A run is read once, however many threads need it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: OrderedDict[Key, tuple[Future[Any], int]] = OrderedDict()
        self._size = 0

    def row(self, array: Array, position: int) -> Any:
        """Returns a copy of a row; waits until its run has been read. Raises like `Array.rows`."""
        run, offset = divmod(position, array.step)
        try:
            rows = self.start(array, run).result()
        except BaseException:
            self._drop((array.path, run))  # the next attempt reads the run again
            raise
        return rows[offset].copy()

    def start(self, array: Array, run: int) -> Future[Any]:
        """Returns the future of a run, and starts reading it if it is not in the cache."""
        key = array.path, run
        with self._lock:
            if key in self._futures:
                self._futures.move_to_end(key)
                return self._futures[key][0]
            future = submit(array.rows(run))
            size = array.step * array.row_bytes
            self._futures[key] = future, size
            self._size += size
            while self._size > CACHE_BYTES and len(self._futures) > 1:
                _, (_, oldest_size) = self._futures.popitem(last=False)
                self._size -= oldest_size
            return future

    def _drop(self, key: Key) -> None:
        with self._lock:
            _, size = self._futures.pop(key, (None, 0))
            self._size -= size
