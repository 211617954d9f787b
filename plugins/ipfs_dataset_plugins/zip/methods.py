"""Decompression of ZIP members, never to more bytes than the archive declares."""

from __future__ import annotations

import bz2
import lzma

from ipfs_dataset_plugins.archives import deflate as _deflate

_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14
_OTHER_METHODS = {
    1: "shrink",
    6: "implode",
    9: "deflate64",
    93: "zstd",
    95: "xz",
    96: "jpeg",
    97: "wavpack",
    98: "ppmd",
    99: "AES encryption",
}
_DAMAGE: tuple[type[Exception], ...] = (*_deflate.DAMAGE, lzma.LZMAError, OSError)
_LZMA_HEADER = 9
_SMALLEST_DICTIONARY = 4096


def decompress(method: int, data: bytes, size: int) -> bytes:
    """Returns what a member holds; at most a byte more than `size`, so that more can be noticed.

    Raises:
        ValueError: The method is not supported, or the data are damaged.
    """
    try:
        if method == _STORED:
            return data
        if method == _DEFLATED:
            content: bytes = _deflate.inflater().decompress(data, size + 1)
            return content
        if method == _BZIP2:
            return bz2.BZ2Decompressor().decompress(data, size + 1)
        if method == _LZMA:
            return _unpack_lzma(data, size)
    except _DAMAGE as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error
    raise ValueError(
        f"its compression method is {_OTHER_METHODS.get(method, method)}, which is not supported; "
        "repack the archive with deflate"
    )


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
