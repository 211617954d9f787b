"""The runs of rows that were read last, and those that are being read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ipfs_dataset_zarr.event_loop import submit

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ipfs_dataset_zarr.array import Array

KEPT_BYTES = 64 << 20

Key = tuple[str, int]


class Runs:
    """Reads runs of rows, each once at a time; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: OrderedDict[Key, tuple[Future[Any], int]] = OrderedDict()
        self._size = 0

    def row(self, array: Array, position: int) -> Any:
        """Returns a row of its own; raises like `Array.rows`."""
        run, within = divmod(position, array.step)
        try:
            rows = self.start(array, run).result()
        except BaseException:
            self._drop((array.path, run))  # another attempt may go better
            raise
        return rows[within].copy()

    def start(self, array: Array, run: int) -> Future[Any]:
        """Starts to read a run, if it is not there or on its way."""
        key = array.path, run
        with self._lock:
            if key in self._futures:
                self._futures.move_to_end(key)
                return self._futures[key][0]
            future = submit(array.rows(run))
            size = array.step * array.row_bytes
            self._futures[key] = future, size
            self._size += size
            while self._size > KEPT_BYTES and len(self._futures) > 1:
                _, (_, dropped) = self._futures.popitem(last=False)
                self._size -= dropped
            return future

    def _drop(self, key: Key) -> None:
        with self._lock:
            _, size = self._futures.pop(key, (None, 0))
            self._size -= size
