"""The subset of the protobuf wire format used by dag-pb, UnixFS, public keys and IPNS records.

See https://protobuf.dev/programming-guides/encoding/.

Unlike multiformats, protobuf allows varints of 10 bytes and forms that are not the shortest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld.multiformats import encode_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

Field = tuple[int, int, "int | memoryview"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_MAX_SHIFT = 63
_U64 = 1 << 64


def read_varint(buffer: memoryview | bytes, position: int) -> tuple[int, int]:
    """Returns the number at `position` and the position after it.

    Raises:
        FormatError: The number is cut off or takes more than 64 bits.
    """
    value = shift = 0
    try:
        while True:
            byte = buffer[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                break
            shift += 7
            if shift > _MAX_SHIFT:
                raise FormatError(f"protobuf number before offset {position} exceeds 64 bits")
    except IndexError:
        raise FormatError(f"protobuf number is cut off at offset {position}") from None
    if value >= _U64:
        raise FormatError(f"protobuf number before offset {position} exceeds 64 bits")
    return value, position


def field(view: memoryview, position: int) -> tuple[int, int, int | memoryview, int]:
    """Returns number, wire type and value of a field, and the position after it.

    Raises:
        FormatError: The field reaches beyond the message or has an unsupported wire type.
    """
    key, position = read_varint(view, position)
    number, wire = key >> 3, key & 7
    if wire == VARINT:
        value, position = read_varint(view, position)
        return number, wire, value, position
    start, end = _extent(view, position, wire)
    if end > len(view):
        raise FormatError(f"protobuf field {number} reaches to {end}, beyond {len(view)} bytes")
    return number, wire, view[start:end], end


def fields(view: memoryview) -> Iterator[Field]:
    """Yields number, wire type and value of each field: an int, or a view of the bytes.

    Raises:
        FormatError: As for `field`.
    """
    position = 0
    while position < len(view):
        number, wire, value, position = field(view, position)
        yield number, wire, value


def _extent(view: memoryview, position: int, wire: int) -> tuple[int, int]:
    if wire == BYTES:
        size, position = read_varint(view, position)
        return position, position + size
    if wire in (FIXED64, FIXED32):
        return position, position + (8 if wire == FIXED64 else 4)
    raise FormatError(f"protobuf wire type {wire} at offset {position} is not in use")


def tagged_varint(number: int, value: int) -> bytes:
    """Returns a field that is a number; field numbers are at most 15."""
    return bytes((number << 3 | VARINT,)) + encode_varint(value)


def tagged_bytes(number: int, value: bytes) -> bytes:
    """Returns a field that is bytes or a message; field numbers are at most 15."""
    return b"%c%b%b" % (number << 3 | BYTES, encode_varint(len(value)), value)
