"""How much Zstandard frames unpack to, from their headers alone (RFC 8878, section 3.1).

Some writers do not say how much they packed, and zarr's codec then unpacks without an end.
"""

from __future__ import annotations

_MAGIC = 0xFD2FB528
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_BLOCK_BYTES = 128 << 10
_COMPRESSED, _RESERVED, _REPEATED = 2, 3, 1


def unpacked_bytes(data: bytes) -> tuple[int, int]:
    """Returns how many bytes frames declare to have, and how many those that declare nothing can have.

    Raises:
        ValueError: These are no such frames, or not whole ones.
    """
    declared = possible = position = 0
    while position < len(data):
        magic = _number(data, position, 4)
        if magic in _SKIPPABLE:
            position += 8 + _number(data, position + 4, 4)
            continue
        if magic != _MAGIC:
            raise ValueError("it is not packed by zstd")
        size, position, checksum = _header(data, position + 4)
        bound, position = _blocks(data, position)
        declared += size or 0
        possible += bound if size is None else 0
        position += 4 if checksum else 0
    return declared, possible


def _header(data: bytes, position: int) -> tuple[int | None, int, bool]:
    """Returns the size that a frame declares, where its blocks start, and whether a checksum ends it."""
    flags = _number(data, position, 1)
    single = bool(flags & 0x20)
    position += 1 + (not single) + (0, 1, 2, 4)[flags & 3]
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    if not width:
        return None, position, bool(flags & 4)
    size = _number(data, position, width) + (256 if width == 2 else 0)  # noqa: PLR2004 - as the RFC says
    return size, position + width, bool(flags & 4)


def _blocks(data: bytes, position: int) -> tuple[int, int]:
    """Returns how many bytes a frame's blocks can have, and where they end."""
    bound, last = 0, False
    while not last:
        header = _number(data, position, 3)
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise ValueError("it is damaged, or not packed by zstd")
        bound += _BLOCK_BYTES if kind == _COMPRESSED else size
        position += 3 + (1 if kind == _REPEATED else size)
    return bound, position


def _number(data: bytes, start: int, size: int) -> int:
    if start + size > len(data):
        raise ValueError("it ends early")
    return int.from_bytes(data[start : start + size], "little")
