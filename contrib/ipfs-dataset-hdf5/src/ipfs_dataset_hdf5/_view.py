"""A file object for h5py over an object in IPFS, with a position of its own."""

from __future__ import annotations

import io
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile


class View(io.RawIOBase):
    """Reads an object that somebody else keeps open: a cache keyed by it must not keep it alive.

    Attributes:
        error: What the source raised; HDF5 would report it as damage of the file.
    """

    def __init__(self, source: ObjectFile) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._source = weakref.ref(source)
        self._size = source.size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        source = self._source()
        if source is None:
            raise ValueError("the file was closed")
        view = memoryview(buffer).cast("B")
        try:
            data = source.read_at(self._position, len(view))
        except BaseException as error:
            self.error = error
            raise
        view[: len(data)] = data
        # HDF5 takes what is beyond the end for zeros, as it does with files on disk.
        view[len(data) :] = bytes(len(view) - len(data))
        self._position += len(data)
        return len(data)
