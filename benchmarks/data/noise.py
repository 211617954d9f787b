"""Bytes that look random and are the same every time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
# Six bits in each byte, so that compressors have something to find, as in most real data.
_LETTERS = bytes(64 + (byte & 63) for byte in range(256))


def pieces(seed: int, size: int, piece: int = MIB) -> Iterator[bytes]:
    """Yields `size` bytes in pieces; no two of them are alike."""
    source = random.Random(seed)
    for start in range(0, size, piece):
        yield source.randbytes(min(piece, size - start))


def compressible(data: bytes) -> bytes:
    """Returns as many bytes, which deflate makes a quarter smaller."""
    return data.translate(_LETTERS)
