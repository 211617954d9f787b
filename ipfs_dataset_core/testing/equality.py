"""Equality of sample values for the contract suites, because `==` of arrays gives no single result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable


def same_value(one: Any, other: Any) -> bool:  # noqa: PLR0911 - one for each kind of value
    """Returns whether two values are equal and of the same type, recursively.

    Compares the contents of tuples, lists, dictionaries, dataclasses and attrs classes; tensors and arrays by
    type, shape type, shape and elements, and PIL images by mode, palette and pixels. NaN is equal to NaN.

    Raises:
        TypeError: The comparison of a type gives no single result.
    """
    library = type(one).__module__.partition(".")[0]
    if library == "PIL" and type(other).__module__.partition(".")[0] == "PIL":
        return _image_facts(one) == _image_facts(other)
    if type(one) is not type(other):
        return False
    if library == "torch" and hasattr(one, "dtype") and hasattr(one, "shape"):
        return _same_tensor(one, other)
    if library == "numpy" and hasattr(one, "dtype"):
        return _same_array(one, other)
    if isinstance(one, dict):
        return same_value(list(one.items()), list(other.items()))
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, complex):
        return same_value((one.real, one.imag), (other.real, other.imag))
    fields = _fields(one)
    if fields is not None:
        return same_value(fields, _fields(other))
    try:
        return bool(one == other)
    except Exception as error:
        raise TypeError(
            f"values of type {type(one).__name__} cannot be compared by ==: override `same`"
        ) from error


def difference(found: Any, wanted: Any, where: str = "it") -> str:
    """Describes the first difference between two values that are not equal.

    Args:
        found: The value that was returned.
        wanted: The value that was expected.
        where: What the values are part of, as the message names it.
    """
    if type(found) is not type(wanted):
        return (
            f"{where} was {found!r:.200} of type {type(found).__name__}, not {wanted!r:.200} of type "
            f"{type(wanted).__name__}"
        )
    if isinstance(found, (bytes, str, tuple, list)) and len(found) != len(wanted):
        return (
            f"{where} had length {len(found)}, not {len(wanted)}: {found!r:.80}, not {wanted!r:.80}"
        )
    parts: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(found, dict) and found.keys() == wanted.keys():
        parts = ((key, found[key], wanted[key]) for key in found)
    elif isinstance(found, (bytes, tuple, list)):
        parts = zip(range(len(found)), found, wanted, strict=True)
    for key, one, other in parts:
        try:
            equal = same_value(one, other)
        except TypeError:  # the contract of this type overrides `same`
            break
        if not equal:
            return difference(one, other, f"{where}[{key!r}]")
    return f"{where} was {found!r:.200}, not {wanted!r:.200}"


def _fields(value: Any) -> dict[str, Any] | None:
    if isinstance(value, type):
        return None
    names = getattr(value, "__dataclass_fields__", None)
    if names is None and attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value))]
    return None if names is None else {name: getattr(value, name) for name in names}


def _same_tensor(one: Any, other: Any) -> bool:
    if (one.dtype, one.shape, one.layout) != (other.dtype, other.shape, other.layout):
        return False
    one, other = (tensor.detach().to_dense().cpu() for tensor in (one, other))
    return bool(((one == other) | ((one != one) & (other != other))).all())  # noqa: PLR0124 - NaN


def _same_array(one: Any, other: Any) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if one.dtype.hasobject:
        return same_value(one.tolist(), other.tolist())
    if one.tobytes() == other.tobytes():
        return True
    if one.dtype.names is not None:
        return all(_same_array(one[name], other[name]) for name in one.dtype.names)
    return bool(((one == other) | ((one != one) & (other != other))).all())  # noqa: PLR0124 - NaN


def _image_facts(image: Any) -> tuple[Any, ...]:
    palette = image.palette and image.getpalette(image.palette.mode)
    return image.mode, image.size, palette, image.info.get("transparency"), image.tobytes()
