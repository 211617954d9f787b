"""Decompression of chunks with a limit of the output.

The codecs of zarr have no limit, so they would decompress a decompression bomb completely.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any

import numcodecs

from ipfs_dataset_core import LimitError
from ipfs_dataset_zarr.zstd_frames import decompressed_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOSC_HEADER_BYTES = 16
_LZMA_MEMORY_BYTES = 256 << 20
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
# The limit for Zstandard frames that do not declare their size. Only an upper bound of their size is known,
# so that the limit of a small chunk would refuse valid frames.
_UNDECLARED_BYTES = 64 << 20


def decompress(codec: str, data: bytes, max_bytes: int) -> Any:
    """Decompresses the data of a chunk.

    Args:
        codec: The name of the compressor, a key of `COMPRESSORS`.
        data: The compressed data.
        max_bytes: The maximum decompressed size in bytes.

    Returns:
        An object with the buffer interface, such as `bytes`.

    Raises:
        LimitError: The decompressed size is larger than `max_bytes`.
        ValueError: The data are damaged. The libraries of the compressors raise other exceptions too.
    """
    decompressed = COMPRESSORS[codec](data, max_bytes)
    _check(len(decompressed), max_bytes)
    return decompressed


def _check(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise LimitError(f"A chunk decompresses to more than the {max_bytes} bytes of a chunk.")


def _blosc(data: bytes, max_bytes: int) -> Any:
    # The header has four bytes of versions and flags, then three sizes of four bytes: decompressed, of a
    # block, and compressed.
    if len(data) < _BLOSC_HEADER_BYTES or _uint32(data, 12) != len(data):
        raise ValueError("it is cut off, or not compressed by blosc")
    _check(_uint32(data, 4), max_bytes)
    return numcodecs.Blosc().decode(data)


def _lz4(data: bytes, max_bytes: int) -> Any:
    _check(_uint32(data, 0), max_bytes)
    return numcodecs.LZ4().decode(data)


def _zstd(data: bytes, max_bytes: int) -> Any:
    declared, possible = decompressed_bytes(data)
    _check(declared, max_bytes)
    _check(possible, max(max_bytes, _UNDECLARED_BYTES))
    return numcodecs.Zstd().decode(data)


def _zlib(data: bytes, max_bytes: int) -> bytes:
    """Decompresses consecutive streams of zlib or gzip."""
    decompressed = b""
    while data:
        stream = zlib.decompressobj(_ZLIB_OR_GZIP)
        decompressed += stream.decompress(data, max_bytes + 1 - len(decompressed))
        _check(len(decompressed), max_bytes)
        if not stream.eof:
            raise ValueError("it is cut off")
        data = stream.unused_data
    return decompressed


def _bz2(data: bytes, max_bytes: int) -> bytes:
    return _decompress_stream(bz2.BZ2Decompressor(), data, max_bytes)


def _lzma(data: bytes, max_bytes: int) -> bytes:
    return _decompress_stream(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES), data, max_bytes)


def _decompress_stream(
    stream: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes, max_bytes: int
) -> bytes:
    decompressed = stream.decompress(data, max_bytes + 1)
    _check(len(decompressed), max_bytes)
    if not stream.eof:
        raise ValueError("it is cut off")
    return decompressed


def _uint32(data: bytes, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "little")


COMPRESSORS: dict[str, Callable[[bytes, int], Any]] = {
    "blosc": _blosc,
    "bz2": _bz2,
    "gzip": _zlib,
    "lz4": _lz4,
    "lzma": _lzma,
    "zlib": _zlib,
    "zstd": _zstd,
}
