"""Decompression of whole files as a stream of pieces, at bounded memory."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1 << 20
_INPUT_BYTES = 64 << 10
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
    given = b""
    for piece in _inputs(source):
        given += piece
        while given:
            if member.eof:
                given = given.lstrip(b"\0")
                member = zlib.decompressobj(_WITH_GZIP_HEADER)
                continue
            yield member.decompress(given, _PIECE_BYTES)
            given = member.unused_data if member.eof else member.unconsumed_tail
    # What was put back because the output was full has no more input, and yet more output.
    if not member.eof:
        yield member.flush()
    if not member.eof:
        raise EOFError("the compressed data end in the middle")


def _unzstd(source: ObjectFile) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415 - for this format alone

    counted = _Counted(source)
    reader = zstandard.ZstdDecompressor().stream_reader(counted, read_across_frames=True)
    try:
        while piece := reader.read(_PIECE_BYTES):
            yield piece
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error


class _Counted(io.RawIOBase):
    def __init__(self, source: ObjectFile) -> None:
        super().__init__()
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
