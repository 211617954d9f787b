"""Decompression at bounded memory: gzip, deflate, bzip2, xz, LZMA and Zstandard.

Gzip, deflate and CRC-32 are computed by the package isal where it is installed, which is faster than the
standard library; results are the same, only the texts of errors differ. Zstandard is in the standard
library since Python 3.14; before, it needs the package zstandard.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from ipfs_dataset_core import FormatError, LimitError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import Limits, ObjectFile

# Output of this size is parsed while it is in the processor's cache; larger pieces take a quarter longer.
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
_MAX_LZMA_PROPERTIES = 9 * 5 * 5
_MIN_LZMA_WINDOW = 4096
_UNKNOWN_LZMA_SIZE = (1 << 64) - 1
# Memory that xz needs in addition to its window.
_XZ_OVERHEAD_BYTES = 1 << 20
# Enough to recognize a TAR header behind the compressed data.
_TRAILING_BYTES = 512
_GZIP_WBITS = 16 + zlib.MAX_WBITS
# zstandard returns all output of its input at once, and 4 bytes of input may expand to 128 KiB: up to 32 MiB.
_ZSTD_INPUT_BYTES = 1 << 10
# The largest window that the reference decoder of Zstandard allows.
_MAX_ZSTD_WINDOW = 1 << 31


def compression_of(head: bytes) -> str | None:
    """Returns the name of a supported compression that a file starts with; `head` is its first bytes."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # noqa: PLR2004 - a skippable frame
        return "zstd"
    found = _lookup(head, _READABLE)
    return "LZMA" if found is None and _is_lzma(head) else found


def unreadable_compression(head: bytes) -> str | None:
    """Returns the name of an unsupported compression that a file starts with; `head` is its first bytes."""
    return _lookup(head, _UNREADABLE)


def other_format(head: bytes) -> str | None:
    """Returns the archive format, such as "a ZIP archive", of a file with these first bytes."""
    return _lookup(head, _OTHER_FORMATS)


def _lookup(head: bytes, names: dict[bytes, str]) -> str | None:
    return next((name for start, name in names.items() if head.startswith(start)), None)


def _is_lzma(head: bytes) -> bool:
    """Returns whether a file starts with the header of `lzma`, which has no magic bytes.

    Tests the same fields as xz: the properties; a window of 2^n or 3·2^n bytes; a size that is unknown or
    below 256 GiB; and the first byte of the data, which is always 0.
    """
    if len(head) <= _LZMA_HEADER_BYTES or head[0] >= _MAX_LZMA_PROPERTIES:
        return False
    window, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    lowest_bit = window & -window
    return (
        window >= _MIN_LZMA_WINDOW
        and window in (lowest_bit, 3 * lowest_bit, 0xFFFFFFFF)
        and (size == _UNKNOWN_LZMA_SIZE or size < 1 << 38)
        and head[_LZMA_HEADER_BYTES] == 0
    )


class Decompressor(Protocol):
    """Decompresses one stream incrementally; the interface is that of `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class GzipDecompressor:
    """Decompresses one gzip stream by `zlib`, with the interface of `Decompressor`.

    `gzip.GzipFile` takes a fifth longer before Python 3.12, because it works in pieces of 8 KiB.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        # The checksum behind the data stays in the tail for as long as output is pending.
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max(0, max_length))


class _BoundedZstd:
    """Bounds the output of a decompressor of the package zstandard, with the interface of `Decompressor`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._given = b""
        self._taken = 0
        # Output of which the first bytes, `_returned`, have been returned; empty if all of them have.
        self._ready = b""
        self._returned = 0

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof) and not self._ready

    @property
    def needs_input(self) -> bool:
        return not self._ready and self._taken == len(self._given)

    @property
    def unused_data(self) -> bytes:
        unused: bytes = self._stream.unused_data
        return unused + self._given[self._taken :]

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if data:
            self._given, self._taken = self._given[self._taken :] + data, 0
        while not self._ready and self._taken < len(self._given) and not self._stream.eof:
            piece = self._given[self._taken : self._taken + _ZSTD_INPUT_BYTES]
            self._taken += len(piece)
            self._ready = self._stream.decompress(piece)
        ready, start = self._ready, self._returned
        stop = len(ready) if max_length < 0 else min(start + max_length, len(ready))
        if stop == len(ready):
            self._ready, self._returned = b"", 0
        else:
            self._returned = stop
        return ready[start:stop]


new_inflater: Callable[[], Any] = partial(zlib.decompressobj, -zlib.MAX_WBITS)
"""Makes a decompressor of one raw deflate stream, with a method `decompress(data, max_length)`."""
new_gzip_decompressor: Callable[[], Decompressor] = GzipDecompressor
"""Makes a decompressor of one gzip stream."""
crc32: Callable[[bytes], int] = zlib.crc32
"""Computes the CRC-32 of ZIP and gzip."""
_errors: tuple[type[Exception], ...] = (OSError, EOFError, lzma.LZMAError, zlib.error)

with suppress(ImportError):
    from isal import igzip_lib, isal_zlib

    # Not `isal_zlib.decompressobj`, which takes a tenth longer for small members.
    new_inflater = partial(igzip_lib.IgzipDecompressor, igzip_lib.DECOMP_DEFLATE)
    new_gzip_decompressor = partial(igzip_lib.IgzipDecompressor, igzip_lib.DECOMP_GZIP)
    crc32 = isal_zlib.crc32
    _errors = (*_errors, cast("type[Exception]", isal_zlib.error))


def decompression_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions that the decompressors raise for damaged data.

    Those of Zstandard are included if a library for it has been imported.
    """
    modules = (sys.modules.get("compression.zstd"), sys.modules.get("zstandard"))
    return *_errors, *(module.ZstdError for module in modules if module is not None)


