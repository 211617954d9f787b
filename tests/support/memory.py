"""Files and directories in memory that count what is read of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import ObjectDirectory, ObjectFile, ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipfs_dataset_core import Span


class MemoryFile(ObjectFile):
    """A file whose bytes are given, or made by a function of ``(start, stop)``."""

    def __init__(
        self, data: bytes | Callable[[int, int], bytes], name: str = "object", size: int = -1
    ) -> None:
        super().__init__()
        self.name = name
        self.cid = None
        self.size = len(data) if isinstance(data, bytes) else size
        self._data = data
        self.reads: list[Span] = []

    @property
    def bytes_read(self) -> int:
        return sum(stop - start for start, stop in self.reads)

    def read_at(self, start: int, size: int) -> bytes:
        start, stop = min(start, self.size), min(start + size, self.size)
        self.reads.append((start, stop))
        if isinstance(self._data, bytes):
            return self._data[start:stop]
        return self._data(start, stop)


class MemoryDirectory(ObjectDirectory):
    """A directory of files by relative path."""

    def __init__(self, files: Mapping[str, bytes], name: str = "folder") -> None:
        self.name = name
        self.cid = None
        self._files = dict(files)

    def names(self) -> list[str]:
        return sorted({path.split("/")[0] for path in self._files}, key=str.encode)

    def walk(self) -> Iterator[str]:
        return iter(sorted(self._files, key=lambda path: path.encode().split(b"/")))

    def open(self, path: str) -> MemoryFile:
        if path not in self._files:
            raise ObjectNotFoundError(f"{self.name!r} has no {path!r}")
        return MemoryFile(self._files[path], path)

    def contains(self, path: str) -> bool:
        return any(file == path or file.startswith(f"{path}/") for file in self._files)
