"""Exact, counted and bounded reads from a binary stream."""

from __future__ import annotations

from typing import Protocol

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import varint

_READ_SIZE = 64 << 10
_SKIP_SIZE = 1 << 20


class Readable(Protocol):
    """A binary stream; `read` returns some bytes, and none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Window:
    """A stream from its present position on, read ahead by up to 64 KiB.

    Attributes:
        offset: Bytes taken so far.
    """

    def __init__(self, stream: Readable) -> None:
        self._read = stream.read
        self._buffer = b""
        self._position = 0
        self._end: int | None = None
        self.offset = 0

    def limit(self, size: int) -> int:
        """Makes the window end `size` bytes from here; returns where that is."""
        self._end = self.offset + size
        return self._end

    def at_end(self) -> bool:
        """Tells whether everything was taken.

        Raises:
            FormatError: The stream ends before the limit.
        """
        if self.peek(1):
            return False
        if self._end is not None and self.offset < self._end:
            raise FormatError(f"cut off at offset {self.offset} of {self._end}")
        return True

    def peek(self, size: int) -> bytes:
        """Returns the next bytes without taking them, fewer at the end."""
        if self._end is not None:
            size = min(size, self._end - self.offset)
        missing = size - (len(self._buffer) - self._position)
        if missing > 0:
            self._fill(missing)
        return self._buffer[self._position : self._position + size]

    def take(self, size: int) -> bytes:
        """Returns exactly `size` bytes; large ones are copied once.

        Raises:
            FormatError: The stream ends before.
        """
        data = self.peek(size)
        if len(data) < size:
            raise FormatError(f"cut off at offset {self.offset + len(data)}")
        self._position += size
        self.offset += size
        return data

    def skip(self, size: int) -> None:
        """Takes bytes that nobody needs."""
        while size > 0:
            size -= len(self.take(min(size, _SKIP_SIZE)))

    def take_varint(self) -> int:
        """Returns the number that comes next.

        Raises:
            FormatError: It is cut off or malformed.
        """
        value, size = varint.decode(self.peek(varint.MAX_BYTES))
        self.take(size)
        return value

    def _fill(self, missing: int) -> None:
        pieces = [self._buffer[self._position :]]
        while missing > 0:
            piece = self._read(max(missing, _READ_SIZE))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        self._buffer, self._position = b"".join(pieces), 0