def decompressor_factory(compression: str, limits: Limits) -> Callable[[], Decompressor]:
    """Returns a function that makes decompressors.

    Args:
        compression: A name returned by `compression_of`.
        limits: `window_bytes` is the maximum window size of the data, which takes as much memory.

    Raises:
        MissingDependencyError: No installed library reads this compression.
    """
    if compression == "gzip":
        return new_gzip_decompressor
    if compression == "bzip2":
        return bz2.BZ2Decompressor
    if compression == "zstd":
        return _zstd_factory(limits.window_bytes)
    form = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
    return partial(lzma.LZMADecompressor, form, limits.window_bytes + _XZ_OVERHEAD_BYTES)


def _zstd_factory(window_bytes: int) -> Callable[[], Any]:
    try:
        from compression import zstd  # noqa: PLC0415 - Python 3.14
    except ImportError:
        pass
    else:
        largest = zstd.DecompressionParameter.window_log_max
        lower, upper = largest.bounds()
        log = max(lower, min(upper, window_bytes.bit_length() - 1))
        return partial(zstd.ZstdDecompressor, options={largest: log})
    try:
        import zstandard  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingDependencyError(
            "Reading Zstandard needs Python 3.14 or the package zstandard: "
            "pip install ipfs-dataset[zstd]"
        ) from None
    context = zstandard.ZstdDecompressor(max_window_size=min(window_bytes, _MAX_ZSTD_WINDOW))
    return lambda: _BoundedZstd(context.decompressobj())


def needs_larger_window(error: Exception) -> bool:
    """Returns whether a decompressor failed because its window exceeds the limit, not because of damage."""
    # The libraries give no other sign than the text of the error.
    return "Memory usage limit" in str(error) or "too much memory" in str(error)


class DecompressedStream:
    """The decompressed content of a file from front to back; the file holds one compressed stream or several.

    Attributes:
        consumed: Number of bytes of the file that have been read.
        produced: Number of decompressed bytes that have been returned.
        trailing: At the end: the first bytes, without leading zeros, of data that follows the compressed data
            and is not compressed in the same way. Empty if there is none.

    Args:
        file: The compressed file; it is not closed.
        compression: The result of `compression_of`.
        most: The largest number of bytes of the file to read; the stream counts as cut off there.

    Raises:
        MissingDependencyError: No installed library reads this compression.
    """

    def __init__(self, file: ObjectFile, compression: str, *, most: int | None = None) -> None:
        self.consumed = 0
        self.produced = 0
        self.trailing = b""
        self._file = file
        self._compression = compression
        self._most = file.size if most is None else min(most, file.size)
        self._new = decompressor_factory(compression, file.limits)
        self._current = self._new()

    def read(self, most: int) -> bytes:
        """Returns the next bytes, at least one and at most `most`; none at the end.

        Raises:
            FormatError: The compressed data are damaged, or end too early.
            LimitError: Decompression needs a larger window than the limit.
        """
        while (given := self._input()) is not None:
            try:
                data = self._current.decompress(given, most)
            except decompression_errors() as error:
                raise self._error(error) from error
            if data:
                self.produced += len(data)
                return data
        return b""

    def _error(self, error: Exception) -> FormatError | LimitError:
        name, compression = self._file.name, self._compression
        if needs_larger_window(error):
            return LimitError(
                f"{name!r} is compressed by {compression} with a window larger than the limit of "
                f"{self._file.limits.window_bytes} bytes. If you trust it and have that much "
                "memory for each reading process, give limits=Limits(window_bytes=…); or compress "
                "it again with a smaller window, as by xz -9 or zstd --long=27."
            )
        return FormatError(
            f"{name!r} is damaged: its {compression} data cannot be decompressed after "
            f"{self.produced} decompressed bytes, at or before byte {self.consumed} of the file "
            f"({error}). Publish it again from a complete file."
        )

    def _input(self) -> bytes | None:
        """Returns the next input of the decompressor; None at the end of the last stream."""
        if self._current.eof:
            return self._next_stream()
        if not self._current.needs_input:
            return b""
        given = self._read_file()
        if not given:
            raise self._error(EOFError("the data end in the middle of a stream"))
        return given

    def _read_file(self) -> bytes:
        data = self._file.read_at(self.consumed, min(PIECE_BYTES, self._most - self.consumed))
        self.consumed += len(data)
        return data

    def _next_stream(self) -> bytes | None:
        if self.trailing:
            return None
        given = self._current.unused_data.lstrip(b"\0")
        while len(given) < _TRAILING_BYTES and (more := self._read_file()):
            given = (given + more).lstrip(b"\0")
        if compression_of(given) == self._compression:
            self._current = self._new()
            return given
        self.trailing = given[:_TRAILING_BYTES]
        return None
