"""Streaming decompression of gzip and Zstandard files, in bounded memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

# Magic numbers. A Zstandard file may begin with a skippable frame: 0x50 to 0x5F, then these three bytes
# (RFC 8878, section 3.1.2).
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"
_HEAD_BYTES = 10

_DECOMPRESS, _CONVERT = "decompress it", "convert it to UTF-8"
# The first bytes of files that cannot be read, what each one is, and what to do with it. The mark of UTF-32
# stands before that of UTF-16, which is its prefix.
_UNSUPPORTED = {
    b"\xff\xfe\0\0": ("text in UTF-32", _CONVERT),
    b"\0\0\xfe\xff": ("text in UTF-32", _CONVERT),
    b"\xff\xfe": ("text in UTF-16", _CONVERT),
    b"\xfe\xff": ("text in UTF-16", _CONVERT),
    **{b"BZh%d1AY&SY" % level: ("compressed by bzip2", _DECOMPRESS) for level in range(1, 10)},
    b"\xfd7zXZ\0": ("compressed by xz", _DECOMPRESS),
    b"\x04\x22\x4d\x18": ("compressed by LZ4", _DECOMPRESS),
    b"\x1f\x9d": ("compressed by compress", _DECOMPRESS),
    b"LZIP\1": ("compressed by lzip", _DECOMPRESS),
    b"PK\3\4": ("a ZIP archive", _DECOMPRESS),
}
_OUTPUT_BYTES = 1 << 20
_INPUT_BYTES = 64 << 10
# The decompressor of Zstandard has no limit of output, and 4 bytes of input may stand for 128 KiB. So it gets
# little input at a time: at most 32 MiB come out at once.
_ZSTD_INPUT_BYTES = 1 << 10
# The value of `wbits` for which zlib expects a gzip header and trailer, with the largest window.
_GZIP_WBITS = 31


def is_compressed(source: ObjectFile) -> bool:
    """Returns whether a file begins like one compressed by gzip or Zstandard.

    Raises:
        FormatError: The file begins like one of another compression, or like text in UTF-16 or UTF-32.
    """
    head = source.read_at(0, _HEAD_BYTES)
    for magic, (what, remedy) in _UNSUPPORTED.items():
        if head.startswith(magic):
            raise FormatError(
                f"{source.name!r} is {what}, as its first bytes show. Plain text and text compressed by gzip "
                f"or Zstandard can be read: {remedy}, and publish the result."
            )
    return head.startswith(_GZIP_MAGIC) or _is_zstd(head)


def _is_zstd(head: bytes) -> bool:
    """Returns whether bytes begin a Zstandard frame or a skippable frame, with which files of pzstd begin."""
    is_skippable = head[1:4] == _ZSTD_SKIPPABLE_MAGIC and head[0] >> 4 == 5  # noqa: PLR2004 - RFC 8878
    return head.startswith(_ZSTD_MAGIC) or is_skippable


def decompressed(source: ObjectFile) -> Iterator[bytes]:
    """Yields the content of a compressed file, in pieces of at most 32 MiB.

    Raises:
        FormatError: The file is damaged or cut off, or uncompressed bytes follow the compressed data.
        LimitError: The file needs a larger window than `zstandard` allows.
    """
    is_zstd = _is_zstd(source.read_at(0, _HEAD_BYTES))
    try:
        yield from _zstd_content(source) if is_zstd else _gzip_content(source)
    except (zlib.error, EOFError) as error:
        raise FormatError(
            f"{source.name!r} is damaged, or cut off: {error}. Publish it again from a complete file."
        ) from error


def _input_pieces(source: ObjectFile) -> Iterator[tuple[int, bytes]]:
    """Yields the bytes of a file in pieces, each with the position at which it ends."""
    for position in range(0, source.size, _INPUT_BYTES):
        piece = source.read_at(position, _INPUT_BYTES)
        yield position + len(piece), piece


def _trailing_bytes_error(source: ObjectFile, position: int, data: bytes) -> FormatError:
    return FormatError(
        f"The compressed data of {source.name!r} end at byte {position}, and the bytes after it, "
        f"{data[:8]!r}, are not compressed, so they would be lost. Remove them, or compress them too."
    )


def _gzip_content(source: ObjectFile) -> Iterator[bytes]:
    """Decompresses the members of a gzip file in turn: ``cat a.gz b.gz`` makes a file of two members."""
    member = zlib.decompressobj(_GZIP_WBITS)
    for end, piece in _input_pieces(source):
        data = piece
        while data:
            if member.eof:
                data = data.lstrip(b"\0")  # padding, which gzip ignores too
                if not data:
                    break
                if not data.startswith(_GZIP_MAGIC[: len(data)]):
                    raise _trailing_bytes_error(source, end - len(data), data)
                member = zlib.decompressobj(_GZIP_WBITS)
            yield member.decompress(data, _OUTPUT_BYTES)
            data = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        yield member.flush()  # output that did not fit into the last piece
    if not member.eof:
        raise EOFError("the compressed data end in the middle")


def _zstd_content(source: ObjectFile) -> Iterator[bytes]:
    """Decompresses the frames of a Zstandard file in turn.

    Raises:
        EOFError: The data are damaged or cut off.
    """
    import zstandard  # noqa: PLC0415 - only these files need it

    context = zstandard.ZstdDecompressor()
    frame = context.decompressobj()
    try:
        for end, piece in _input_pieces(source):
            data = piece
            while data:
                if frame.eof:
                    if len(data) >= len(_ZSTD_MAGIC) and not _is_zstd(data):
                        raise _trailing_bytes_error(source, end - len(data), data)
                    frame = context.decompressobj()
                yield frame.decompress(data[:_ZSTD_INPUT_BYTES])
                rest = data[_ZSTD_INPUT_BYTES:]
                data = frame.unused_data + rest if frame.eof else rest
    except zstandard.ZstdError as error:
        if "memory" in str(error):
            raise LimitError(
                f"{source.name!r} needs more memory to be decompressed than zstandard uses: compress it "
                "again without --long, or with a smaller window."
            ) from error
        raise EOFError(str(error)) from error
    if not frame.eof:
        raise EOFError("the compressed data end in the middle")
