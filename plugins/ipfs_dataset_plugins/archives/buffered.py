"""Buffered reading of archives: many small reads of a parser become few large reads of a file."""

from __future__ import annotations

from typing import Protocol

from ipfs_dataset_core import FormatError, IPFSDatasetError, ObjectFile

PIECE_BYTES = 1 << 20


def cut_off(name: str, offset: int, advice: str = "") -> FormatError:
    """Returns the error for an archive that ends too early.

    Args:
        name: The archive.
        offset: The position, in bytes, that the archive should reach at least.
        advice: A sentence about what may be the cause, appended to the message.
    """
    return FormatError(
        f"{name!r} is cut off: it ends before byte {offset}, in the middle of a member. "
        f"Publish it again from a complete file.{advice and f' {advice}'}"
    )


class ReadableAt(Protocol):
    """A file, or the decompressed content of one, that is read by position.

    Attributes:
        name: The name of the archive in error messages.
        size: Bytes; infinite if the size is unknown before all of it has been read.
    """

    name: str

    @property
    def size(self) -> float: ...
    def read_at(self, start: int, size: int, /) -> bytes: ...
    def block_at(self, position: int, /) -> bytes | None: ...


class BufferedFile:
    """Reads an archive by position, fastest from front to back.

    Attributes:
        name: The name of the archive in error messages.

    Args:
        file: The archive.
        piece: The smallest number of bytes to request from the file at once: large for sequential reading;
            0 requests exactly the bytes that are read.
    """

    def __init__(self, file: ReadableAt, piece: int = PIECE_BYTES) -> None:
        self.name = file.name
        self._file = file
        self._piece = piece
        self._buffer = b""
        self._base = 0
        self._exact_until = 0

    @property
    def size(self) -> float:
        """The size of the archive in bytes; infinite if it is unknown."""
        return self._file.size

    def block_at(self, position: int) -> bytes | None:
        """Returns an identifier of the block with a byte; None if it is not known."""
        return self._file.block_at(position)

    def read(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end of the file.

        Raises:
            FormatError: The file ends before `start`.
        """
        piece, at = self.window(start, size)
        return piece[at : at + size]

    def window(self, start: int, size: int = 1) -> tuple[bytes, int]:
        """Returns a buffer that contains what `read` would return, and the offset of it in that buffer.

        A parser of many small headers slices the buffer itself, which costs less than a `read` for each.

        Raises:
            FormatError: The file ends before `start`.
        """
        at = start - self._base
        if at >= 0 and at + size <= len(self._buffer):
            return self._buffer, at
        if start > self._file.size:
            raise cut_off(self.name, start)
        return self._refill(start, size)

    def _refill(self, start: int, size: int) -> tuple[bytes, int]:
        at = start - self._base
        have = self._buffer[at:] if 0 <= at <= len(self._buffer) else b""
        self._base = start + len(have)
        rest = size - len(have)
        self._buffer = self._read_ahead(self._base, rest)
        if len(self._buffer) > rest:
            return have + self._buffer[:rest] if have else self._buffer, 0
        # The caller gets all of it: a copy in the buffer would keep a large member in memory twice.
        data, self._buffer = self._buffer, b""
        self._base += len(data)
        return have + data if have else data, 0

    def _read_ahead(self, start: int, size: int) -> bytes:
        """Returns `size` bytes and some that follow them, unless those that follow cannot be read.

        An unreadable block then fails the member that it belongs to, and not an earlier one.
        """
        whole = max(size, self._piece)
        if start < self._exact_until or whole == size:
            return self._file.read_at(start, size)
        try:
            return self._file.read_at(start, whole)
        except IPFSDatasetError as error:
            # Retryable errors have been waited for already, and a compressed stream cannot be resumed.
            if getattr(error, "retryable", False) or not isinstance(self._file, ObjectFile):
                raise
            self._exact_until = start + whole
            return self._file.read_at(start, size)


class RandomAccessFile(BufferedFile):
    """Reads scattered members of an archive by position; neighbours are served from one block."""

    def __init__(self, file: ObjectFile) -> None:
        super().__init__(file)
        self._piece_at = file.piece_at

    def _refill(self, start: int, size: int) -> tuple[bytes, int]:
        self._base, self._buffer = self._piece_at(start, size)
        return self._buffer, start - self._base
