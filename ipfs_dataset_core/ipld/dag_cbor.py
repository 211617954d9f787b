"""DAG-CBOR: a complete decoder, and an encoder for the types in headers of CARs."""

from __future__ import annotations

import struct
from typing import Any

from ipfs_dataset_core.errors import FormatError

# The header of a CAR has three levels.
MAX_DEPTH = 8

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES = {20: False, 21: True, 22: None}
_FLOATS = {2: ">e", 4: ">f", 8: ">d"}
_INLINE = 24
_CID_TAG = 42


class LinkBytes(bytes):
    """The binary CID of a link, as a type distinct from plain bytes."""

    __slots__ = ()


def decode(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Decodes a block to an int, float, bool, None, bytes, str, list, dict or `LinkBytes`.

    Args:
        data: The block.
        max_depth: Maximum number of nested lists and maps.

    Raises:
        FormatError: The data is cut off, malformed, followed by other data, nested too deep, or of a type
            that DAG-CBOR does not allow.
    """
    value, end = _item(data, 0, max_depth)
    if end != len(data):
        raise FormatError(f"{len(data) - end} bytes follow the CBOR value")
    return value


def _head(data: bytes, position: int) -> tuple[int, int, int]:
    if position >= len(data):
        raise FormatError(f"CBOR is cut off at offset {position}")
    major, low = data[position] >> 5, data[position] & 31
    position += 1
    if low < _INLINE:
        return major, low, position
    size = 1 << (low - _INLINE)
    end = position + size
    if size > 8 or end > len(data):  # noqa: PLR2004 - a number has at most 8 bytes
        raise FormatError(f"CBOR has a malformed number at offset {position}")
    return major, int.from_bytes(data[position:end], "big"), end


def _item(data: bytes, position: int, levels: int) -> tuple[Any, int]:  # noqa: PLR0911 - one for each type
    if levels < 0:
        raise FormatError("CBOR nests deeper than what is read here")
    start = position
    major, number, position = _head(data, position)
    if major == _UINT:
        return number, position
    if major in (_BYTES, _TEXT):
        return _string(data, position, number, text=major == _TEXT)
    if major == _ARRAY:
        return _array(data, position, number, levels)
    if major == _MAP:
        return _map(data, position, number, levels)
    if major == _TAG and number == _CID_TAG:
        return _link(data, position, levels)
    if major == _NEGATIVE:
        return -1 - number, position
    if major == _SIMPLE:
        return _simple(data, start, position, number), position
    raise FormatError(f"CBOR of major type {major} before offset {position} is not read here")


def _simple(data: bytes, start: int, end: int, number: int) -> Any:
    code = _FLOATS.get(end - start - 1)
    if code is not None:
        return struct.unpack(code, data[start + 1 : end])[0]
    if end - start > 1 or number not in _SIMPLE_VALUES:
        raise FormatError(f"CBOR has an unknown simple value {number} at offset {start}")
    return _SIMPLE_VALUES[number]


def _string(data: bytes, position: int, size: int, *, text: bool) -> tuple[bytes | str, int]:
    end = position + size
    if end > len(data):
        raise FormatError(f"CBOR string at offset {position} is cut off")
    raw = data[position:end]
    if not text:
        return raw, end
    try:
        return raw.decode("utf-8"), end
    except UnicodeDecodeError:
        raise FormatError(f"CBOR text at offset {position} is not UTF-8") from None


def _array(data: bytes, position: int, count: int, levels: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(
        count
    ):  # ends at the end of the data at the latest, because every item takes a byte
        value, position = _item(data, position, levels - 1)
        items.append(value)
    return items, position


def _map(data: bytes, position: int, count: int, levels: int) -> tuple[dict[str, Any], int]:
    items: dict[str, Any] = {}
    for _ in range(count):
        key, position = _item(data, position, levels - 1)
        if not isinstance(key, str) or key in items:
            raise FormatError(f"CBOR map key before offset {position} is not text, or occurs twice")
        items[key], position = _item(data, position, levels - 1)
    return items, position


def _link(data: bytes, position: int, levels: int) -> tuple[LinkBytes, int]:
    value, position = _item(data, position, levels - 1)
    if not isinstance(value, bytes) or value[:1] != b"\0":
        raise FormatError(f"CBOR link before offset {position} is malformed")
    return LinkBytes(value[1:]), position


def _encode_head(major: int, number: int) -> bytes:
    if number < _INLINE:
        return bytes((major << 5 | number,))
    power = next(power for power in range(4) if number < 1 << (8 << power))
    return bytes((major << 5 | _INLINE + power,)) + number.to_bytes(1 << power, "big")


def encode(value: Any) -> bytes:
    """Encodes a value of the types that occur in headers of CARs.

    Args:
        value: An int from 0 to 2**64 - 1, bytes, `LinkBytes`, str, or a list or dict of these. Keys of a dict
            are written in its order, which must be that of DAG-CBOR.
    """
    if isinstance(value, int):
        return _encode_head(_UINT, value)
    if isinstance(value, LinkBytes):
        return _encode_head(_TAG, _CID_TAG) + encode(b"\0" + bytes(value))
    if isinstance(value, bytes):
        return _encode_head(_BYTES, len(value)) + value
    if isinstance(value, str):
        raw = value.encode("utf-8")
        return _encode_head(_TEXT, len(raw)) + raw
    if isinstance(value, list):
        return _encode_head(_ARRAY, len(value)) + b"".join(map(encode, value))
    pairs = (encode(key) + encode(item) for key, item in value.items())
    return _encode_head(_MAP, len(value)) + b"".join(pairs)
