"""Sparse members of TAR archives: which parts of the content are stored, the rest being zeros.

Formats: old GNU and star (the map in the header and the blocks after it) and GNU's pax forms 0.0 (a pair of
records a part), 0.1 (all in one record) and 1.0 (the map in front of the data).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_plugins.tar.headers import number
from ipfs_dataset_plugins.tar.pax import decimal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipfs_dataset_plugins.tar.pax import Records

Parts = tuple[tuple[int, int], ...]

_MAX_MAP_BLOCKS = 1 << 12  # 2 MiB of map


def checked(parts: Iterable[tuple[int, int]], size: int, stored: int) -> Parts:
    """Returns the parts ``(offset, length)`` that are not empty.

    Raises:
        ValueError: They overlap, exceed the content or need more than what is stored.
    """
    kept = tuple((offset, length) for offset, length in parts if length)
    reached = 0
    for offset, length in kept:
        if offset < reached or length < 0:
            raise ValueError("its sparse map is out of order")
        reached = offset + length
    if reached > size or sum(length for _, length in kept) > stored:
        raise ValueError("its sparse map exceeds its size")
    return kept


def assemble(stored: bytes, parts: Parts, size: int) -> bytes:
    """Puts the stored parts where they belong, zeros between."""
    pieces: list[bytes] = []
    position = taken = 0
    for offset, length in parts:
        pieces += bytes(offset - position), stored[taken : taken + length]
        position, taken = offset + length, taken + length
    pieces.append(bytes(size - position))
    return b"".join(pieces)


def stored_size(parts: Parts) -> int:
    """Returns how many bytes of the archive the parts take."""
    return sum(length for _, length in parts)


def old_gnu_map(
    header: bytes, next_block: Callable[[], bytes]
) -> tuple[int, list[tuple[int, int]]]:
    """Returns the size of the content and its parts.

    Raises:
        ValueError: The map is damaged.
    """
    return number(header[483:495]), _old_map(header[386:482], header[482], next_block)


def star_map(header: bytes, next_block: Callable[[], bytes]) -> tuple[int, list[tuple[int, int]]]:
    """Returns the same of a header of star's own dialect, which has them elsewhere."""
    return number(header[452:464]), _old_map(header[356:452], header[355], next_block)


def _old_map(
    listed: bytes, extended: int, next_block: Callable[[], bytes]
) -> list[tuple[int, int]]:
    parts = _old_pairs(listed)
    blocks = 0
    while extended:
        if (blocks := blocks + 1) > _MAX_MAP_BLOCKS:
            raise ValueError("its sparse map is too long")
        block = next_block()
        parts += _old_pairs(block[:504])
        extended = block[504]
    return parts


def pax_map(records: Records, next_block: Callable[[], bytes]) -> list[tuple[int, int]] | None:
    """Returns the parts of a member with pax records, None where it is not sparse.

    Raises:
        ValueError: The map is damaged.
    """
    last = dict(records)
    if (listed := last.get(b"GNU.sparse.map")) is not None:
        return _pairs([decimal(value) for value in listed.split(b",")] if listed else [])
    if b"GNU.sparse.size" in last:
        numbers = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
        return _pairs([decimal(value) for key, value in records if key in numbers])
    if (last.get(b"GNU.sparse.major"), last.get(b"GNU.sparse.minor")) == (b"1", b"0"):
        return _pax_1_map(next_block)
    return None


def pax_size(fields: Mapping[bytes, bytes], stored: int) -> int:
    """Returns the size of a sparse member's content.

    Raises:
        ValueError: It is not a number.
    """
    size = fields.get(b"GNU.sparse.realsize", fields.get(b"GNU.sparse.size"))
    return stored if size is None else decimal(size)


def _pax_1_map(next_block: Callable[[], bytes]) -> list[tuple[int, int]]:
    """Returns the parts that form 1.0 has in front of the data: their count, then two lines each."""
    count, *lines = _lines(next_block())
    needed = 2 * decimal(count)
    blocks = 1
    while len(lines) <= needed:  # the last of the lines is unfinished
        if (blocks := blocks + 1) > _MAX_MAP_BLOCKS:
            raise ValueError("its sparse map is too long")
        lines += _lines(lines.pop() + next_block())
    return _pairs([decimal(line) for line in lines[:needed]])


def _lines(data: bytes) -> list[bytes]:
    if b"\n" not in data:
        raise ValueError("its sparse map is damaged")
    return data.split(b"\n")


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise ValueError("its sparse map is damaged")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _old_pairs(data: bytes) -> list[tuple[int, int]]:
    return _pairs([number(data[start : start + 12]) for start in range(0, len(data), 12)])
