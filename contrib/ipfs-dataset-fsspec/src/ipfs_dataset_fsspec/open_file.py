"""Open files: buffered, bound to the CID that they had when opened, of use in other processes too."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, SupportsIndex

from ipfs_dataset_core import ObjectFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core import Span

# Enough to make lines cheap, and so little that reading a few bytes rarely needs a second block.
_BUFFER_BYTES = 16 << 10


class PinnedFile(ObjectFile):
    """A file that each process opens for itself, as threads and sockets do not survive a fork.

    Args:
        open_file: Returns the file at a path.
        path: What errors call the file.
        pinned: What is opened.

    Attributes:
        pinned: What other processes open: the CID, or the path where nothing is proven.
        cache: A cache of fsspec's through which reads go, None for none.
    """

    mode = "rb"

    def __init__(self, open_file: Callable[[str], ObjectFile], path: str, pinned: str) -> None:
        super().__init__()
        self.cache: Any = None
        self._open_file = open_file
        self.pinned = pinned
        self._process, self._file = os.getpid(), open_file(pinned)
        self.name = path
        self.size, self.cid, self.limits = self._file.size, self._file.cid, self._file.limits
        if self.cid is not None:
            self.pinned = str(self.cid)

    def read_at(self, start: int, size: int) -> bytes:
        if self.cache is None:
            return self.fetch(start, start + size)
        # A cache does not stop at the end of the file by itself.
        stop = min(start + size, self.size)
        data: bytes = self.cache._fetch(start, stop) if start < stop else b""  # noqa: SLF001 - fsspec's contract
        return data

    def fetch(self, start: int, stop: int) -> bytes:
        """Returns bytes of the file, past the cache."""
        return self._here().read_at(start, stop - start)

    def prefetch(self, spans: Iterable[Span]) -> None:
        self._here().prefetch(spans)

    def _here(self) -> ObjectFile:
        if self._process != os.getpid():
            self._process, self._file = os.getpid(), self._open_file(self.pinned)
        return self._file


class IPFSFile(io.BufferedReader):
    """What opening a path returns.

    Args:
        fs: The filesystem.
        path: What was opened.
        pinned: The CID that it had, where that is known already.
        block_size: How many bytes a cache of fsspec's, such as ``blockcache``, fetches at once.

    Attributes:
        size: Bytes.
        blocksize: As given.
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
        """The cache of fsspec's through which this file is read; ``blockcache`` sets one."""
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
        """Has no effect; ``blockcache`` sets it after it closed the file."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Returns bytes for such a cache, as of fsspec's own files."""
        return self.raw.fetch(start, end)

    def info(self) -> dict[str, Any]:
        """Returns what `IPFSDatasetFileSystem.info` said when the file was opened."""
        cid = self.raw.cid
        return {
            "name": self.path,
            "size": self.size,
            "type": "file",
            "CID": None if cid is None else str(cid),
        }

    @property
    def details(self) -> dict[str, Any]:
        """The same, as fsspec's own files call it."""
        return self.info()

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        # From Python 3.13 on, buffered files have one of their own, which refuses.
        return self.__reduce__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.fs, self.path, self.raw.pinned, self.tell(), self.blocksize)


def _open_again(fs: Any, path: str, pinned: str, position: int, block_size: int) -> IPFSFile:
    file = IPFSFile(fs, path, pinned, block_size)
    file.seek(position)
    return file
