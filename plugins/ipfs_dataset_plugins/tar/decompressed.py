"""The decompressed content of a compressed TAR archive, read by position."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.archives.compression import (
    PIECE_BYTES,
    DecompressedStream,
    compression_of,
    other_format,
    unreadable_compression,
)
from ipfs_dataset_plugins.tar.headers import is_header

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile

# Each rewind decompresses the file from its start, and only hard links need one. The bound protects from
# hostile archives.
_MAX_REWINDS = 16


class DecompressedArchive:
    """A compressed archive as a `ReadableAt` file: reading forward is cheap, reading backward starts again.

    Attributes:
        name: The name of the archive in error messages.
        size: Infinite, because the size is not known before everything has been decompressed.

    Args:
        file: The compressed archive.
        compression: The result of `compression_of`.

    Raises:
        MissingDependencyError: No installed library reads this compression.
    """

    def __init__(self, file: ObjectFile, compression: str) -> None:
        self.name = file.name
        self.size = math.inf
        self._file = file
        self._compression = compression
        self._stream = DecompressedStream(file, compression)
        self._rewinds = 0
        self._ended = False

    def block_at(self, _: int) -> bytes | None:
        """Returns an identifier of the block of the compressed file that was read last."""
        return self._file.block_at(max(0, self._stream.consumed - 1))

    def read_at(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end.

        Raises:
            FormatError: The compressed data are damaged, end before `start`, or are followed by another
                archive.
            LimitError: There were too many rewinds, or the decompressed bytes are too many times more than
                the compressed ones.
        """
        if start < self._stream.produced:
            self._rewind()
        consumed, produced = self._stream.consumed, self._stream.produced
        while (ahead := start - self._stream.produced) > 0:
            if not self._read(min(PIECE_BYTES, ahead), produced, consumed):
                raise cut_off(self.name, start)
        # In pieces, so that a wrong size allocates no more memory than there are bytes.
        pieces: list[bytes] = []
        consumed, missing = self._stream.consumed, size
        while missing and (piece := self._read(min(PIECE_BYTES, missing), start, consumed)):
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, size: int, start: int, consumed: int) -> bytes:
        """Returns the next bytes.

        Args:
            size: The largest number of them.
            start: The position at which the current read began.
            consumed: The number of compressed bytes that had been consumed then.
        """
        data = self._stream.read(size)
        if not data and size and not self._ended:
            self._ended = True
            self._check_trailing(self._stream.trailing)
        if (unpacked := self._stream.produced - start) > self._file.limits.expansion_bytes:
            # Output may come from the last piece that an earlier read consumed.
            stored = self._stream.consumed - consumed + PIECE_BYTES
            self._file.limits.check_expansion(
                stored, unpacked, f"{self.name!r}, from decompressed byte {start} on,"
            )
        return data

    def _check_trailing(self, trailing: bytes) -> None:
        """Refuses an archive after the compressed data; warns about other bytes, as `gzip` does."""
        if not trailing:
            return
        kind = compression_of(trailing) or unreadable_compression(trailing)
        what = kind and f"data compressed by {kind}"
        what = what or ("a TAR archive" if is_header(trailing) else other_format(trailing))
        if what is not None:
            raise FormatError(
                f"{self.name!r} has {what} after its {self._compression} data. It can only be followed "
                "by data with the same compression. Publish them as separate objects."
            )
        warnings.warn(
            f"{self.name!r} has bytes after its {self._compression} data that are not compressed "
            f"({trailing[:8]!r}…). They are ignored; nothing is missing unless they were meant to be data.",
            stacklevel=2,
        )

    def _rewind(self) -> None:
        self._rewinds += 1
        if self._rewinds > _MAX_REWINDS:
            raise LimitError(
                f"{self.name!r} has hard links that go back in a compressed archive more than "
                f"{_MAX_REWINDS} times. Publish it as a plain .tar."
            )
        self._stream = DecompressedStream(self._file, self._compression)
