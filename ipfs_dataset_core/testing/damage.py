"""Damaged copies of small files: truncated, with changed bytes, and with very large numbers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CUTS = 40
_HITS = 60
# Number of bytes at either end, where headers and tables of contents contain lengths and counts.
_EDGE = 64


def cut(data: bytes) -> Iterator[bytes]:
    """Yields a file truncated at several positions, including after the first and before the last bytes."""
    places = random.Random(1).sample(range(len(data)), min(_CUTS, len(data)))  # noqa: S311 - of damage
    for place in sorted({0, 1, len(data) - 1, *places}):
        if 0 <= place < len(data):
            yield data[:place]


def scattered(data: bytes) -> Iterator[bytes]:
    """Yields a file with one or a few bytes changed, anywhere."""
    generator = random.Random(2)  # noqa: S311 - of damage
    for _ in range(_HITS if data else 0):
        damaged = bytearray(data)
        for _ in range(generator.choice((1, 1, 4))):
            damaged[generator.randrange(len(data))] = generator.randrange(256)
        yield bytes(damaged)


def overwritten(data: bytes) -> Iterator[bytes]:
    """Yields a file with one byte at either end set to 255, which makes most numbers huge or negative."""
    for place in sorted(
        {*range(min(_EDGE, len(data))), *range(max(0, len(data) - _EDGE), len(data))}
    ):
        yield data[:place] + b"\xff" + data[place + 1 :]
