"""A directory that is chunked, hashed and emitted while it is written, file by file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import ExportError
from ipfs_dataset_core.interfaces import FileSink
from ipfs_dataset_core.ipld import FileBuilder, build_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core.ipld import CID, Built, Profile


class TreeSink(FileSink):
    """Builds a directory at flat memory.

    Args:
        profile: The import profile.
        emit: Takes the blocks.
    """

    def __init__(self, profile: Profile, emit: Callable[[CID, bytes], None]) -> None:
        self._profile = profile
        self._emit = emit
        self._built: dict[str, Built] = {}
        self._open: str | None = None

    def create(self, path: str) -> io.BufferedIOBase:
        if self._open is not None:
            raise ExportError(f"{self._open!r} is still open: close it before {path!r} is created")
        if path in self._built:
            raise ExportError(f"{path!r} was written already")
        self._open = path
        return _TreeFile(FileBuilder(self._profile, self._emit), self._closed)

    def cid_of(self, path: str) -> CID:
        try:
            return self._built[path].cid
        except KeyError:
            raise ExportError(f"{path!r} was not written, or is not closed yet") from None

    def finish(self) -> CID:
        """Emits the directories and returns the CID of the topmost."""
        if self._open is not None:
            raise ExportError(f"{self._open!r} was never closed")
        return build_tree(self._built.items(), self._profile, self._emit).cid

    def _closed(self, built: Built) -> None:
        assert self._open is not None
        self._built[self._open] = built
        self._open = None


class _TreeFile(io.BufferedIOBase):
    def __init__(self, builder: FileBuilder, closed: Callable[[Built], None]) -> None:
        self._builder = builder
        self._on_close = closed

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        before = self.tell()
        self.writelines((data,))
        return self.tell() - before

    def writelines(self, lines: Iterable[Any]) -> None:
        if self.closed:
            raise ValueError("write to a closed file")
        self._builder.extend(lines)

    def tell(self) -> int:
        return self._builder.size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._on_close(self._builder.finish())

    def __del__(self) -> None:
        """Drops a file that was never closed; `io` would close it, and so publish what is cut off.

        The garbage collector may run at any line of any thread, also while the upload holds its locks.
        """
