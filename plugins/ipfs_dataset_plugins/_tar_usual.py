"""The headers that nearly all members have, many of them parsed at once from one piece of an archive.

What is not exactly like that ends the run, and is left to the general parser; so this decides nothing about
archives, it only is several times faster: for small members, parsing costs more than the network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zlib import adler32

from ipfs_dataset_plugins._tar_headers import BLOCK, padded

if TYPE_CHECKING:
    from collections.abc import Iterator

# A regular file whose name needs no second look, all numbers octal, nothing in the fields that extend others.
_USUAL = re.compile(
    rb"(?=(?P<name>[^\0/][^\0]{0,99})).{100}"
    rb"(?:[0-7]{6}[0-7 ][ \0]){3}(?P<size>[0-7]{11})[ \0][0-7]{11}[ \0]"
    rb"(?P<checksum>[0-7]{6})(?:\0 | \0)(?P<kind>[0\0]).{172}"
    rb"(?:(?:[0-7]{6}[0-7 ][ \0]){2}|\0{16})\0{167}",
    re.DOTALL,
)
_CHECKSUM = slice(148, 156)
_LAST_USED = 345
_SPACES = 8 * ord(" ")


def usual_headers(piece: bytes, at: int) -> Iterator[tuple[int, str, int]]:
    """Yields where a header starts, the member's name and its size, for as long as headers are usual.

    Args:
        piece: Part of an archive.
        at: Where in it a header is expected.
    """
    match = _USUAL.match
    while found := match(piece, at):
        raw_name, size, checksum, kind = found.groups()
        if int(checksum, 8) != _checksum(piece, at):
            return
        name = raw_name.decode("utf-8", "surrogateescape")
        if (
            ".." in name
            or "._" in name
            or "__MACOSX" in name
            or (kind == b"\0" and name[-1] == "/")
        ):
            return
        count = int(size, 8)
        yield at, name, count
        at += BLOCK + padded(count)


def _checksum(piece: bytes, at: int) -> int:
    """Returns the sum of a header's bytes, those of the checksum taken for spaces.

    Adler-32 has that sum in its lower half, modulo 65521, which fewer than 257 bytes do not reach.
    """
    before = adler32(piece[at : at + _CHECKSUM.start], 0)
    after = adler32(piece[at + _CHECKSUM.stop : at + _LAST_USED], 0)
    return (before & 0xFFFF) + (after & 0xFFFF) + _SPACES
