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
    # MATLAB keeps UTF-16: what is outside the basic plane comes as two characters. Half of such a pair is no
    # character, but MATLAB writes it where a char array is cut, or holds numbers; Python's str can hold it.
    text = [
        "".join(row).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        for row in rows
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
    """Returns a sparse matrix whose indices all lie within it: SciPy does not look when it uses them.

    Raises:
        ValueError: Some do not, or an element is there twice, which SciPy would add.
    """
    columns = sparse.csc_array(
        matrix
    )  # adds elements that are there twice, unless it is one already
    columns.check_format(full_check=True)
    once = columns
    if not columns.has_canonical_format:
        once = columns.copy()
        once.sum_duplicates()
    if once.nnz != matrix.nnz:
        raise ValueError("it has an element twice")
    return columns


def exactly(values: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Returns numbers in another type, in which they are the same numbers.

    Args:
        values: Integers or floating-point numbers.
        kind: The other type; a complex one has imaginary parts too, which are zero.

    Raises:
        ValueError: That type does not have one of them.
    """
    part = np.dtype(kind).type(0).real.dtype
    if values.dtype == part or values.dtype.newbyteorder() == part:
        return values.astype(kind)
    with np.errstate(invalid="ignore", over="ignore"):
        converted = values.astype(part)
        back = converted.astype(values.dtype)
    # Compared in one type, for NumPy compares integers of 64 bits with others as floating-point numbers.
    same = np.array_equal(back, values, equal_nan=part.kind == values.dtype.kind == "f")
    same = same and np.array_equal(converted < 0, values < 0)
    if part.kind != values.dtype.kind and "f" in (part.kind, values.dtype.kind):
        floats, whole = (converted, values.dtype) if part.kind == "f" else (values, part)
        # What is larger than any integer can become the largest, and that become what it was.
        same = same and bool((floats < 2.0 ** (8 * whole.itemsize - (whole.kind == "i"))).all())
    if not same:
        raise ValueError(f"it has numbers, stored as {values.dtype}, that {part} does not have")
    return converted.astype(kind)
