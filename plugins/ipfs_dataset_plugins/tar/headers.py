"""One header block of a TAR archive, in all dialects: v7, ustar, GNU, star, pax.

Fields are interpreted as by GNU tar and libarchive (bsdtar), which agree on nearly all of them. Python's
`tarfile` differs in two points: it reads the times in headers of the old GNU dialect as part of the name,
and it leaves out members of unknown types, which POSIX says to read as regular files.

`parse_header` parses any header. `simple_headers` is a fast path for the headers that nearly all members
have: it parses many at once and stops at the first one that needs `parse_header`. Its results are always the
    same,
but several times faster: for small members, parsing costs more than the network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from zlib import adler32

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512

REGULAR = b"0"
HARD_LINK = b"1"
DIRECTORY = b"5"
LONG_NAME, LONG_LINK, OLD_SPARSE = b"L", b"K", b"S"
CONTINUED = b"M"  # the rest of a file that begins in an earlier volume of a multi-volume archive
PAX_GLOBAL = b"g"
_KINDS_WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_KINDS_OF_NO_FILE = frozenset((
    *_KINDS_WITHOUT_DATA,
    CONTINUED,
    b"A",  # Solaris: an access control list
    b"D",  # GNU: a directory, with the names of what was in it
    b"I",  # star: the metadata of a file without its content
    b"N",  # old GNU: a list of long names
    b"V",  # GNU: the name of the volume
))  # fmt: skip

# First bytes of numbers in the base-256 encoding of GNU tar.
_POSITIVE, _NEGATIVE = 0o200, 0o377
_GNU_MAGIC = b"ustar  \0"

# The fast path: a name without NUL, and numbers in octal digits.
_SIMPLE_START = re.compile(
    rb"(?=(?P<name>[^\0/][^\0]{0,99})).{100}"
    rb"(?:[0-7]{6}[0-7 ][ \0]){3}(?P<size>[0-7]{11})[ \0][0-7]{11}[ \0]"
    rb"(?P<checksum>[0-7]{6})(?:\0 | \0)",
    re.DOTALL,
)
# A regular file, and no prefix or other field that would change its name, size or content.
_SIMPLE_REST = re.compile(rb"[0\0].{172}(?:(?:[0-7]{6}[0-7 ][ \0]){2}|\0{16})\0{167}", re.DOTALL)
_CHECKSUM, _REST = 148, 156
_REST_USED = 345 - _REST
_SPACES = 8 * ord(" ")

Parts = tuple[tuple[int, int], ...]
"""The stored parts of a sparse member: offset in the content and length of each, in bytes."""


class Header(NamedTuple):
    """The fields of one header block.

    Attributes:
        name: The name, with the prefix of dialects that have one.
        kind: The type flag.
        size: The number of bytes that follow, without padding.
        link: The target of a link.
    """

    name: str
    kind: bytes
    size: int
    link: str


class Member(NamedTuple):
    """One member, as described by its own header and its extension headers.

    Attributes:
        start: The offset of its first header, which may be that of its long name.
        name: The name.
        kind: The type flag.
        data: The offset of its data.
        size: The size of its content in bytes.
        stop: The offset of the next member.
        link: The target of a link.
        parts: The stored parts of a sparse member; None for other members.
    """

    start: int
    name: str
    kind: bytes
    data: int
    size: int
    stop: int
    link: str = ""
    parts: Parts | None = None

    @property
    def stored(self) -> int:
        """The number of bytes of the archive that contain the content."""
        return self.size if self.parts is None else sum(length for _, length in self.parts)


def parse_header(block: bytes) -> Header:
    """Parses a block of 512 bytes.

    Raises:
        ValueError: It is not a header; the message is the reason.
    """
    stored = block[148:156]
    total = sum(block) - sum(stored) + 256
    if (checksum := number(stored)) != total and checksum != _signed_checksum(block, total):
        raise ValueError("its checksum is wrong")
    size = number(block[124:136])
    if size < 0:
        raise ValueError(f"its size is negative ({size})")
    name = text(block[:100])
    kind = block[156:157]
    if kind == b"\0" and name.endswith("/"):
        kind = DIRECTORY
    if kind == DIRECTORY:
        name = name.rstrip("/")
    if block[345] and (prefix := _prefix(block)):
        name = f"{prefix}/{name}"
    return Header(name, kind, size, text(block[157:257]) if block[157] else "")


def is_header(block: bytes) -> bool:
    """Returns whether a block is a header, by its checksum, which other data do not contain."""
    if len(block) != BLOCK:
        return False
    try:
        parse_header(block)
    except ValueError:
        return False
    return True


def is_file(kind: bytes) -> bool:
    """Returns whether a member is a regular file; POSIX says to read unknown types as regular files."""
    return kind not in _KINDS_OF_NO_FILE


def is_star(block: bytes) -> bool:
    """Returns whether a header is of the dialect of star."""
    return block[508:512] == b"tar\0" and block[257:262] == b"ustar"


def _prefix(block: bytes) -> str:
    """Returns the prefix of the name; "" in dialects that use the field otherwise.

    Headers of the old GNU dialect have times there. Only Go before 1.8 wrote a prefix into them.
    """
    if block[257:262] != b"ustar":
        return ""
    if block[257:265] == _GNU_MAGIC:
        try:
            number(block[345:357])
            number(block[357:369])
        except ValueError:
            prefix = text(block[345:500])
            return prefix if prefix.isascii() else ""
        return ""
    if block[156:157] == OLD_SPARSE and is_star(block):
        return text(block[345:346])
    return text(block[345:500])


def has_data(kind: bytes) -> bool:
    """Returns whether data follow the header of a member; a link may have a size but no data."""
    return kind not in _KINDS_WITHOUT_DATA


def padded(size: int) -> int:
    """Rounds a number of bytes up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def text(field: bytes) -> str:
    """Decodes a text field, which ends at its first NUL."""
    stop = field.find(0)
    return (field if stop < 0 else field[:stop]).decode("utf-8", "surrogateescape")


