"""One member of a ZIP archive: its local header, its compression, and the checks of its content."""

from __future__ import annotations

import lzma
import struct
from typing import TYPE_CHECKING

from ipfs_dataset_core import LimitError
from ipfs_dataset_plugins.archives import compression
from ipfs_dataset_plugins.archives.buffered import cut_off
from ipfs_dataset_plugins.zip.central_directory import (
    LOCAL_HEADER_BYTES,
    RENAMED_FLAG,
    decode_name,
)

if TYPE_CHECKING:
    from ipfs_dataset_core import Limits
    from ipfs_dataset_plugins.archives.buffered import BufferedFile
    from ipfs_dataset_plugins.archives.compression import Decompressor

Member = tuple[str, int, int, int, int, int, int, int]
"""Name, offset of the local header, bound, compressed size, size, CRC-32, method, flags.

The bound is the offset of the next member or of the central directory; the member ends before it. A plain
tuple, because reading a member takes a few microseconds, of which a named tuple would cost half a
microsecond.
"""

# Signature, flags, lengths of the name and of the extra field.
_LOCAL_HEADER = struct.Struct("<4s2xH18x2H")
_SIGNATURE = b"PK\3\4"
_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_PATCH_FLAG = 1 << 5
_UNREADABLE_FLAGS = _ENCRYPTED_FLAGS | _PATCH_FLAG
# A local header without its name. Its extra field may be longer than in the directory; 256 bytes hold
# nearly all.
_HEADER_BYTES = LOCAL_HEADER_BYTES + 256
# Larger members are read separately from their header, since slicing them out of one buffer would copy
# them.
_READ_IN_ONE_BYTES = 1 << 20

