"""Decompression of whole files as a stream of pieces, at bounded memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1 << 20
_INPUT_BYTES = 64 << 10
# All that these stand for comes out at once, and 4 bytes may stand for 128 KiB.
_ZSTD_INPUT_BYTES = 1 << 10
_WITH_GZIP_HEADER = 31


def is_compressed(source: ObjectFile) -> bool:
    """Tells whether a file begins as compressed ones do; text does not."""
    return source.read_at(0, len(_ZSTD)).startswith((_GZIP, _ZSTD))


def decompressed(source: ObjectFile) -> Iterator[bytes]:
    """Yields what a compressed file holds.

    Raises:
        FormatError: It is damaged or cut off.
    """
    stream = _gunzipped(source) if source.read_at(0, 2) == _GZIP else _unzstd(source)
    try:
        yield from stream
    except (zlib.error, EOFError) as error:
        raise FormatError(
            f"{source.name!r} is damaged, or cut off: {error}. Publish it again from a complete file."
        ) from error


def _inputs(source: ObjectFile) -> Iterator[bytes]:
    for position in range(0, source.size, _INPUT_BYTES):
        yield source.read_at(position, _INPUT_BYTES)


def _gunzipped(source: ObjectFile) -> Iterator[bytes]:
    """Decompresses one member after the other, as ``cat a.gz b.gz`` makes them."""
    member = zlib.decompressobj(_WITH_GZIP_HEADER)
    for piece in _inputs(source):
        given = piece
        while given:
            if member.eof:
                member = zlib.decompressobj(_WITH_GZIP_HEADER)
            yield member.decompress(given, _PIECE_BYTES)
            given = member.unused_data.lstrip(b"\0") if member.eof else member.unconsumed_tail
    if not member.eof:
        yield member.flush()  # what did not fit into the last piece
    if not member.eof:
        raise EOFError("the compressed data end in the middle")


def _unzstd(source: ObjectFile) -> Iterator[bytes]:
    """Decompresses one frame after the other."""
    import zstandard  # noqa: PLC0415 - for these files alone

    context = zstandard.ZstdDecompressor()
    frame = context.decompressobj()
    try:
        for piece in _inputs(source):
            given = piece
            while given:
                if frame.eof:
                    frame = context.decompressobj()
                yield frame.decompress(given[:_ZSTD_INPUT_BYTES])
                rest = given[_ZSTD_INPUT_BYTES:]
                given = frame.unused_data + rest if frame.eof else rest
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error
    if not frame.eof:
        raise EOFError("the compressed data end in the middle")
