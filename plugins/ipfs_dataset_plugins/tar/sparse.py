"""Sparse members of TAR archives, of which only the parts that are not zeros are stored.

There are five formats of the map of these parts. Old GNU tar and star store it in the header and the blocks
after it; GNU tar with pax headers stores it in two records for each part (0.0), in one record (0.1), or in
front of the data (1.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_plugins.tar.headers import BLOCK, decimal, is_star, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipfs_dataset_plugins.archives.buffered import BufferedFile
    from ipfs_dataset_plugins.tar.headers import Parts

_MAX_MAP_BLOCKS = 1 << 12  # 2 MiB


class MapBlocks:
    """Reads the blocks between the header and the data of a member.

    Attributes:
        position: The offset of the next block.
    """

    def __init__(self, archive: BufferedFile, position: int) -> None:
        self._archive = archive
        self.position = position

    def read(self) -> bytes:
        """Returns the next block.

        Raises:
            ValueError: The archive ends there.
        """
        block = self._archive.read(self.position, BLOCK)
        if len(block) < BLOCK:
            raise ValueError("its sparse map is cut off")
        self.position += BLOCK
        return block


def check_parts(parts: Iterable[tuple[int, int]], size: int, stored: int) -> Parts:
    """Returns the parts without the empty ones.

    Args:
        parts: The offset in the content and the length of each part, in bytes.
        size: The size of the content in bytes.
        stored: The number of stored bytes.

    Raises:
        ValueError: They overlap, exceed the content or need more bytes than are stored.
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
    """Returns the content: the stored parts at their offsets, with zeros between them."""
    pieces: list[bytes] = []
    position = taken = 0
    for offset, length in parts:
        pieces += bytes(offset - position), stored[taken : taken + length]
        position, taken = offset + length, taken + length
    pieces.append(bytes(size - position))
    return b"".join(pieces)


def old_map(header: bytes, blocks: MapBlocks) -> tuple[int, list[tuple[int, int]]]:
    """Returns the size of the content and its parts, from a header of old GNU tar or of star.

    Raises:
        ValueError: The map is damaged.
    """
    if is_star(header):
        return number(header[452:464]), _old_map(header[356:452], header[355], blocks)
    return number(header[483:495]), _old_map(header[386:482], header[482], blocks)


def _old_map(listed: bytes, extended: int, blocks: MapBlocks) -> list[tuple[int, int]]:
    parts = _old_pairs(listed)
    count = 0
    while extended:
        if (count := count + 1) > _MAX_MAP_BLOCKS:
            raise ValueError("its sparse map is too long")
        block = blocks.read()
        parts += _old_pairs(block[:504])
        extended = block[504]
    return parts


def pax_map(
    records: Sequence[tuple[bytes, bytes]], blocks: MapBlocks
) -> list[tuple[int, int]] | None:
    """Returns the parts of a member with pax headers; None if it is not sparse.

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
        return _pax_1_map(blocks)
    return None


def pax_size(fields: Mapping[bytes, bytes], stored: int) -> int:
    """Returns the size of a sparse member's content.

    Raises:
        ValueError: It is not a number.
    """
    size = fields.get(b"GNU.sparse.realsize", fields.get(b"GNU.sparse.size"))
    return stored if size is None else decimal(size)


def _pax_1_map(blocks: MapBlocks) -> list[tuple[int, int]]:
    """Returns the parts of format 1.0: a line with their number, then two lines for each part."""
    first, *lines = _lines(blocks.read())
    needed = 2 * decimal(first)
    count = 1
    while len(lines) <= needed:  # the last line continues in the next block
        if (count := count + 1) > _MAX_MAP_BLOCKS:
            raise ValueError("its sparse map is too long")
        lines += _lines(lines.pop() + blocks.read())
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
