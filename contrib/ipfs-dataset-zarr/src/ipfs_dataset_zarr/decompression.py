"""Unpacks what compressors made, never to more than it may be: zarr's own codecs unpack whatever there is."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any

import numcodecs

from ipfs_dataset_core import LimitError
from ipfs_dataset_zarr.zstd_frames import unpacked_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOSC_HEADER_BYTES = 16
_LZMA_MEMORY_BYTES = 256 << 20
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
# What zstd may unpack to where it does not say so: how large the blocks are that it could be made of.
_UNDECLARED_BYTES = 64 << 20


def unpack(codec: str, data: bytes, most: int) -> Any:
    """Returns what a compressor packed, as something with a buffer.

    Args:
        codec: One of `COMPRESSORS`.
        data: What it made.
        most: How many bytes it may have packed.

    Raises:
        LimitError: There are more; they were not kept.
        ValueError: The data are damaged; other exceptions of the library that unpacks them as well.
    """
    unpacked = COMPRESSORS[codec](data, most)
    _check(len(unpacked), most)
    return unpacked


def _check(size: int, most: int) -> None:
    if size > most:
        raise LimitError(f"A chunk unpacks to more than the {most} bytes of a chunk.")


def _blosc(data: bytes, most: int) -> Any:
    # The header: four bytes of versions and flags, then three sizes: unpacked, of a block, packed.
    if len(data) < _BLOSC_HEADER_BYTES or _uint32(data, 12) != len(data):
        raise ValueError("it is cut off, or not packed by blosc")
    _check(_uint32(data, 4), most)
    return numcodecs.Blosc().decode(data)


def _lz4(data: bytes, most: int) -> Any:
    _check(_uint32(data, 0), most)
    return numcodecs.LZ4().decode(data)


def _zstd(data: bytes, most: int) -> Any:
    declared, possible = unpacked_bytes(data)
    _check(declared, most)
    _check(possible, max(most, _UNDECLARED_BYTES))
    return numcodecs.Zstd().decode(data)


def _zlib(data: bytes, most: int) -> bytes:
    """Unpacks zlib's and gzip's streams, of which there may be several."""
    unpacked = b""
    while data:
        stream = zlib.decompressobj(_ZLIB_OR_GZIP)
        unpacked += stream.decompress(data, most + 1 - len(unpacked))
        _check(len(unpacked), most)
        if not stream.eof:
            raise ValueError("it ends early")
        data = stream.unused_data
    return unpacked


def _bz2(data: bytes, most: int) -> bytes:
    return _whole(bz2.BZ2Decompressor(), data, most)


def _lzma(data: bytes, most: int) -> bytes:
    return _whole(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES), data, most)


def _whole(stream: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes, most: int) -> bytes:
    unpacked = stream.decompress(data, most + 1)
    _check(len(unpacked), most)
    if not stream.eof:
        raise ValueError("it ends early")
    return unpacked


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
