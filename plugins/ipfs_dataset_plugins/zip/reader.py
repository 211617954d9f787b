"""ZIP archives: one sample per file, in the order of the central directory.

The members are those that Info-ZIP and Python's `zipfile` list, except directories and symbolic links.
Names are decoded as Info-ZIP decodes them.
"""

from __future__ import annotations

import codecs
import lzma
import struct
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetError,
    LimitError,
    Location,
    Reader,
    index_of,
    located,
)
from ipfs_dataset_plugins.archives import compression
from ipfs_dataset_plugins.archives.buffered import BufferedFile, RandomAccessFile, cut_off
from ipfs_dataset_plugins.zip.central_directory import (
    HEADER_BYTES,
    LOCAL_HEADER_BYTES,
    RENAMED_FLAG,
    ZipIndex,
    build_index,
    bytes_to_read,
    decode_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core import Limits, MemberIndex, ObjectFile, Sample
    from ipfs_dataset_plugins.archives.compression import Decompressor
    from ipfs_dataset_plugins.zip.central_directory import Member

# Signature, flags, lengths of the name and of the extra field.
_LOCAL_HEADER = struct.Struct("<4s2xH18x2H")
_SIGNATURE = b"PK\3\4"
_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_PATCH_FLAG = 1 << 5
_UNREADABLE_FLAGS = _ENCRYPTED_FLAGS | _PATCH_FLAG
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


class ZipReader(Reader):
    """Reads ZIP archives.

    Each member is held in memory as a whole, so a member larger than ``limits.member_bytes`` is refused.

    Args:
        encoding: The encoding of names that are not marked as UTF-8, such as ``"cp932"`` for archives
            made on Japanese Windows. By default such names are decoded as UTF-8 if they are valid UTF-8,
            and else as code page 437, which is what the format prescribes.

    Raises:
        LookupError: There is no such text encoding.
    """

    cheap_index = True

    def __init__(self, *, encoding: str | None = None) -> None:
        self.encoding = codecs.lookup(encoding).name if encoding else ""
        # Refuses codecs that do not encode text, such as base64.
        "".encode(self.encoding or "ascii")

    @property
    def index_form(self) -> str:  # type: ignore[override]
        return f"zip 2 {self.encoding}".rstrip()

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = cast("ZipIndex", index_of(self, source))
        archive, limits = BufferedFile(source), source.limits
        for member in index.members():
            yield member[0], _content(archive, member, limits, self.encoding)

    def index(self, source: ObjectFile) -> ZipIndex:
        return build_index(source, self.encoding)

    def load_index(self, source: ObjectFile, data: bytes) -> ZipIndex:
        return ZipIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        (member,) = cast("ZipIndex", index).members_at([position])
        archive = BufferedFile(source, piece=0)
        return member[0], _content(archive, member, source.limits, self.encoding)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = RandomAccessFile(source), source.limits
        for member in cast("ZipIndex", index).members_at(list(positions)):
            yield member[0], _content(archive, member, limits, self.encoding)


def _content(archive: BufferedFile, member: Member, limits: Limits, encoding: str) -> bytes:
    """Returns the content of a member; the errors name it and the archive."""
    name, compressed, size = member[0], member[3], member[4]
    if size > limits.member_bytes:
        limits.check("member_bytes", size, f"member {name!r} of {archive.name!r}")
    if size > limits.expansion_bytes:
        # Decompression stops at the declared size, so the check of that size is enough.
        limits.check_expansion(compressed, size, f"Member {name!r} of {archive.name!r}")
    try:
        content = _usual_content(archive, member, limits)
        return read_member(archive, member, limits, encoding) if content is None else content
    except IPFSDatasetError as error:
        raise located(error, Location(member=name)) from error.__cause__
    except ValueError as error:
        raise FormatError(
            f"Member {name!r} of {archive.name!r} (header at byte {member[1]}) cannot be read: {error}."
        ) from error


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
    if wanted > HEADER_BYTES + compressed:  # otherwise the minimum does not depend on the name
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


def _usual_content(archive: BufferedFile, member: Member, limits: Limits) -> bytes | None:
    """Returns what `read_member` returns for a member as nearly all are, in a third of the time.

    None for any other: it is stored or deflated, of at most 1 MiB, right in front of the next one, within the
    limits, has the same name in ASCII in its own header, and is not damaged.
    """
    name, start, bound, compressed, size, crc, method, flags = member
    wanted = bound - start
    if (
        flags & _UNREADABLE_FLAGS
        or wanted < LOCAL_HEADER_BYTES
        or wanted > HEADER_BYTES + compressed
        or wanted > _READ_IN_ONE_BYTES
        or size > limits.member_bytes
        or size > limits.expansion_bytes
        or not name.isascii()
    ):
        return None
    piece, at = archive.window(start, wanted)
    if len(piece) < at + wanted or not piece.startswith(_SIGNATURE, at):
        return None
    _, _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(piece, at)
    name_at = at + LOCAL_HEADER_BYTES
    data_at = name_at + name_bytes + extra_bytes
    if piece[name_at : name_at + name_bytes] != name.encode() or data_at + compressed > at + wanted:
        return None
    content: bytes = piece[data_at : data_at + compressed]
    if method == _DEFLATED:
        try:
            content = compression.new_inflater().decompress(content, size + 1)
        except compression.decompression_errors():
            return None
    elif method != _STORED:
        return None
    is_sound = len(content) == size and compression.crc32(content) == crc
    return content if is_sound else None


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
