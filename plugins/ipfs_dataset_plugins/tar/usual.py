"""The headers that nearly all members have, many of them parsed at once from one piece of an archive.

What is not exactly like that ends the run, and is left to the general parser; so this decides nothing about
archives, it only is several times faster: for small members, parsing costs more than the network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zlib import adler32

from ipfs_dataset_plugins.tar.headers import BLOCK, padded

if TYPE_CHECKING:
    from collections.abc import Iterator

# A name that needs no second look, and all numbers octal.
_USUAL_START = re.compile(
    rb"(?=(?P<name>[^\0/][^\0]{0,99})).{100}"
    rb"(?:[0-7]{6}[0-7 ][ \0]){3}(?P<size>[0-7]{11})[ \0][0-7]{11}[ \0]"
    rb"(?P<checksum>[0-7]{6})(?:\0 | \0)",
    re.DOTALL,
)
# A regular file, and nothing in the fields that extend others.
_USUAL_REST = re.compile(rb"[0\0].{172}(?:(?:[0-7]{6}[0-7 ][ \0]){2}|\0{16})\0{167}", re.DOTALL)
_CHECKSUM, _REST = 148, 156
_REST_USED = 345 - _REST
_SPACES = 8 * ord(" ")


def usual_headers(piece: bytes, at: int) -> Iterator[tuple[int, str, int]]:
    """Yields where a header starts, the member's name and its size, for as long as headers are usual.

    Args:
        piece: Part of an archive.
        at: Where in it a header is expected.
    """
    match = _USUAL_START.match
    rest, rest_sum = b"", 0
    while found := match(piece, at):
        raw_name, size, checksum = found.groups()
        # The same in nearly all members of an archive, and then looked at once.
        if (own_rest := piece[at + _REST : at + BLOCK]) != rest:
            if not _USUAL_REST.fullmatch(own_rest):
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
    """Returns the sum of some bytes, as checksums of headers count them.

    Adler-32 has it in its lower half, modulo 65521, which fewer than 257 bytes do not reach.
    """
    return adler32(data, 0) & 0xFFFF
