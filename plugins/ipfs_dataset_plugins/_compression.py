"""Decompression of whole files as streams, at bounded memory: gzip, bzip2, xz, Zstandard."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from ipfs_dataset_plugins import _zstd
from ipfs_dataset_plugins._forward import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import ObjectFile

# `xz -9` needs 65 MiB; the format itself allows 4 GiB, which a stranger's file shall not take.
_MAX_XZ_BYTES = 256 << 20
_LONGEST_MAGIC = 6

DAMAGE = (OSError, EOFError, zlib.error)
"""What reading a stream of `open_decompressed` raises where the compressed data are damaged."""


class Decompressor(Protocol):
    """What the decompressors of the standard library have in common, but gzip's."""

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


def open_decompressed(file: ObjectFile, compression: str) -> BinaryIO:
    """Returns a stream of what a compressed file holds, from its start; `file` stays open.

    Raises:
        MissingDependencyError: Nothing installed reads this compression.
    """
    compressed = cast("BinaryIO", io.BufferedReader(_Unclosing(file), PIECE_BYTES))
    if compression == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=compressed))
    stream = _Decompressed(compressed, compression)
    return cast("BinaryIO", io.BufferedReader(stream, PIECE_BYTES))


class _Unclosing(io.RawIOBase):
    """Reads a file from its start at a position of its own, and leaves it open at the end."""

    def __init__(self, file: ObjectFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Decompressed(io.RawIOBase):
    """Decompresses one stream or several, one after the other, and ignores what follows them."""

    def __init__(self, source: BinaryIO, compression: str) -> None:
        super().__init__()
        self._source = source
        self._compression = compression
        self._new, self._error = _decompressors(compression)
        self._current = self._new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data and (given := self._input()) is not None:
            data = self._decompress(given, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _decompress(self, given: bytes, size: int) -> bytes:
        try:
            return self._current.decompress(given, size)
        except self._error as error:
            raise OSError(str(error)) from error

    def _input(self) -> bytes | None:
        """Returns what to decompress next, None at the end of the last stream."""
        if self._current.eof:
            return self._next_stream()
        if not self._current.needs_input:
            return b""
        given = self._source.read(io.DEFAULT_BUFFER_SIZE)
        if not given:
            raise EOFError("the compressed data end in the middle")
        return given

    def _next_stream(self) -> bytes | None:
        given = self._current.unused_data.lstrip(b"\0")
        while len(given) < _LONGEST_MAGIC and (more := self._source.read(io.DEFAULT_BUFFER_SIZE)):
            given = (given + more).lstrip(b"\0")
        if compression_of(given) != self._compression:
            return None
        self._current = self._new()
        return given


def _decompressors(compression: str) -> tuple[Callable[[], Decompressor], type[Exception]]:
    """Returns what makes decompressors of a kind, and the error that they raise."""
    if compression == "bzip2":
        return bz2.BZ2Decompressor, OSError
    if compression == "xz":
        return _new_xz, lzma.LZMAError
    return _zstd.decompressors()


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_BYTES)
