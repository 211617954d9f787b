"""Decompression of whole files as a stream of pieces, at bounded memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPED = b"\x2a\x4d\x18"
_HEAD_BYTES = 10
_UNPACK, _CONVERT = "decompress it", "convert it to UTF-8"
# The longer first, for one begins with the other.
_OTHERS = {
    b"\xff\xfe\0\0": ("text in UTF-32", _CONVERT),
    b"\0\0\xfe\xff": ("text in UTF-32", _CONVERT),
    b"\xff\xfe": ("text in UTF-16", _CONVERT),
    b"\xfe\xff": ("text in UTF-16", _CONVERT),
    **{b"BZh%d1AY&SY" % level: ("compressed by bzip2", _UNPACK) for level in range(1, 10)},
    b"\xfd7zXZ\0": ("compressed by xz", _UNPACK),
    b"\x04\x22\x4d\x18": ("compressed by LZ4", _UNPACK),
    b"\x1f\x9d": ("compressed by compress", _UNPACK),
    b"LZIP\1": ("compressed by lzip", _UNPACK),
    b"PK\3\4": ("a ZIP archive", _UNPACK),
}
_PIECE_BYTES = 1 << 20
_INPUT_BYTES = 64 << 10
# All that these stand for comes out at once, and 4 bytes may stand for 128 KiB.
_ZSTD_INPUT_BYTES = 1 << 10
_WITH_GZIP_HEADER = 31


def is_compressed(source: ObjectFile) -> bool:
    """Returns whether a file begins as those compressed by gzip or Zstandard do; text does not.

    Raises:
        FormatError: It begins as other compressed files do, or as text does whose lines cannot be found.
    """
    head = source.read_at(0, _HEAD_BYTES)
    for magic, (what, remedy) in _OTHERS.items():
        if head.startswith(magic):
            raise FormatError(
                f"{source.name!r} is {what}, by its first bytes, and not plain text, nor compressed by gzip "
                f"or Zstandard: {remedy}, and publish that."
            )
    return head.startswith(_GZIP) or _is_zstd(head)


def _is_zstd(head: bytes) -> bool:
    """Returns whether a file begins with a frame of Zstandard, or with one to be skipped, as pzstd's do."""
    return head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPED and head[0] >> 4 == 5)  # noqa: PLR2004 - RFC 8878


def decompressed(source: ObjectFile) -> Iterator[bytes]:
    """Yields what a compressed file holds.

    Raises:
        FormatError: It is damaged or cut off, or other bytes follow what is compressed.
        LimitError: It needs more memory than `zstandard` uses.
    """
    stream = _unzstd(source) if _is_zstd(source.read_at(0, _HEAD_BYTES)) else _gunzipped(source)
    try:
        yield from stream
    except (zlib.error, EOFError) as error:
        raise FormatError(
            f"{source.name!r} is damaged, or cut off: {error}. Publish it again from a complete file."
        ) from error


def _check_member(source: ObjectFile, given: bytes, at: int, *, begins: bool) -> None:
    """Checks that what follows compressed data is compressed too.

    Args:
        source: The file.
        given: What follows, and reaches up to `at`.
        at: A position.
        begins: Whether it begins as compressed data do.
    """
    if not begins:
        raise FormatError(
            f"The compressed data of {source.name!r} end at byte {at - len(given)}, and what follows, "
            f"{given[:8]!r}, is not compressed: it would be lost. Remove it, or compress it too."
        )


def _inputs(source: ObjectFile) -> Iterator[bytes]:
    for position in range(0, source.size, _INPUT_BYTES):
        yield source.read_at(position, _INPUT_BYTES)


def _gunzipped(source: ObjectFile) -> Iterator[bytes]:
    """Decompresses one member after the other, as ``cat a.gz b.gz`` makes them."""
    member = zlib.decompressobj(_WITH_GZIP_HEADER)
    at = 0
    for piece in _inputs(source):
        given, at = piece, at + len(piece)
        while given:
            if member.eof:
                given = given.lstrip(b"\0")  # as tapes are filled up
                if not given:
                    break
                _check_member(source, given, at, begins=given.startswith(_GZIP[: len(given)]))
                member = zlib.decompressobj(_WITH_GZIP_HEADER)
            yield member.decompress(given, _PIECE_BYTES)
            given = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        yield member.flush()  # what did not fit into the last piece
    if not member.eof:
        raise EOFError("the compressed data end in the middle")


def _unzstd(source: ObjectFile) -> Iterator[bytes]:
    """Decompresses one frame after the other."""
    import zstandard  # noqa: PLC0415 - for these files alone

    context = zstandard.ZstdDecompressor()
    frame = context.decompressobj()
    at = 0
    try:
        for piece in _inputs(source):
            given, at = piece, at + len(piece)
            while given:
                if frame.eof:
                    whole = len(given) >= len(_ZSTD)
                    _check_member(source, given, at, begins=not whole or _is_zstd(given))
                    frame = context.decompressobj()
                yield frame.decompress(given[:_ZSTD_INPUT_BYTES])
                rest = given[_ZSTD_INPUT_BYTES:]
                given = frame.unused_data + rest if frame.eof else rest
    except zstandard.ZstdError as error:
        if "memory" in str(error):
            raise LimitError(
                f"{source.name!r} needs more memory to be decompressed than zstandard uses: compress it "
                "again without --long, or with a smaller window."
            ) from error
        raise EOFError(str(error)) from error
    if not frame.eof:
        raise EOFError("the compressed data end in the middle")
