"""One array of a directory as a store of zarr's: what is absent is proven, what does not arrive is an error.

To zarr, a chunk that is absent is full of the fill value. So None, which says that, is returned only for
what a directory has no entry for; nothing else that goes wrong may look like it.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from ipfs_dataset_core import FormatError, LimitError, ObjectNotFoundError, TransportError
from ipfs_dataset_zarr.event_loop import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from ipfs_dataset_core import ObjectFile, Span
    from ipfs_dataset_zarr.borrowed_directory import Borrowed

_MOST_THREADS = 16
_KEPT_FILES = 16


class ArrayStore(Store):
    """Reads the chunks of one array; safe from any thread.

    Args:
        directory: The Zarr store.
        path: The array.
        documents: Its metadata by key, already read and checked.

    Attributes:
        most_bytes: How many bytes a file may have.
        most_part_bytes: How many bytes a part of one may have.
        has_fill_value: Whether chunks may be absent, and are full of that value.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, directory: Borrowed, path: str, documents: dict[str, bytes]) -> None:
        super().__init__(read_only=True)
        self.most_bytes = self.most_part_bytes = 0
        self.has_fill_value = True
        self._directory = directory
        self._prefix = f"{path}/" if path else ""
        self._documents = documents
        self._threads = asyncio.Semaphore(_MOST_THREADS)
        # Of a shard, part after part is read.
        self._chunk = lru_cache(_KEPT_FILES)(self._find)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = self._documents.get(key)
        if data is None:
            async with self._threads:
                data = await in_thread(lambda: self.read(key, byte_range))
        return None if data is None else prototype.buffer.from_bytes(data)

    def read(self, key: str, byte_range: ByteRequest | None = None) -> bytes | None:
        """Returns a chunk, or exactly the bytes asked for of it; None where it is proven to be absent.

        Raises:
            TransportError: It did not arrive.
            FormatError: It is too short, or no file.
            LimitError: It is larger than a chunk can be.
        """
        file = self._chunk(key)
        if file is None:
            if not self.has_fill_value:
                raise FormatError(
                    f"The chunk {self._prefix + key!r} of {self._directory.name!r} is missing, and the "
                    "array has no fill value: the store is not whole. Publish it again, and whole."
                )
            return None
        start, stop = _span(file, byte_range)
        most = self.most_bytes if byte_range is None else self.most_part_bytes
        if stop - start > most:
            raise LimitError(
                f"A chunk, in {file.name!r}, has {stop - start} bytes, where packed chunks of its array have "
                f"{most} at the most."
            )
        try:
            return file.read_at(start, stop - start)
        except ObjectNotFoundError as error:  # that it is there is proven
            raise TransportError(str(error)) from error

    def prefetch(self, key: str, spans: Iterable[Span]) -> None:
        """Starts fetching parts of a chunk that is there."""
        file = self._chunk(key)
        if file is not None:
            file.prefetch((start, stop) for start, stop in spans if stop <= file.size)

    def _find(self, key: str) -> ObjectFile | None:
        try:
            return self._directory.get().open(self._prefix + key)
        except ObjectNotFoundError:
            return None

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self._documents

    async def set(self, key: str, value: Buffer) -> NoReturn:
        self._refuse()

    async def delete(self, key: str) -> NoReturn:
        self._refuse()

    def list(self) -> AsyncIterator[str]:
        self._refuse()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        self._refuse()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotImplementedError("the chunks of an array are read by name")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _span(file: ObjectFile, asked: ByteRequest | None) -> Span:
    """Returns the bytes that zarr asks for.

    It takes an empty part of a shard for an absent chunk, so a shard that ends early must not give one.
    """
    match asked:
        case None:
            return 0, file.size
        case RangeByteRequest(start, stop):
            span = start, stop
        case OffsetByteRequest(start):
            span = start, file.size
        case SuffixByteRequest(size):
            span = file.size - size, file.size
    if not 0 <= span[0] < span[1] <= file.size:
        raise FormatError(
            f"A chunk, in {file.name!r}, is damaged: it has {file.size} bytes, and {span[0]} to {span[1]} "
            "are to be read. Publish it again, and whole."
        )
    return span
