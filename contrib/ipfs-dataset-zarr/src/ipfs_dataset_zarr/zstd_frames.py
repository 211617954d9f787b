"""The decompressed size of Zstandard frames, found without decompressing them (RFC 8878, section 3.1).

Some writers do not declare the size of a frame, and the codec of zarr then decompresses it without a limit.
"""

from __future__ import annotations

_MAGIC = 0xFD2FB528
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_BLOCK_BYTES = 128 << 10
_RLE, _COMPRESSED, _RESERVED = 1, 2, 3  # types of blocks


def decompressed_bytes(data: bytes) -> tuple[int, int]:
    """Returns the decompressed size of consecutive frames.

    Returns:
        The sum of the sizes that frames declare, and an upper bound for the frames that declare none, in
        bytes.

    Raises:
        ValueError: The data are not Zstandard frames, or are cut off.
    """
    declared = possible = position = 0
    while position < len(data):
        magic = _number(data, position, 4)
        if magic in _SKIPPABLE:
            position += 8 + _number(data, position + 4, 4)
            continue
        if magic != _MAGIC:
            raise ValueError("it is not compressed by zstd")
        size, position, checksum = _header(data, position + 4)
        bound, position = _blocks(data, position)
        declared += size or 0
        possible += bound if size is None else 0
        position += 4 if checksum else 0
    return declared, possible


def _header(data: bytes, position: int) -> tuple[int | None, int, bool]:
    """Parses the header of a frame.

    Returns:
        The size that the frame declares, or None; the position of its first block; and whether it ends with a
        checksum.
    """
    flags = _number(data, position, 1)
    has_checksum = bool(flags & 4)
    is_single_segment = bool(flags & 0x20)  # a single segment has no window descriptor, of one byte
    window_bytes = 0 if is_single_segment else 1
    dictionary_id_bytes = (0, 1, 2, 4)[flags & 3]
    size_bytes = (1 if is_single_segment else 0, 2, 4, 8)[flags >> 6]
    position += 1 + window_bytes + dictionary_id_bytes
    if size_bytes == 0:
        return None, position, has_checksum
    size = _number(data, position, size_bytes)
    if size_bytes == 2:  # noqa: PLR2004 - RFC 8878, section 3.1.1.1.4
        size += 256
    return size, position + size_bytes, has_checksum


def _blocks(data: bytes, position: int) -> tuple[int, int]:
    """Returns an upper bound for the decompressed size of a frame's blocks, and the end of the blocks."""
    bound, is_last = 0, False
    while not is_last:
        header = _number(data, position, 3)
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise ValueError("it is damaged, or not compressed by zstd")
        bound += _BLOCK_BYTES if kind == _COMPRESSED else size
        position += 3 + (1 if kind == _RLE else size)
    return bound, position


def _number(data: bytes, start: int, size: int) -> int:
    if start + size > len(data):
        raise ValueError("it is cut off")
    return int.from_bytes(data[start : start + size], "little")
