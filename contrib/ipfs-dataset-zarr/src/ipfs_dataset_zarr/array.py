"""One array of a Zarr store: opened, checked for what may be read of it, and read by rows."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import zarr

from ipfs_dataset_core import FormatError, LimitError, library_errors
from ipfs_dataset_zarr.codecs import readable_version_2, readable_version_3
from ipfs_dataset_zarr.event_loop import in_thread, submit
from ipfs_dataset_zarr.shards import Shards
from ipfs_dataset_zarr.store import ArrayStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_zarr.borrowed_directory import Borrowed
    from ipfs_dataset_zarr.metadata import Document

# Rows that share their chunks are read together, up to about as many bytes.
_RUN_BYTES = 16 << 20
_MOST_CHUNKS = 1 << 16
_FILES_AT_ONCE = 16
_UNPACKING_BYTES = 256 << 20
# No packer makes more than twice as much, and this, of what it cannot shrink.
_SLACK_BYTES = 4096


class Array:
    """An array whose rows are samples.

    Args:
        directory: The store.
        document: What it says about the array.
        max_bytes: How many bytes may be in memory at once.

    Attributes:
        path: The array's.
        count: How many rows there are.
        step: How many rows are best read at once.
        row_bytes: Bytes of a row.
        read_bytes: Bytes of the chunks that a row is in, unpacked.

    Raises:
        FormatError: It cannot be read, or has no rows.
        LimitError: A row and the chunks that it is in are larger than allowed.
    """

    def __init__(self, directory: Borrowed, document: Document, max_bytes: int) -> None:
        self.path = document.path
        self._what = f"The array {document.path!r} of {directory.name!r}"
        self._max_bytes = max_bytes
        with self._reading():
            _check_path(document.path)
            self._store = ArrayStore(directory, document.path, _readable(document, self._what))
            opening = zarr.AsyncArray.open(self._store, zarr_format=document.zarr_format)
            self._array: Any = submit(opening).result()
            _check(self._array)
            self._store.has_fill_value = document.fields.get("fill_value") is not None
            self._shards = Shards.of(self._array, document.fields)
            self._measure()

    def _measure(self) -> None:
        array = self._array
        itemsize = array.dtype.itemsize
        self.count = int(array.shape[0])
        self.row_bytes = math.prod(array.shape[1:]) * itemsize
        chunk_bytes = math.prod(array.chunks) * itemsize
        chunks = self._in_row(array.chunks)
        self.read_bytes = chunks * chunk_bytes
        self.step = min(int(array.chunks[0]), max(1, _RUN_BYTES // max(1, self.row_bytes)))
        most_at_once = zarr.config.get("async.concurrency") ** (1 if self._shards is None else 2)
        unpacking = min(chunks, most_at_once) * chunk_bytes
        self._check_size(unpacking + self.step * self.row_bytes)
        # The first run must not wait for many others, but lone files should not come one by one either.
        wanted = 1 + _FILES_AT_ONCE // self._in_row(array.shards or array.chunks)
        self._runs = asyncio.Semaphore(max(1, min(wanted, _UNPACKING_BYTES // max(1, unpacking))))
        self._bound_files(chunk_bytes)

    def _in_row(self, sides: tuple[int, ...]) -> int:
        """Returns how many chunks or shards, with such sides, a row is in."""
        lengths = zip(self._array.shape[1:], sides[1:], strict=True)
        count = int(math.prod(-(-length // side) for length, side in lengths))
        if count > _MOST_CHUNKS:
            raise LimitError(
                f"{self._what} has {count} chunks to a row, more than the limit of {_MOST_CHUNKS}: write "
                "larger ones."
            )
        return max(1, count)

    def _bound_files(self, chunk_bytes: int) -> None:
        most = 2 * chunk_bytes + _SLACK_BYTES
        self._store.most_bytes = self._store.most_part_bytes = most
        if self._shards is not None:
            index_bytes = self._shards.index_bytes
            whole = min(2 * self._shards.count * chunk_bytes, self._max_bytes)
            self._store.most_bytes = whole + index_bytes + _SLACK_BYTES
            self._store.most_part_bytes = max(most, index_bytes)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise LimitError(
                f"{self._what} needs {size} bytes at once for a row and its chunks, more than the limit of "
                f"{self._max_bytes}: where you trust it, give ZarrReader(max_bytes=…)."
            )

    async def rows(self, run: int) -> Any:
        """Returns a run of `step` rows, in the byte order of this machine.

        Raises:
            TransportError: A chunk did not arrive.
            FormatError: A chunk is damaged.
            LimitError: A chunk unpacks to more than a chunk has.
        """
        start, stop = run * self.step, min((run + 1) * self.step, self.count)
        async with self._runs:
            with self._reading():
                if self._shards is not None:
                    shards = self._shards
                    await in_thread(lambda: shards.prefetch(self._store, start, stop))
                found = await self._array.getitem(slice(start, stop))
                return found.astype(found.dtype.newbyteorder("="), copy=False)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Lets the errors of the source through, and turns those of zarr into ours."""
        advice = "Publish it again, and whole; variables= leaves some out."
        with library_errors(self._what, advice):
            try:
                yield
            except (FormatError, LimitError) as error:
                if self._what in str(error):
                    raise
                raise type(error)(f"{self._what}: {error}") from error


def _check_path(path: str) -> None:
    if any(name in ("", ".", "..") for name in path.split("/")) and path:
        raise ValueError("its path leads elsewhere")


def _readable(document: Document, what: str) -> dict[str, bytes]:
    """Returns the metadata for zarr to read."""
    if document.zarr_format == 2:  # noqa: PLR2004 - the version
        fields = readable_version_2(document.fields, what)
        return {".zarray": json.dumps(fields).encode(), ".zattrs": b"{}"}
    fields = readable_version_3({**document.fields, "attributes": {}}, what)
    return {"zarr.json": json.dumps(fields).encode()}


def _check(array: Any) -> None:
    if array.dtype.hasobject or array.dtype.kind == "T":
        raise ValueError("its values are of variable length: write texts with a fixed length")
    if not array.shape:
        raise ValueError("it is a single value without rows")
    if min(array.shape) < 0 or min(array.chunks) < 1:
        raise ValueError(f"its shape is {array.shape}, in chunks of {array.chunks}")