_STORED, _DEFLATED, _LZMA = 0, 8, 14
_STREAM_METHODS = {12: "bzip2", 20: "zstd", 93: "zstd", 95: "xz"}
_UNSUPPORTED_METHODS = {
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
_LZMA_HEADER_BYTES = 9
_MIN_LZMA_DICTIONARY = 4096


def bytes_to_read(name_bytes: int, start: int, bound: int, compressed: int) -> int:
    """Returns how many bytes to read for a member and its local header.

    Args:
        name_bytes: The length of the name in bytes.
        start: The offset of the local header.
        bound: The offset at which the next member or the central directory starts.
        compressed: The compressed size in bytes.
    """
    return min(bound - start, _HEADER_BYTES + name_bytes + compressed)


def read_member(archive: BufferedFile, member: Member, limits: Limits, encoding: str = "") -> bytes:
    """Returns the content of a member, after it has been compared with the central directory.

    Raises:
        FormatError: The archive is cut off.
        LimitError: Decompression takes too much memory.
        MissingDependencyError: No installed library reads the compression.
        ValueError: The member cannot be read; the message is the reason.
    """
    name, start, bound, compressed, size, crc, method, flags = member
    if flags & _UNREADABLE_FLAGS:
        raise ValueError(_why_unreadable(flags))
    wanted = bound - start
    if wanted > _HEADER_BYTES + compressed:  # otherwise the minimum does not depend on the name
        wanted = bytes_to_read(len(name.encode()), start, bound, compressed)
    piece, at = archive.window(start, min(wanted, _READ_IN_ONE_BYTES))
    header_bytes = _check_header(piece, at, name, flags, encoding)
    if start + header_bytes + compressed > bound:
        raise ValueError("it overlaps what follows")
    data = piece[at + header_bytes : at + header_bytes + compressed]
    if len(data) < compressed:
        data = archive.read(start + header_bytes, compressed)
    if len(data) < compressed:
        raise cut_off(archive.name, start + header_bytes + compressed)
    content = _decompress(method, data, size, limits)
    if len(content) > size:
        raise ValueError(
            f"it has more than the {size} bytes that the archive declares: it is damaged, or has 4 GiB or "
            "more and was packed without zip64, as by the Archive Utility of macOS; pack it again with a "
            "tool that writes zip64, such as zip"
        )
    if len(content) < size:
        raise ValueError(f"it does not have the {size} bytes that the archive declares")
    if compression.crc32(content) != crc:
        raise ValueError("its CRC does not match")
    return content


def _why_unreadable(flags: int) -> str:
    if flags & _ENCRYPTED_FLAGS:
        return "it is encrypted; publish the archive without a password"
    return "it is a patch, which is not supported"


def _check_header(piece: bytes, at: int, name: str, entry_flags: int, encoding: str) -> int:
    """Returns the size of a local header: from its start to the start of the data.

    Args:
        piece: A buffer that contains the header.
        at: The offset of the header in it.
        name: The name in the central directory.
        entry_flags: The flags in the central directory.
        encoding: As for `decode_name`.

    Raises:
        ValueError: It is not a header, or has another name.
    """
    if len(piece) < at + LOCAL_HEADER_BYTES or not piece.startswith(_SIGNATURE, at):
        raise ValueError("it has no header where the central directory points")
    _, flags, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(piece, at)
    at += LOCAL_HEADER_BYTES
    local = piece[at : at + name_bytes]
    # Most names are ASCII, which can be compared without decoding.
    if not (name.isascii() and local == name.encode()):
        _check_name(local, name, flags, entry_flags, encoding)
    data_start: int = LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    return data_start


def _check_name(local: bytes, name: str, flags: int, entry_flags: int, encoding: str) -> None:
    if entry_flags & RENAMED_FLAG:
        # The name in the directory comes from an extra field, which local headers need not have.
        return
    decoded = decode_name(local, flags, encoding)
    if name not in (decoded, decoded.replace("\\", "/")):
        raise ValueError(f"the name in its own header is {decoded!r}")


def _decompress(method: int, data: bytes, size: int, limits: Limits) -> bytes:
    """Returns the content, but at most `size` + 1 bytes: one more than declared, so that excess is noticed.

    Raises:
        LimitError: The window of the data exceeds the limit.
        MissingDependencyError: No installed library reads the compression.
        ValueError: The method is not supported, or the data are damaged.
    """
    try:
        if method == _STORED:
            return data
        if method == _DEFLATED:
            content: bytes = compression.new_inflater().decompress(data, size + 1)
            return content
        if method == _LZMA:
            return _decompress_lzma(data, size)
        if method in _STREAM_METHODS:
            new = compression.decompressor_factory(_STREAM_METHODS[method], limits)
            return _decompress_stream(new(), data, size)
    except compression.decompression_errors() as error:
        if compression.needs_larger_window(error):
            raise LimitError(
                f"its {_STREAM_METHODS[method]} data have a window larger than the limit of "
                f"{limits.window_bytes} bytes: if you trust it, give limits=Limits(window_bytes=…)"
            ) from error
        raise ValueError(f"it cannot be decompressed ({error})") from error
    raise ValueError(
        f"its compression method is {_UNSUPPORTED_METHODS.get(method, method)}, which is not supported; "
        "repack the archive with deflate"
    )


def _decompress_stream(stream: Decompressor, data: bytes, size: int) -> bytes:
    pieces = [stream.decompress(data, size + 1)]
    missing = size + 1 - len(pieces[0])
    # Zstandard may return less than the requested length although more output is pending.
    while missing and not stream.eof and not stream.needs_input:
        pieces.append(stream.decompress(b"", missing))
        missing -= len(pieces[-1])
    return b"".join(pieces)


def _decompress_lzma(data: bytes, size: int) -> bytes:
    """Decompresses LZMA data after ZIP's header: version, length of the properties, properties."""
    if len(data) < _LZMA_HEADER_BYTES or data[2:4] != b"\5\0" or data[4] >= 9 * 5 * 5:
        raise ValueError("its LZMA header is damaged")
    rest, lc = divmod(data[4], 9)
    pb, lp = divmod(rest, 5)
    # The declared dictionary may be 4 GiB, of which no more than the size of the content is used.
    declared = int.from_bytes(data[5:_LZMA_HEADER_BYTES], "little")
    dictionary = max(_MIN_LZMA_DICTIONARY, min(declared, size + 1))
    filters = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": dictionary}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(
        data[_LZMA_HEADER_BYTES:], size + 1
    )
