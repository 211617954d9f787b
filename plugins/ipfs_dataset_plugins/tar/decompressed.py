"""A compressed TAR archive by position: forward at no cost, backward by decompressing anew."""

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
        self._stream = DecompressedStream(file, compression)
        self._rewinds = 0
        self._ended = False

    def read_at(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end.

        Raises:
            FormatError: The compressed data are damaged, or end before `start`, or another archive follows
                them.
            LimitError: This went backward too often, or what is read is too many times larger than what is
                stored.
        """
        if start < self._stream.produced:
            self._rewind()
        consumed, produced = self._stream.consumed, self._stream.produced
        while (ahead := start - self._stream.produced) > 0:
            if not self._read(min(PIECE_BYTES, ahead), produced, consumed):
                raise cut_off(self.name, start)
        # In pieces, so that a size that is a lie costs no more than what there is.
        pieces: list[bytes] = []
        consumed, missing = self._stream.consumed, size
        while missing and (piece := self._read(min(PIECE_BYTES, missing), start, consumed)):
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read(self, size: int, start: int, consumed: int) -> bytes:
        """Returns what comes next; reading began at `start`, and at `consumed` in the file."""
        data = self._stream.read(size)
        if not data and size and not self._ended:
            self._ended = True
            self._check_trailing(self._stream.trailing)
        if (unpacked := self._stream.produced - start) > self._file.limits.expansion_bytes:
            # What was taken last stands for some of that, whenever it was taken.
            stored = self._stream.consumed - consumed + PIECE_BYTES
            self._file.limits.check_expansion(
                stored, unpacked, f"{self.name!r}, from decompressed byte {start} on,"
            )
        return data

    def _check_trailing(self, trailing: bytes) -> None:
        """Warns of bytes behind the compressed data, as `gzip` does, or refuses an archive there."""
        if not trailing:
            return
        kind = compression_of(trailing) or unreadable_compression(trailing)
        what = kind and f"data compressed by {kind}"
        what = what or ("a TAR archive" if is_header(trailing) else other_format(trailing))
        if what is not None:
            raise FormatError(
                f"{self.name!r} has {what} behind its {self._compression} data: only what is "
                "compressed the same "
                "way is read on. Publish them as separate objects."
            )
        warnings.warn(
            f"{self.name!r} has bytes behind its {self._compression} data that are none "
            f"({trailing[:8]!r}…). They are "
            "ignored; nothing is missing unless they were meant to be data.",
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
