"""The small part of DAG-CBOR that the header of a CAR consists of."""

from __future__ import annotations

from typing import Any

from ipfs_dataset_core.errors import FormatError

MAX_DEPTH = 8

_UINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = 0, 2, 3, 4, 5, 6
_INLINE = 24
_CID_TAG = 42


class LinkBytes(bytes):
    """The binary CID of a link, told apart from plain bytes."""

    __slots__ = ()


def decode(data: bytes) -> Any:
    """Returns the one value that `data` is: int, bytes, str, list, dict or `LinkBytes`.

    Raises:
        FormatError: The data is cut, malformed, followed by more, or of a type not read here.
    """
    value, end = _item(data, 0, 0)
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


def _item(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise FormatError(f"CBOR nests deeper than {MAX_DEPTH} levels")
    major, number, position = _head(data, position)
    if major == _UINT:
        return number, position
    if major in (_BYTES, _TEXT):
        return _string(data, position, number, text=major == _TEXT)
    if major == _ARRAY:
        return _array(data, position, number, depth)
    if major == _MAP:
        return _map(data, position, number, depth)
    if major == _TAG and number == _CID_TAG:
        return _link(data, position, depth)
    raise FormatError(f"CBOR of major type {major} before offset {position} is not read here")


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


def _array(data: bytes, position: int, count: int, depth: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(count):  # ends at the end of the data at the latest, for every item has a byte
        value, position = _item(data, position, depth + 1)
        items.append(value)
    return items, position


def _map(data: bytes, position: int, count: int, depth: int) -> tuple[dict[str, Any], int]:
    items: dict[str, Any] = {}
    for _ in range(count):
        key, position = _item(data, position, depth + 1)
        if not isinstance(key, str) or key in items:
            raise FormatError(f"CBOR map key before offset {position} is no text or given twice")
        items[key], position = _item(data, position, depth + 1)
    return items, position


def _link(data: bytes, position: int, depth: int) -> tuple[LinkBytes, int]:
    value, position = _item(data, position, depth + 1)
    if not isinstance(value, bytes) or value[:1] != b"\0":
        raise FormatError(f"CBOR link before offset {position} is malformed")
    return LinkBytes(value[1:]), position


def _encode_head(major: int, number: int) -> bytes:
    if number < _INLINE:
        return bytes((major << 5 | number,))
    power = next(power for power in range(4) if number < 1 << (8 << power))
    return bytes((major << 5 | _INLINE + power,)) + number.to_bytes(1 << power, "big")


def encode(value: Any) -> bytes:
    """Returns the CBOR of a value that `decode` returns; the caller orders the keys of a dict."""
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
