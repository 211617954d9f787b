"""Damaged copies of small files for the contract suites: truncated, changed, and with very large numbers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRUNCATED = 40
_CHANGED = 60
# Number of bytes at either end, where headers and tables of contents contain lengths and counts.
_EDGE = 64


def truncated(data: bytes) -> Iterator[bytes]:
    """Yields a file truncated to various sizes, always including none, one and all but one of its bytes."""
    sizes = random.Random(1).sample(range(len(data)), min(_TRUNCATED, len(data)))  # noqa: S311 - damage
    for size in sorted({0, 1, len(data) - 1, *sizes}):
        if 0 <= size < len(data):
            yield data[:size]


def changed(data: bytes) -> Iterator[bytes]:
    """Yields a file with up to four bytes changed at random; a few copies may be equal to the file."""
    generator = random.Random(2)  # noqa: S311 - damage
    for _ in range(_CHANGED if data else 0):
        damaged = bytearray(data)
        for _ in range(generator.choice((1, 1, 4))):
            damaged[generator.randrange(len(data))] = generator.randrange(256)
        yield bytes(damaged)


def with_large_numbers(data: bytes) -> Iterator[bytes]:
    """Yields a file with one byte near its start or end set to 255: most numbers become huge or negative."""
    first, last = range(min(_EDGE, len(data))), range(max(0, len(data) - _EDGE), len(data))
    for position in sorted({*first, *last}):
        yield data[:position] + b"\xff" + data[position + 1 :]