def number(field: bytes) -> int:
    """Decodes a number field: octal digits, or the base-256 encoding of GNU tar for larger numbers.

    Raises:
        ValueError: It is neither.
    """
    if field[0] == _POSITIVE:
        return int.from_bytes(field[1:], "big")
    if field[0] == _NEGATIVE:
        return int.from_bytes(field[1:], "big") - (1 << 8 * (len(field) - 1))
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise ValueError(f"{field!r} is not a number") from None


def decimal(value: bytes) -> int:
    """Decodes a size or an offset in a pax record or a sparse map.

    Raises:
        ValueError: It is not a decimal number below 10^19.
    """
    if not re.fullmatch(rb"0*[0-9]{1,19}", value):
        raise ValueError(f"{value[:40]!r} is not a number")
    return int(value)


def _signed_checksum(block: bytes, total: int) -> int:
    """Returns the checksum as writers on old Sun and NeXT systems compute it, from signed bytes."""
    return total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])  # noqa: PLR2004


def simple_headers(piece: bytes, at: int) -> Iterator[tuple[int, str, int]]:
    """Parses a run of consecutive members with simple headers; the fast path described above.

    Args:
        piece: Part of an archive.
        at: The offset in it of the first header.

    Yields:
        The offset of each header in the piece, the name and the size of its member.
    """
    match = _SIMPLE_START.match
    rest, rest_sum = b"", 0
    while found := match(piece, at):
        raw_name, size, checksum = found.groups()
        # The same in nearly all members of an archive, and then examined once.
        if (own_rest := piece[at + _REST : at + BLOCK]) != rest:
            if not _SIMPLE_REST.fullmatch(own_rest):
                return
            rest, rest_sum = own_rest, _sum(own_rest[:_REST_USED]) + _SPACES
        if int(checksum, 8) != _sum(piece[at : at + _CHECKSUM]) + rest_sum:
            return
        name = raw_name.decode("utf-8", "surrogateescape")
        if (
            ".." in name
            or "._" in name
            or "__MACOSX" in name
            or (name[-1] == "/" and rest.startswith(b"\0"))
        ):
            return
        count = int(size, 8)
        yield at, name, count
        at += BLOCK + padded(count)


def _sum(data: bytes) -> int:
    """Returns the sum of at most 256 bytes.

    Adler-32 computes it in its lower half, modulo 65521, which the sum of 256 bytes does not reach.
    """
    return adler32(data, 0) & 0xFFFF
