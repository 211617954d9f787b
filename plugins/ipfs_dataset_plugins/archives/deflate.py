"""Deflate, gzip and CRC-32 by the standard library, or by the package isal, which is faster.

Both give the same bytes or refuse; only the words differ in which they do.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DAMAGE", "GzipDecompressor", "crc32", "inflater", "new_gzip"]

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


inflater: Callable[[], Any] = partial(zlib.decompressobj, -zlib.MAX_WBITS)
"""Makes what decompresses one raw deflate stream: `decompress(data, max_length)`."""
crc32: Callable[[bytes], int] = zlib.crc32
new_gzip: Callable[[], Any] = GzipDecompressor
"""Makes what decompresses one gzip stream, with the interface of `bz2`'s decompressors."""
DAMAGE: tuple[type[Exception], ...] = (zlib.error,)
"""What the others raise where data are damaged."""

with suppress(ImportError):
    from isal import igzip_lib, isal_zlib

    # Not `isal_zlib.decompressobj`, which takes a tenth longer for small members.
    inflater = partial(igzip_lib.IgzipDecompressor, igzip_lib.DECOMP_DEFLATE)
    crc32 = isal_zlib.crc32
    DAMAGE = (zlib.error, cast("type[Exception]", isal_zlib.error))
    new_gzip = partial(igzip_lib.IgzipDecompressor, igzip_lib.DECOMP_GZIP)
