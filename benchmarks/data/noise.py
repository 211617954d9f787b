"""Pseudorandom bytes that are the same in each run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
# Six random bits in each byte, so that the data can be compressed, like most real data.
_LETTERS = bytes(64 + (byte & 63) for byte in range(256))


def pieces(seed: int, size: int, piece: int = MIB) -> Iterator[bytes]:
    """Yields `size` pseudorandom bytes in pieces, all of them different."""
    source = random.Random(seed)
    for start in range(0, size, piece):
        yield source.randbytes(min(piece, size - start))


def compressible(data: bytes) -> bytes:
    """Returns as many bytes, which deflate makes smaller by a quarter."""
    return data.translate(_LETTERS)
