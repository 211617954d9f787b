"""Decompression of whole files as streams, at bounded memory: gzip, bzip2, xz, Zstandard."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from ipfs_dataset_plugins.archives import deflate as _deflate
from ipfs_dataset_plugins.archives import zstd as _zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset_core import ObjectFile

# `xz -9` needs 65 MiB; the format itself allows 4 GiB, which a stranger's file shall not take.
_MAX_XZ_BYTES = 256 << 20
_LONGEST_MAGIC = 6

# What is unpacked is parsed while the processor's cache still has it: larger pieces take a quarter longer.
PIECE_BYTES = 256 << 10

DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, *_deflate.DAMAGE)
"""What `decompressed` raises where the compressed data are damaged."""


class Decompressor(Protocol):
    """What decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def compression_of(head: bytes) -> str | None:
    """Returns the compression that the first bytes of a file are of."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # noqa: PLR2004 - a skippable frame
        return "zstd"
    magic = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    return next((name for start, name in magic.items() if head.startswith(start)), None)


def decompressed(file: ObjectFile, compression: str) -> Iterator[bytes]:
    """Yields what a compressed file holds, from its start, in full pieces but for the last.

    Raises:
        MissingDependencyError: Nothing installed reads this compression.
    """
    source = _Unclosing(file)
    if compression == "gzip" and _deflate.IGzipFile is not None:
        stream = _deflate.IGzipFile(fileobj=cast("BinaryIO", source), mode="rb")
        return iter(partial(stream.read, PIECE_BYTES), b"")
    return _pieces(_Streams(source, compression))


def _pieces(streams: _Streams) -> Iterator[bytes]:
    pieces: list[bytes] = []
    missing = PIECE_BYTES
    while (data := streams.read(missing)) is not None:
        pieces.append(data)
        missing -= len(data)
        if not missing:
            yield b"".join(pieces)
            pieces, missing = [], PIECE_BYTES
    yield b"".join(pieces)


class _Unclosing(io.RawIOBase):
    """Reads a file from its start at a position of its own, and leaves it open at the end."""

    def __init__(self, file: ObjectFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read_at(self._position, size if size >= 0 else self._file.size)
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Streams:
    """Decompresses one stream or several, one after the other; what follows them is ignored, or refused."""

    def __init__(self, source: _Unclosing, compression: str) -> None:
        self._source = source
        self._compression = compression
        self._new, self._error = _decompressors(compression)
        self._current = self._new()

    def read(self, most: int) -> bytes | None:
        """Returns what comes next, at times nothing, None at the end of the last stream."""
        given = self._input()
        if given is None:
            return None
        try:
            return self._current.decompress(given, most)
        except self._error as error:
            raise OSError(str(error)) from error

    def _input(self) -> bytes | None:
        """Returns what to decompress next, None at the end of the last stream."""
        if self._current.eof:
            return self._next_stream()
        if not self._current.needs_input:
            return b""
        given = self._source.read(PIECE_BYTES)
        if not given:
            raise EOFError("the compressed data end in the middle")
        return given

    def _next_stream(self) -> bytes | None:
        given = self._current.unused_data.lstrip(b"\0")
        while len(given) < _LONGEST_MAGIC and (more := self._source.read(PIECE_BYTES)):
            given = (given + more).lstrip(b"\0")
        if compression_of(given) == self._compression:
            self._current = self._new()
            return given
        if given and self._compression == "gzip":
            raise OSError("what follows is no gzip")  # as `gzip` has it; other modules ignore it
        return None


def _decompressors(compression: str) -> tuple[Callable[[], Decompressor], type[Exception]]:
    """Returns what makes decompressors of a kind, and the error that they raise."""
    if compression == "gzip":
        return _deflate.GzipDecompressor, zlib.error
    if compression == "bzip2":
        return bz2.BZ2Decompressor, OSError
    if compression == "xz":
        return _new_xz, lzma.LZMAError
    return _zstd.decompressors()


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_BYTES)
