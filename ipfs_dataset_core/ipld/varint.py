"""Unsigned varints of multiformats: at most 9 bytes, and only the shortest form is valid."""

from __future__ import annotations

from ipfs_dataset_core.errors import FormatError

MAX_BYTES = 9


def encode(value: int) -> bytes:
    """Returns the varint of a number from 0 to 2**63 - 1; protobuf allows itself one bit more."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(buffer: bytes | memoryview, position: int = 0) -> tuple[int, int]:
    """Returns the number at `position` and the position behind it.

    Raises:
        FormatError: The varint is cut, longer than 9 bytes or not in its shortest form.
    """
    value = 0
    for count in range(MAX_BYTES):
        if position + count >= len(buffer):
            raise FormatError(f"Varint at offset {position} is cut off.")
        byte = buffer[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            if byte == 0 and count:
                raise FormatError(f"Varint at offset {position} is not in its shortest form.")
            return value, position + count + 1
    raise FormatError(f"Varint at offset {position} is longer than {MAX_BYTES} bytes.")
