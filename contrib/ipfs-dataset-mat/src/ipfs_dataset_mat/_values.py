"""MATLAB's values as Python's: equal for every version of the format.

Numbers, logicals and complex numbers stay arrays in the shape that MATLAB shows; text becomes `str`, cells
lists, structs dicts, sparse matrices SciPy's sparse arrays.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import attrs
import numpy as np
from scipy import sparse

MAX_DEPTH = 64
"""How deep cells and structs may nest."""


class NoCounterpartError(ValueError):
    """A value is sound, and means something to MATLAB alone."""


@attrs.frozen
class Structs:
    """An array of structs.

    Args:
        elements: Dicts of finished values, in the shape that MATLAB shows.
    """

    elements: np.ndarray[Any, Any]


Raw: TypeAlias = Any
"""A value that can still be sliced: an array of numbers, of single characters or, for cells, of finished
values as objects; `Structs`; or a `csc_array`."""


def finished(raw: Raw) -> Any:
    """Returns the value that users see."""
    if isinstance(raw, Structs):
        elements = raw.elements
        return elements.reshape(-1)[0] if elements.size == 1 else _lists(elements)
    if isinstance(raw, sparse.csc_array):
        return raw
    if raw.dtype.kind == "U":
        return _text(raw)
    return _lists(raw) if raw.dtype.kind == "O" else raw


def rows_of(raw: Raw, axis: int, start: int, stop: int) -> list[Raw]:
    """Returns the slices `start` to `stop` along an axis, copied and without that axis."""
    if isinstance(raw, sparse.csc_array):
        part = raw[start:stop, :] if axis == 0 else raw[:, start:stop].T
        return list(part.toarray())
    if isinstance(raw, Structs):
        return [Structs(row) for row in _split(raw.elements, axis, start, stop)]
    return list(_split(raw, axis, start, stop))


def _split(
    values: np.ndarray[Any, Any], axis: int, start: int, stop: int
) -> list[np.ndarray[Any, Any]]:
    moved = np.moveaxis(values, axis, 0)
    return [moved[row].copy() for row in range(start, stop)]


def _lists(values: np.ndarray[Any, Any]) -> list[Any]:
    """Returns a list of a row or column, and of anything else nested lists, rows first."""
    if sum(length != 1 for length in values.shape) <= 1 or not values.size:
        values = values.reshape(-1)
    nested: list[Any] = values.tolist()
    return nested


def _text(characters: np.ndarray[Any, Any]) -> Any:
    if not characters.size:
        return ""
    rows = characters.reshape(-1, characters.shape[-1]) if characters.ndim else characters[None]
    # MATLAB keeps UTF-16: what is outside the basic plane comes as two characters.
    text = [
        "".join(row).encode("utf-16", "surrogatepass").decode("utf-16", "replace") for row in rows
    ]
    return text[0] if len(text) == 1 else text


def characters(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns an array of single characters from their codes, of UTF-16 or UTF-32."""
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) <= sys.maxunicode:
        raise ValueError("it has codes that no character has")
    wide: np.ndarray[Any, Any] = np.asarray(codes.astype(np.uint32), order="C")
    text: np.ndarray[Any, Any] = wide.view("U1").reshape(codes.shape)
    return text


def checked_sparse(matrix: Any) -> sparse.csc_array:
    """Returns a sparse matrix whose indices all lie within it: SciPy does not look when it uses them."""
    columns = sparse.csc_array(matrix)
    columns.check_format(full_check=True)
    return columns
