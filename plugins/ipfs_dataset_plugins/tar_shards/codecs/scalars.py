"""JSON that preserves what plain JSON loses: tuples, keys that are not text, bytes, nan, big integers.

Values that plain JSON represents exactly are written as plain JSON, so that any tool can read them. All
others become an object with a single key that starts with ``$``: ``{"$tuple": […]}``, ``{"$dict": [[key,
value], …]}``, ``{"$float": "nan"}``, or the bits of another NaN as ``"0x…"``, ``{"$int": "0x…"}``,
``{"$bytes": base64}``, ``{"$str": base64 of UTF-8 with surrogates}``, ``{"$complex": [real, imaginary]}``.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
import operator
import re
import reprlib
import struct
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import FormatError, unique_names

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 64
SCALARS: frozenset[type] = frozenset({str, int, float, bool, type(None), bytes, complex})
CONTAINERS = frozenset({list, tuple, dict})

# Maximum number of keys of a dict with equal hashes. -1 and -2 share a hash, as do some 30 powers of two.
_MOST_ALIKE = 64
_SHORT_SCALARS = SCALARS - {str, bytes}
# Created once, because `json.dumps` creates one per call.
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
)
# The function with which the encoder writes text.
_encode_text = json.encoder.encode_basestring
# Types that Python hashes with a secret.
_SAFE_KEYS = frozenset({str, bytes, bool, type(None)})
# Other JSON readers store numbers as doubles or as 64-bit integers.
_EXACT_INT = 1 << 63
_NAN = struct.pack(">d", float("nan"))


def is_plain(value: Any, *, longest: int, foreign: tuple[type, ...] = (), depth: int = 0) -> bool:
    """Returns whether a value consists only of scalars and containers of exactly the supported types.

    Args:
        value: Anything.
        longest: Text and bytes longer than this do not count as scalars.
        foreign: Types that do not count as scalars.
        depth: Number of containers around the value; values nested deeper than `MAX_DEPTH` are not plain.
    """
    kind = type(value)
    if foreign and isinstance(value, foreign):
        return False
    if kind in SCALARS:
        return kind not in (str, bytes) or len(value) <= longest
    if kind not in CONTAINERS or depth >= MAX_DEPTH:
        return False
    for part in (*value, *value.values()) if kind is dict else value:
        # Most parts are scalars, and checking here is faster than a call.
        kind = type(part)
        if kind in _SHORT_SCALARS and not foreign:
            continue
        if kind is str and not foreign and len(part) <= longest:
            continue
        if not is_plain(part, longest=longest, foreign=foreign, depth=depth + 1):
            return False
    return True


def dumps(value: Any) -> str:
    """Returns the JSON of a value for which `is_plain` holds."""
    kind = type(value)
    if kind is tuple or kind is list:
        # Most samples are flat, and writing their parts directly is faster than converting a container.
        parts = [
            _encode_text(part)
            if (of := type(part)) is str and part.isascii()
            else int.__repr__(part)
            if of is int and -_EXACT_INT <= part < _EXACT_INT
            else _ENCODER.encode(to_json(part))
            for part in value
        ]
        text = f"[{','.join(parts)}]"
        return text if kind is list else f'{{"$tuple":{text}}}'
    return _ENCODER.encode(to_json(value))


def loads(text: str | bytes, what: str) -> Any:
    """Parses JSON written by `dumps`.

    Args:
        text: The JSON.
        what: Name of the text in messages.

    Raises:
        FormatError: The text was not written by `dumps`.
    """
    return from_json(parse(text, what), what)


def parse(text: str | bytes, what: str) -> Any:
    """Parses strict JSON: NaN, Infinity and duplicate names in an object are errors."""
    try:
        if not isinstance(text, str):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not JSON: {error}") from error


def count_values(data: bytes) -> int:
    """Returns an upper bound of the number of values in JSON, including names, without parsing it."""
    return data.count(b",") + data.count(b":") + data.count(b"[") + data.count(b"{") + 1


def shown(value: Any) -> str:
    """Returns the beginning of a JSON value for a message, however large and nested it is."""
    return _SHORT.repr(value)


def _short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    short.maxlist = short.maxdict = short.maxtuple = short.maxlevel = 3
    return short


_SHORT = _short()


def unique_keys(keys: list[Any]) -> None:
    """Checks the keys of a dict for hash collisions.

    Python resolves equal hashes by linear search, and the hashes of numbers, and of tuples of numbers, are
    predictable, so a few thousand hostile keys could take minutes.

    Raises:
        ValueError: Too many keys have the same hash.
        TypeError: A key is not hashable.
    """
    if len(keys) <= _MOST_ALIKE:
        return
    kinds = set(map(type, keys))
    if kinds <= _SAFE_KEYS:
        return
    # Sorted, because the hashes of the hashes may collide as well.
    hashes = sorted(map(hash, keys))
    if any(map(operator.eq, hashes, itertools.islice(hashes, _MOST_ALIKE, None))):
        raise ValueError(f"more than {_MOST_ALIKE} keys have the same hash")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


# The decoder that `json.loads` would create for each call.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=unique_names)


def to_json(value: Any) -> Any:
    """Converts a plain value to objects that the json module can write."""
    write = _WRITERS.get(type(value))
    return value if write is None else write(value)


def from_json(value: Any, what: str) -> Any:
    """Converts parsed JSON to a value; the inverse of `to_json`."""
    try:
        return _from_json(value, what)
    except RecursionError as error:
        # From Python 3.12 on, the json module recurses deeper than Python code can.
        raise FormatError(f"{what} is nested too deep") from error


def _from_json(value: Any, what: str) -> Any:
    kind = type(value)
    if kind is list:
        return [_from_json(part, what) for part in value]
    if kind is not dict:
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: _from_json(part, what) for key, part in value.items()}
    if len(value) != 1 or tag not in _READERS:
        raise FormatError(f"{what} has an object with the unknown tag {tag[:40]!r}")
    try:
        return _READERS[tag](value[tag], what)
    except (ValueError, TypeError, LookupError) as error:
        raise FormatError(f"{what} has a damaged {tag!r}: {error}") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unbase64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"bad base64: {error}") from error


def _write_int(value: int) -> Any:
    return value if -_EXACT_INT <= value < _EXACT_INT else {"$int": hex(value)}


def _write_float(value: float) -> Any:
    if math.isfinite(value):
        return value
    bits = struct.pack(">d", value)
    # NaNs other than the default one are written with all their bits.
    return {"$float": f"0x{bits.hex()}" if math.isnan(value) and bits != _NAN else repr(value)}


def _write_str(value: str) -> Any:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$str": _base64(value.encode("utf-8", "surrogatepass"))}
    return value


def _write_dict(value: dict[Any, Any]) -> Any:
    if all(type(key) is str and key[:1] != "$" and _write_str(key) is key for key in value):
        return {key: to_json(part) for key, part in value.items()}
    return {"$dict": [[to_json(key), to_json(part)] for key, part in value.items()]}


_WRITERS: dict[type, Callable[[Any], Any]] = {
    int: _write_int,
    float: _write_float,
    str: _write_str,
    bytes: lambda value: {"$bytes": _base64(value)},
    complex: lambda value: {"$complex": [_write_float(value.real), _write_float(value.imag)]},
    list: lambda value: [to_json(part) for part in value],
    tuple: lambda value: {"$tuple": [to_json(part) for part in value]},
    dict: _write_dict,
}


def _read_float(value: Any, _: str) -> float:
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if type(value) is str and re.fullmatch(r"0x[7f]ff[0-9a-f]{13}", value):
        number: float = struct.unpack(">d", bytes.fromhex(value[2:]))[0]
        if math.isnan(number):
            return number
    raise ValueError(f"{value!r:.40} is neither nan, inf or -inf nor the bits of a NaN")


def _read_int(value: Any, _: str) -> int:
    return int(value, 16)


def _read_tuple(value: Any, what: str) -> tuple[Any, ...]:
    return tuple(_from_json(_typed(value, list), what))


def _read_dict(value: Any, what: str) -> dict[Any, Any]:
    pairs = [(_from_json(key, what), part) for key, part in _typed(value, list)]
    unique_keys([key for key, _ in pairs])
    found = {key: _from_json(part, what) for key, part in pairs}
    if len(found) < len(pairs):
        raise ValueError("two keys are equal")
    return found


def _read_complex(value: Any, what: str) -> complex:
    real, imaginary = _from_json(_typed(value, list), what)
    return complex(_typed(real, float), _typed(imaginary, float))


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is not a {kind.__name__}")
    return value


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "$int": _read_int,
    "$float": _read_float,
    "$str": lambda value, _: _unbase64(value).decode("utf-8", "surrogatepass"),
    "$bytes": lambda value, _: _unbase64(value),
    "$complex": _read_complex,
    "$tuple": _read_tuple,
    "$dict": _read_dict,
}
