"""A file object for libraries that keep what they are given, and report errors in their own words."""

from __future__ import annotations

import io
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.toolkit.exits import check_exit, inside_library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.interfaces import ObjectFile


class FileView(io.RawIOBase):
    """Reads an object at a position of its own.

    Args:
        source: The file. It is not kept alive, so that a reader may keep what it opened with a view in a
            `weakref.WeakKeyDictionary` by file.
        padded: Whether a read beyond the end is filled up with zeros, as HDF5 expects it, not cut short.
    """

    def __init__(self, source: ObjectFile, *, padded: bool = False) -> None:
        super().__init__()
        self.size = source.size
        self._source = weakref.ref(source)
        self._padded = padded
        self._position = 0
        self._error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        source = self._source()
        if source is None:
            raise ValueError("the file was closed")
        view = memoryview(buffer).cast("B")
        try:
            check_exit()
            data = source.read_at(self._position, len(view))
        except BaseException as error:  # an interruption too, or it would be reported as damage
            self._error = error
            raise
        view[: len(data)] = data
        if self._padded:
            view[len(data) :] = bytes(len(view) - len(data))
        self._position += len(data)
        return len(data)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises what the source raised, where the library made an error of its own of it.

        Every call of the library belongs in here, and what turns its errors into `FormatError` around it;
        never a ``yield``, for the end of the process waits until a thread has left this.
        """
        with inside_library():
            try:
                yield
            except Exception:
                if self._error is None:
                    raise
                raise self._error from None
            finally:
                # Its traceback leads to what the library opened, and that to this view, in ways that the
                # garbage collector does not see: it would never be freed, nor the file closed.
                self._error = None
