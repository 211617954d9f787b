"""Decompression of whole files as streams, at bounded memory: gzip, bzip2, xz, LZMA, Zstandard."""

from __future__ import annotations

import bz2
import lzma
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.archives import deflate as _deflate
from ipfs_dataset_plugins.archives import zstd as _zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import Limits, ObjectFile

# What is unpacked is parsed while the processor's cache still has it: larger pieces take a quarter longer.
PIECE_BYTES = 256 << 10

_READABLE = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_UNREADABLE = {
    b"\x1f\x9d": "compress (.Z)",
    b"\x1f\xa0": "compress -H (LZH)",
    b"\x1f\x1e": "pack (.z)",
    b"LZIP": "lzip",
    b"LRZI": "lrzip",
    b"\x89LZO\0\r\n\x1a\n": "lzop",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\x02\x21\x4c\x18": "LZ4",
    b"\x03\x21\x4c\x18": "LZ4",
    b"\xff\x06\0\0sNaPpY": "Snappy",
    b"BZ0": "bzip",
}
_OTHER_FORMATS = {
    b"PK\3\4": "a ZIP archive",
    b"PK\5\6": "a ZIP archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\7": "a RAR archive",
    b"070701": "a cpio archive",
    b"070702": "a cpio archive",
    b"070707": "a cpio archive",
    b"\xc7\x71": "a cpio archive",
    b"\x71\xc7": "a cpio archive",
    b"!<arch>\n": "an ar archive",
    b"xar!": "a XAR archive",
    b"MSCF": "a CAB archive",
}
_LZMA_HEADER_BYTES = 13
_MOST_LZMA_PROPERTIES = 9 * 5 * 5
_SMALLEST_LZMA_WINDOW = 4096
_UNKNOWN_LZMA_SIZE = (1 << 64) - 1
# What xz needs of memory besides its window.
_XZ_OVERHEAD_BYTES = 1 << 20
# As much as shows whether a TAR header follows.
_TRAILING_BYTES = 512

_Error = type[Exception]
_DAMAGE: tuple[_Error, ...] = (OSError, EOFError, lzma.LZMAError, *_deflate.DAMAGE)


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
    """Returns the compression, of those that can be read, that the first bytes of a file are of."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # noqa: PLR2004 - a skippable frame
        return "zstd"
    found = _starting(head, _READABLE)
    return "LZMA" if found is None and _is_lzma(head) else found


def unreadable_compression(head: bytes) -> str | None:
    """Returns the compression, of those that cannot be read, that the first bytes of a file are of."""
    return _starting(head, _UNREADABLE)


def other_format(head: bytes) -> str | None:
    """Returns which archive, such as "a ZIP archive", the first bytes of a file belong to."""
    return _starting(head, _OTHER_FORMATS)


def _starting(head: bytes, names: dict[bytes, str]) -> str | None:
    return next((name for start, name in names.items() if head.startswith(start)), None)


def _is_lzma(head: bytes) -> bool:
    """Tells whether a file starts as those of `lzma` do, which have no magic bytes.

    The same fields are tested as by xz: the properties, a window of 2^n or 3·2^n, a size that is unknown
    or below 256 GiB, and the first byte of the data, which is always 0.
    """
    if len(head) <= _LZMA_HEADER_BYTES or head[0] >= _MOST_LZMA_PROPERTIES:
        return False
    window, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    lowest_bit = window & -window
    return (
        window >= _SMALLEST_LZMA_WINDOW
        and window in (lowest_bit, 3 * lowest_bit, 0xFFFFFFFF)
        and (size == _UNKNOWN_LZMA_SIZE or size < 1 << 38)
        and head[_LZMA_HEADER_BYTES] == 0
    )


class Decompressed:
    """What a compressed file holds, from front to back: one compressed stream or several.

    Attributes:
        consumed: How many bytes of the file were read so far.
        produced: How many decompressed bytes were returned so far.
        trailing: At the end: the first bytes of what follows the compressed data and is no more of them,
            without the zeros in front. Empty where nothing follows.

    Args:
        file: Is left open.
        compression: What `compression_of` returned.
        most: How many bytes of the file to read at most; what follows counts as missing.

    Raises:
        MissingDependencyError: Nothing installed reads this compression.
    """

    def __init__(self, file: ObjectFile, compression: str, *, most: int | None = None) -> None:
        self.consumed = 0
        self.produced = 0
        self.trailing = b""
        self._file = file
        self._compression = compression
        self._most = file.size if most is None else min(most, file.size)
        self._new = decompressor(compression, file.limits)
        self._current = self._new()

    def read(self, most: int) -> bytes:
        """Returns the next bytes, at least one and at most `most`; none at the end.

        Raises:
            FormatError: The compressed data are damaged, or end too early.
            LimitError: Decompression needs a larger window than is allowed.
        """
        while (given := self._input()) is not None:
            try:
                data = self._current.decompress(given, most)
            except (*_DAMAGE, *_zstd.errors()) as error:
                raise self._refusal(error) from error
            if data:
                self.produced += len(data)
                return data
        return b""

    def _refusal(self, error: Exception) -> FormatError | LimitError:
        name, compression = self._file.name, self._compression
        if needs_larger_window(error):
            return LimitError(
                f"{name!r} is compressed by {compression} with a window larger than the limit of "
                f"{self._file.limits.window_bytes} bytes: where you trust it and have that much memory for "
                "each reading process, give limits=Limits(window_bytes=…), or compress it again with a "
                "smaller "
                "window, as by xz -9 or zstd --long=27"
            )
        return FormatError(
            f"{name!r} is damaged: its {compression} data cannot be decompressed after {self.produced} "
            f"decompressed bytes, at or before byte {self.consumed} of the file ({error}). Publish it again "
            "from a complete file."
        )

    def _input(self) -> bytes | None:
        """Returns what to decompress next, None at the end of the last stream."""
        if self._current.eof:
            return self._next_stream()
        if not self._current.needs_input:
            return b""
        given = self._take()
        if not given:
            raise self._refusal(EOFError("they end in the middle"))
        return given

    def _take(self) -> bytes:
        data = self._file.read_at(self.consumed, min(PIECE_BYTES, self._most - self.consumed))
        self.consumed += len(data)
        return data

    def _next_stream(self) -> bytes | None:
        if self.trailing:
            return None
        given = self._current.unused_data.lstrip(b"\0")
        while len(given) < _TRAILING_BYTES and (more := self._take()):
            given = (given + more).lstrip(b"\0")
        if compression_of(given) == self._compression:
            self._current = self._new()
            return given
        self.trailing = given[:_TRAILING_BYTES]
        return None


def decompressor(compression: str, limits: Limits) -> Callable[[], Decompressor]:
    """Returns what makes decompressors of a kind.

    Raises:
        MissingDependencyError: Nothing installed reads this compression.
    """
    if compression == "gzip":
        return _deflate.new_gzip
    if compression == "bzip2":
        return bz2.BZ2Decompressor
    if compression == "zstd":
        return _zstd.decompressors(limits.window_bytes)
    form = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
    return partial(lzma.LZMADecompressor, form, limits.window_bytes + _XZ_OVERHEAD_BYTES)


def needs_larger_window(error: Exception) -> bool:
    """Tells whether a decompressor raised an error because of the limit that it was given, not of damage."""
    # The libraries give no other sign than their text.
    return "Memory usage limit" in str(error) or "too much memory" in str(error)


__all__ = [
    "PIECE_BYTES",
    "Decompressed",
    "Decompressor",
    "compression_of",
    "decompressor",
    "needs_larger_window",
    "other_format",
    "unreadable_compression",
]
