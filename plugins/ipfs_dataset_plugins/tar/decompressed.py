"""A compressed TAR archive by position: forward at no cost, backward by decompressing anew."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, IPFSDatasetError, LimitError
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.archives.compression import DAMAGE, PIECE_BYTES, decompressed

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile

# Only hard links go back. Each time costs the whole way again, so a hostile archive gets few.
_MAX_REWINDS = 16


class DecompressedBytes:
    """The decompressed bytes of a file, by position.

    Raises:
        MissingDependencyError: Nothing installed reads this compression.
    """

    def __init__(self, file: ObjectFile, compression: str) -> None:
        self.name = file.name
        self.size = math.inf
        self._file = file
        self._compression = compression
        self._pieces = decompressed(file, compression)
        self._left = b""  # of the last piece
        self._position = 0
        self._rewinds = 0

    def read_at(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end.

        Raises:
            FormatError: The compressed data are damaged, or end before `start`.
            LimitError: This went backward too often.
        """
        if start < self._position:
            self._rewind()
        while self._position < start:
            if not self._read(min(PIECE_BYTES, start - self._position)):
                raise cut_off(self.name, start)
        if size <= PIECE_BYTES:
            return self._read(size)
        # In pieces, so that a size that is a lie costs no more than what there is.
        stop = start + size
        pieces = []
        while piece := self._read(min(PIECE_BYTES, stop - self._position)):
            pieces.append(piece)
        return b"".join(pieces)

    def drain(self, most: int) -> None:
        """Reads what follows the archive, up to a bound: checksums of the compression come last.

        Raises:
            FormatError: The compressed data are damaged.
        """
        stop = self._position + most
        while self._position < stop and self._read(PIECE_BYTES):
            pass

    def _read(self, size: int) -> bytes:
        while len(self._left) < size and (piece := self._next_piece()):
            self._left = self._left + piece if self._left else piece
        data, self._left = self._left[:size], self._left[size:]
        self._position += len(data)
        return data

    def _next_piece(self) -> bytes:
        """Returns the next piece, nothing at the end."""
        try:
            return next(self._pieces, b"")
        except IPFSDatasetError:
            raise
        except DAMAGE as error:
            raise FormatError(
                f"{self.name!r} is damaged: its {self._compression} data cannot be decompressed "
                f"after {self._position} bytes ({error}). Publish it again from a complete file."
            ) from error

    def _rewind(self) -> None:
        self._rewinds += 1
        if self._rewinds > _MAX_REWINDS:
            raise LimitError(
                f"{self.name!r} has hard links that go back in a compressed archive more than "
                f"{_MAX_REWINDS} times. Publish it as a plain .tar."
            )
        self._pieces = decompressed(self._file, self._compression)
        self._left = b""
        self._position = 0
