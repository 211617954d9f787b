"""Decompression of ZIP members, never to more bytes than the archive declares."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

from ipfs_dataset_core import LimitError
from ipfs_dataset_plugins.archives import deflate as _deflate
from ipfs_dataset_plugins.archives import zstd
from ipfs_dataset_plugins.archives.compression import decompressor, needs_larger_window

if TYPE_CHECKING:
    from ipfs_dataset_core import Limits
    from ipfs_dataset_plugins.archives.compression import Decompressor

_STORED, _DEFLATED, _LZMA = 0, 8, 14
_BY_STREAM = {12: "bzip2", 20: "zstd", 93: "zstd", 95: "xz"}
_OTHER_METHODS = {
    1: "shrink",
    2: "reduce",
    3: "reduce",
    4: "reduce",
    5: "reduce",
    6: "implode",
    9: "deflate64",
    10: "PKWARE DCL implode",
    16: "IBM z/OS CMPSC",
    18: "IBM TERSE",
    19: "IBM LZ77",
    94: "MP3",
    96: "jpeg",
    97: "wavpack",
    98: "ppmd",
    99: "AES encryption",
}
_DAMAGE: tuple[type[Exception], ...] = (*_deflate.DAMAGE, lzma.LZMAError, OSError)
_LZMA_HEADER = 9
_SMALLEST_DICTIONARY = 4096


def decompress(method: int, data: bytes, size: int, limits: Limits) -> bytes:
    """Returns what a member holds; at most a byte more than `size`, so that more can be noticed.

    Raises:
        LimitError: The window that it needs is over the limit.
        MissingDependencyError: Nothing installed reads this compression.
        ValueError: The method is not supported, or the data are damaged.
    """
    try:
        if method == _STORED:
            return data
        if method == _DEFLATED:
            content: bytes = _deflate.inflater().decompress(data, size + 1)
            return content
        if method == _LZMA:
            return _unpack_lzma(data, size)
        if method in _BY_STREAM:
            return _unpack_stream(decompressor(_BY_STREAM[method], limits)(), data, size)
    except (*_DAMAGE, *zstd.errors()) as error:
        if needs_larger_window(error):
            raise LimitError(
                f"its {_BY_STREAM[method]} data have a window larger than the limit of "
                f"{limits.window_bytes} bytes: "
                "where you trust it, give limits=Limits(window_bytes=…)"
            ) from error
        raise ValueError(f"it cannot be decompressed ({error})") from error
    raise ValueError(
        f"its compression method is {_OTHER_METHODS.get(method, method)}, which is not supported; "
        "repack the archive with deflate"
    )


def _unpack_stream(stream: Decompressor, data: bytes, size: int) -> bytes:
    pieces = [stream.decompress(data, size + 1)]
    missing = size + 1 - len(pieces[0])
    # Zstandard may put out less than it could, as long as it has more.
    while missing and not stream.eof and not stream.needs_input:
        pieces.append(stream.decompress(b"", missing))
        missing -= len(pieces[-1])
    return b"".join(pieces)


def _unpack_lzma(data: bytes, size: int) -> bytes:
    """Decompresses LZMA behind ZIP's header: version, length of the properties, the properties."""
    if len(data) < _LZMA_HEADER or data[2:4] != b"\5\0" or data[4] >= 9 * 5 * 5:
        raise ValueError("its LZMA header is damaged")
    rest, lc = divmod(data[4], 9)
    pb, lp = divmod(rest, 5)
    # A dictionary larger than the content is never used, and may be 4 GiB.
    declared = int.from_bytes(data[5:_LZMA_HEADER], "little")
    dictionary = max(_SMALLEST_DICTIONARY, min(declared, size + 1))
    filters = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": dictionary}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(
        data[_LZMA_HEADER:], size + 1
    )
