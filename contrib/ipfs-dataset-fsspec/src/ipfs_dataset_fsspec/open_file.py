"""Open files: buffered, and bound to a CID when they are opened, also in other processes."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, SupportsIndex

from ipfs_dataset_core import ObjectFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core import Span

# Large enough for reading lines, and so small that reading a few bytes rarely needs a second block.
_BUFFER_BYTES = 16 << 10


class PinnedFile(ObjectFile):
    """A file that each process opens for itself, because threads and sockets do not survive a fork.

    Args:
        open_file: Opens the file at a path.
        path: The name of the file, for errors.
        pinned: The path to open, which is the CID if that is known.

    Attributes:
        pinned: What other processes open: the CID, or the path if nothing is verified (``verify=False``).
        cache: A cache of fsspec through which the file is read, or None.
    """

    mode = "rb"

    def __init__(self, open_file: Callable[[str], ObjectFile], path: str, pinned: str) -> None:
        super().__init__()
        self.cache: Any = None
        self._open_file = open_file
        self.pinned = pinned
        self._file, self._process = open_file(pinned), os.getpid()
        self.name = path
        self.size, self.cid, self.limits = self._file.size, self._file.cid, self._file.limits
        if self.cid is not None:
            self.pinned = str(self.cid)

    def read_at(self, start: int, size: int) -> bytes:
        if self.cache is None:
            return self.fetch(start, start + size)
        # The cache itself does not stop at the end of the file.
        stop = min(start + size, self.size)
        data: bytes = self.cache._fetch(start, stop) if start < stop else b""  # noqa: SLF001 - fsspec's contract
        return data

    def fetch(self, start: int, stop: int) -> bytes:
        """Reads bytes from the file, not from the cache."""
        return self._here().read_at(start, stop - start)

    def prefetch(self, spans: Iterable[Span]) -> None:
        self._here().prefetch(spans)

    def _here(self) -> ObjectFile:
        if self._process != os.getpid():
            # In this order, because other threads use the file as soon as the process is set.
            self._file = self._open_file(self.pinned)
            self._process = os.getpid()
        return self._file


class IPFSFile(io.BufferedReader):
    """An open file, as `IPFSDatasetFileSystem.open` returns it.

    Args:
        fs: The filesystem.
        path: The path of the file.
        pinned: The CID of the file, if it is known.
        block_size: The number of bytes that a cache of fsspec, such as ``blockcache``, fetches at once.

    Attributes:
        size: The size of the file in bytes.
        blocksize: The argument `block_size`.
    """

    raw: PinnedFile

    def __init__(
        self, fs: Any, path: str, pinned: str | None = None, block_size: int | None = None
    ) -> None:
        super().__init__(PinnedFile(fs.object_file, path, pinned or path), _BUFFER_BYTES)
        self.fs = fs
        self.path = path
        self.size = self.raw.size
        self.blocksize: int = block_size or fs.blocksize

    @property
    def cache(self) -> Any:
        """The cache of fsspec through which the file is read; ``blockcache`` sets it."""
        return self.raw.cache

    @cache.setter
    def cache(self, cache: Any) -> None:
        self.raw.cache = cache

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return super().closed

    @closed.setter
    def closed(self, value: bool) -> None:
        """Has no effect; ``blockcache`` sets it after it has closed the file."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Reads bytes for a cache of fsspec, which calls this method."""
        return self.raw.fetch(start, end)

    def info(self) -> dict[str, Any]:
        """Returns the result of `IPFSDatasetFileSystem.info` when the file was opened."""
        cid = self.raw.cid
        return {
            "name": self.path,
            "size": self.size,
            "type": "file",
            "CID": None if cid is None else str(cid),
        }

    @property
    def details(self) -> dict[str, Any]:
        """The result of `info`, under the name that other files of fsspec have for it."""
        return self.info()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        # Since Python 3.13, buffered files have a `__reduce_ex__`, which raises an error.
        return self.__reduce__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.fs, self.path, self.raw.pinned, self.tell(), self.blocksize)


def _open_again(fs: Any, path: str, pinned: str, position: int, block_size: int) -> IPFSFile:
    file = IPFSFile(fs, path, pinned, block_size)
    file.seek(position)
    return file
