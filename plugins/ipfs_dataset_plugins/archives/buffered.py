"""Reads an archive front to back in large pieces, whatever small reads its parser makes."""

from __future__ import annotations

from typing import Protocol

from ipfs_dataset_core import FormatError, IPFSDatasetError, ObjectFile

PIECE_BYTES = 1 << 20


def cut_off(name: str, offset: int) -> FormatError:
    """Returns the error about an archive that ends where more should follow."""
    return FormatError(
        f"{name!r} is cut off: it ends before byte {offset}, in the middle of a member. "
        "Publish it again from a complete file."
    )


class Seekable(Protocol):
    """What is read forward: a file, or what a compressed one holds.

    Attributes:
        name: What errors call it.
        size: Bytes; infinite where only reading would tell.
    """

    name: str

    @property
    def size(self) -> float: ...
    def read_at(self, start: int, size: int, /) -> bytes: ...


class ForwardBytes:
    """Bytes of a file by position, fastest from front to back.

    Args:
        file: The archive.
        piece: How many bytes to ask for at least: large for reading all, one block for hopping.
    """

    def __init__(self, file: Seekable, piece: int = PIECE_BYTES) -> None:
        self.name = file.name
        self._file = file
        self._piece = piece
        self._buffer = b""
        self._base = 0
        self._careful_until = 0

    def read(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end of the file.

        Raises:
            FormatError: The file ends before `start`.
        """
        piece, at = self.window(start, size)
        return piece[at : at + size]

    def window(self, start: int, size: int = 1) -> tuple[bytes, int]:
        """Returns a piece that holds what `read` returns, and where in it that is; raises likewise.

        Cutting what is needed from it is cheaper than reading every header by itself.
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
        self._buffer = self._ahead(self._base, rest)
        if len(self._buffer) > rest:
            return have + self._buffer[:rest] if have else self._buffer, 0
        # All of it was asked for: keeping it as well would hold a large member twice.
        data, self._buffer = self._buffer, b""
        self._base += len(data)
        return have + data if have else data, 0

    def _ahead(self, start: int, size: int) -> bytes:
        """Returns `size` bytes and what follows them, but not what cannot be read and is not asked for.

        So the members before it are read, and the error is that of the member that it belongs to.
        """
        whole = max(size, self._piece)
        if start < self._careful_until or whole == size:
            return self._file.read_at(start, size)
        try:
            return self._file.read_at(start, whole)
        except IPFSDatasetError as error:
            # A source that is gone was waited for, and a compressed archive cannot be read on.
            if getattr(error, "retryable", False) or not isinstance(self._file, ObjectFile):
                raise
            self._careful_until = start + whole
            return self._file.read_at(start, size)


class HoppingBytes(ForwardBytes):
    """Bytes of a file by position, for who hops through it from member to member; some are neighbours."""

    def __init__(self, file: ObjectFile) -> None:
        super().__init__(file)
        self._piece_at = file.piece_at

    def _refill(self, start: int, size: int) -> tuple[bytes, int]:
        self._base, self._buffer = self._piece_at(start, size)
        return self._buffer, start - self._base
