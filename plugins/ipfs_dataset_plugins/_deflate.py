"""Deflate, gzip and CRC-32 by the standard library, or by the package isal, which is faster.

Both give the same bytes or refuse; only the words differ in which they do.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DAMAGE", "GzipDecompressor", "IGzipFile", "crc32", "decompressobj"]

IGzipFile: Any = None
"""Reads a gzip file as `gzip.GzipFile` does; None where isal is not installed."""
decompressobj: Callable[[int], Any] = zlib.decompressobj
crc32: Callable[[bytes], int] = zlib.crc32
DAMAGE: tuple[type[Exception], ...] = (zlib.error,)
"""What the others raise where data are damaged; `IGzipFile` also raises `OSError` and `EOFError`."""

with suppress(ImportError):
    from isal import igzip, isal_zlib

    IGzipFile = igzip.IGzipFile
    decompressobj, crc32 = isal_zlib.decompressobj, isal_zlib.crc32
    DAMAGE = (zlib.error, cast("type[Exception]", isal_zlib.error))

_GZIP = 16 + zlib.MAX_WBITS


class GzipDecompressor:
    """Decompresses one gzip stream, with the interface of `bz2`'s decompressors.

    `gzip.GzipFile` takes a fifth longer before Python 3.12, for it works in pieces of 8 KiB.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        # The checksum behind the data is left over for as long as any of them are.
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max(0, max_length))
