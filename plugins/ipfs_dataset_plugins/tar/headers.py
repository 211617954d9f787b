"""One header block of a TAR archive, in all dialects: v7, ustar, GNU, star, pax.

What a field means follows GNU tar and libarchive (bsdtar), which agree on nearly all of it; Python's
`tarfile` differs where it takes the times of the old GNU dialect for a part of the name, and where it
does not list kinds that it does not know, which POSIX wants to be read as regular files.
"""

from __future__ import annotations

from typing import NamedTuple

BLOCK = 512

REGULAR = b"0"
HARD_LINK = b"1"
DIRECTORY = b"5"
LONG_NAME, LONG_LINK, OLD_SPARSE = b"L", b"K", b"S"
CONTINUED = b"M"  # the rest of a file that began in another volume
PAX_GLOBAL = b"g"
_DATALESS_KINDS = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_OTHER_KINDS = frozenset((
    *_DATALESS_KINDS,
    CONTINUED,
    b"A",  # Solaris: an access control list
    b"D",  # GNU: a directory, with the names of what was in it
    b"I",  # star: a file's status alone
    b"N",  # GNU, long ago: a list of long names
    b"V",  # GNU: the name of the volume
))  # fmt: skip

# First bytes of numbers in GNU's base 256.
_POSITIVE, _NEGATIVE = 0o200, 0o377
_GNU_MAGIC = b"ustar  \0"


class Header(NamedTuple):
    """One header block; `size` is what it says of the bytes that follow, padding not included."""

    name: str
    kind: bytes
    size: int
    link: str


def parse_header(block: bytes) -> Header:
    """Parses a block of 512 bytes.

    Raises:
        ValueError: It is not a header; the message says why.
    """
    stored = block[148:156]
    total = sum(block) - sum(stored) + 256
    if (checksum := number(stored)) != total and checksum != _signed(block, total):
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
    """Tells whether a block is a header; other bytes do not have their own checksum in them."""
    if len(block) != BLOCK:
        return False
    try:
        parse_header(block)
    except ValueError:
        return False
    return True


def is_file(kind: bytes) -> bool:
    """Tells whether a member is a regular file; POSIX wants kinds that are not known to be read as such."""
    return kind not in _OTHER_KINDS


def is_star(block: bytes) -> bool:
    """Tells whether a header is of star's own dialect."""
    return block[508:512] == b"tar\0" and block[257:262] == b"ustar"


def _prefix(block: bytes) -> str:
    """Returns what a header has in front of the name, "" where its dialect has other things there.

    In the old GNU dialect that are times, unless they are none: Go before 1.8 wrote a prefix there.
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
    """Tells whether the bytes that the size counts follow; unknown kinds are like regular files."""
    return kind not in _DATALESS_KINDS


def padded(size: int) -> int:
    """Rounds up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def text(field: bytes) -> str:
    """Decodes a field that ends at its first NUL."""
    stop = field.find(0)
    return (field if stop < 0 else field[:stop]).decode("utf-8", "surrogateescape")


def number(field: bytes) -> int:
    """Decodes octal digits, or GNU's base 256 for what octal cannot hold.

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


def _signed(block: bytes, total: int) -> int:
    """Returns the checksum of writers that took bytes for signed: old Sun and NeXT did."""
    return total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])  # noqa: PLR2004
