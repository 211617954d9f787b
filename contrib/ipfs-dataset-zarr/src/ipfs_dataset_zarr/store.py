"""The store from which zarr reads the chunks of an array.

zarr fills a chunk with the fill value if the store returns None for it. So None is returned only if the
directory, which is verified, has no entry for the chunk; everything else that goes wrong is an error.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NoReturn

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from ipfs_dataset_core import FormatError, LimitError, ObjectNotFoundError, TransportError
from ipfs_dataset_zarr.event_loop import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from ipfs_dataset_core import ObjectFile, Span
    from ipfs_dataset_zarr.directory_reference import DirectoryReference

_MAX_READS = 16
_KEPT_FILES = 16


class ArrayStore(Store):
    """Reads the chunks of one array. The class is thread-safe.

    Args:
        directory: The directory of the Zarr store.
        path: The path of the array.
        documents: The metadata documents of the array by key, already checked.

    Attributes:
        max_bytes: The maximum number of bytes of a file.
        max_part_bytes: The maximum number of bytes of a part of a file, such as a chunk in a shard.
        has_fill_value: Whether chunks may be absent, because the array has a fill value for them.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(
        self, directory: DirectoryReference, path: str, documents: dict[str, bytes]
    ) -> None:
        super().__init__(read_only=True)
        self.max_bytes = self.max_part_bytes = 0
        self.has_fill_value = True
        self._directory = directory
        self._prefix = f"{path}/" if path else ""
        self._documents = documents
        self._reads = asyncio.Semaphore(_MAX_READS)
        # Files stay open for a while, because the parts of a shard are read one by one.
        self._file = lru_cache(_KEPT_FILES)(self._find)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = self._documents.get(key)
        if data is None:
            async with self._reads:
                data = await in_thread(partial(self.read, key, byte_range))
        return None if data is None else prototype.buffer.from_bytes(data)

    def read(self, key: str, byte_range: ByteRequest | None = None) -> bytes | None:
        """Returns a file or a part of it, or None if the directory has no such file.

        Raises:
            TransportError: The bytes did not arrive.
            FormatError: The file is too short for the part or is a directory, or it is absent and the array
                has no fill value.
            LimitError: The bytes are more than `max_bytes` or `max_part_bytes`.
        """
        file = self._file(key)
        if file is None:
            if not self.has_fill_value:
                raise FormatError(
                    f"The chunk {self._prefix + key!r} of {self._directory.name!r} is missing, and the "
                    "array has no fill value: the store is incomplete. Publish it again from a complete copy."
                )
            return None
        start, stop = _span(file, byte_range)
        limit = self.max_bytes if byte_range is None else self.max_part_bytes
        if stop - start > limit:
            raise LimitError(
                f"A chunk in {file.name!r} has {stop - start} bytes, but compressed chunks of its array have "
                f"at most {limit}."
            )
        try:
            return file.read_at(start, stop - start)
        except (
            ObjectNotFoundError
        ) as error:  # the directory has the file, so the chunk is not absent
            raise TransportError(str(error)) from error

    def prefetch(self, key: str, spans: Iterable[Span]) -> None:
        """Starts fetching parts of a file; does nothing if the file is absent."""
        file = self._file(key)
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
        self._raise_unsupported()

    async def delete(self, key: str) -> NoReturn:
        self._raise_unsupported()

    def list(self) -> AsyncIterator[str]:
        self._raise_unsupported()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        self._raise_unsupported()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        self._raise_unsupported()

    def _raise_unsupported(self) -> NoReturn:
        raise NotImplementedError("this store only reads chunks by key")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _span(file: ObjectFile, request: ByteRequest | None) -> Span:
    """Returns the positions of the bytes that zarr requests.

    Raises:
        FormatError: The file ends earlier. zarr would take an empty part of a shard for an absent chunk.
    """
    match request:
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
            f"A chunk in {file.name!r} is damaged: the file has {file.size} bytes, and the chunk would be in "
            f"its bytes {span[0]} to {span[1]}. Publish it again from a complete copy."
        )
    return span
