"""An array of a Zarr store, which is checked and read by rows."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import zarr

from ipfs_dataset_core import FormatError, LimitError, parser_errors
from ipfs_dataset_zarr.codecs import checked_metadata_version_2, checked_metadata_version_3
from ipfs_dataset_zarr.event_loop import in_thread, submit
from ipfs_dataset_zarr.shards import Shards
from ipfs_dataset_zarr.store import ArrayStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_zarr.directory_reference import DirectoryReference
    from ipfs_dataset_zarr.metadata import Document

_RUN_BYTES = 16 << 20  # rows that share their chunks are read together, up to about this size
_MAX_CHUNKS = 1 << 16  # of a row
_FILES_AT_ONCE = 16
_DECOMPRESSION_BYTES = (
    256 << 20
)  # the maximum size of the chunks that are decompressed at the same time
# Data that a compressor cannot shrink become at most twice as large, plus this size.
_SLACK_BYTES = 4096


class Array:
    """An array whose rows are samples.

    Args:
        directory: The directory of the store.
        document: The metadata of the array.
        max_bytes: The maximum number of bytes in memory for a run of rows and their chunks.

    Attributes:
        path: The path of the array in the store.
        count: The number of rows.
        step: The number of rows in a run, which is read at once.
        row_bytes: The size of a row in bytes.
        read_bytes: The decompressed size of the chunks of a row in bytes.

    Raises:
        FormatError: The array cannot be read, or has no rows.
        LimitError: A row and its chunks are larger than `max_bytes`.
    """

    def __init__(self, directory: DirectoryReference, document: Document, max_bytes: int) -> None:
        self.path = document.path
        self._what = f"The array {document.path!r} of {directory.name!r}"
        self._max_bytes = max_bytes
        with self._reading():
            _check_path(document.path)
            self._store = ArrayStore(directory, document.path, _metadata(document, self._what))
            opening = zarr.AsyncArray.open(self._store, zarr_format=document.zarr_format)
            self._array: Any = submit(opening).result()
            _check(self._array)
            self._store.has_fill_value = document.fields.get("fill_value") is not None
            self._shards = Shards.of(self._array, document.fields)
            self._set_sizes()

    def _set_sizes(self) -> None:
        """Derives the sizes of rows, runs and chunks from the metadata, and checks them."""
        array = self._array
        itemsize = array.dtype.itemsize
        self.count = int(array.shape[0])
        self.row_bytes = math.prod(array.shape[1:]) * itemsize
        chunk_bytes = math.prod(array.chunks) * itemsize
        chunks = self._count_in_row(array.chunks)
        self.read_bytes = chunks * chunk_bytes
        self.step = min(int(array.chunks[0]), max(1, _RUN_BYTES // max(1, self.row_bytes)))
        # zarr reads this many files at once, and as many chunks of each shard.
        concurrency = zarr.config.get("async.concurrency") ** (1 if self._shards is None else 2)
        run_chunk_bytes = min(chunks, concurrency) * chunk_bytes
        self._check_size(run_chunk_bytes + self.step * self.row_bytes)
        # Few runs at once, so that the first one is soon complete; but more of them if a run has few files.
        runs = 1 + _FILES_AT_ONCE // self._count_in_row(array.shards or array.chunks)
        runs = min(runs, _DECOMPRESSION_BYTES // max(1, run_chunk_bytes))
        self._runs_at_once = asyncio.Semaphore(max(1, runs))
        self._set_file_limits(chunk_bytes)

    def _count_in_row(self, sides: tuple[int, ...]) -> int:
        """Returns the number of chunks or shards that a row is in, at least 1.

        Args:
            sides: The length of a chunk or shard along each axis.
        """
        lengths = zip(self._array.shape[1:], sides[1:], strict=True)
        count = int(math.prod(-(-length // side) for length, side in lengths))
        if count > _MAX_CHUNKS:
            raise LimitError(
                f"{self._what} has {count} chunks in a row, more than the limit of {_MAX_CHUNKS}: write "
                "larger chunks."
            )
        return max(1, count)

    def _set_file_limits(self, chunk_bytes: int) -> None:
        """Sets the maximum size of files, and of their parts, that the store reads."""
        stored_chunk_bytes = 2 * chunk_bytes + _SLACK_BYTES
        self._store.max_bytes = self._store.max_part_bytes = stored_chunk_bytes
        if self._shards is not None:
            index_bytes = self._shards.index_bytes
            chunks_bytes = min(2 * self._shards.count * chunk_bytes, self._max_bytes)
            self._store.max_bytes = chunks_bytes + index_bytes + _SLACK_BYTES
            self._store.max_part_bytes = max(stored_chunk_bytes, index_bytes)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise LimitError(
                f"{self._what} needs {size} bytes at once for a row and its chunks, more than the limit of "
                f"{self._max_bytes}: if you trust it, raise the limit with ZarrReader(max_bytes=…)."
            )

    async def rows(self, run: int) -> Any:
        """Reads a run of `step` rows, of which the last may have fewer.

        Args:
            run: The number of the run.

        Returns:
            The rows as a NumPy array in the byte order of this machine.

        Raises:
            TransportError: A chunk did not arrive.
            FormatError: A chunk is damaged.
            LimitError: A chunk decompresses to more than the size of a chunk.
        """
        start, stop = run * self.step, min((run + 1) * self.step, self.count)
        async with self._runs_at_once:
            with self._reading():
                if self._shards is not None:
                    await in_thread(partial(self._shards.prefetch, self._store, start, stop))
                rows = await self._array.getitem(slice(start, stop))
                return rows.astype(rows.dtype.newbyteorder("="), copy=False)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raises errors of the source unchanged, and turns those of zarr into `FormatError`."""
        advice = "Publish it again from a complete copy; variables= can leave arrays out."
        with parser_errors(self._what, advice):
            try:
                yield
            except (FormatError, LimitError) as error:
                if self._what in str(error):
                    raise
                raise type(error)(f"{self._what}: {error}") from error


def _check_path(path: str) -> None:
    if any(name in ("", ".", "..") for name in path.split("/")) and path:
        raise ValueError("its path has a part that is empty, '.' or '..'")


def _metadata(document: Document, what: str) -> dict[str, bytes]:
    """Returns the metadata files that zarr reads, by key: checked, and without attributes."""
    if document.zarr_format == 2:  # noqa: PLR2004 - the version
        fields = checked_metadata_version_2(document.fields, what)
        return {".zarray": json.dumps(fields).encode(), ".zattrs": b"{}"}
    fields = checked_metadata_version_3({**document.fields, "attributes": {}}, what)
    return {"zarr.json": json.dumps(fields).encode()}


def _check(array: Any) -> None:
    """Checks that the rows of an array can be read."""
    if array.dtype.hasobject or array.dtype.kind == "T":
        raise ValueError("its values are of variable length: write texts with a fixed length")
    if not array.shape:
        raise ValueError("it is a single value without rows")
    if min(array.shape) < 0 or min(array.chunks) < 1:
        raise ValueError(f"its shape is {array.shape}, in chunks of {array.chunks}")
