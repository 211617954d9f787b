"""MATLAB values as Python values, the same for every version of the format.

Numbers, logical and complex values are arrays in the shape that MATLAB shows. Chars become `str`, cells
lists, structs dicts, and sparse matrices SciPy's sparse arrays.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from ipfs_dataset_mat.memory_limit import MemoryLimit

MAX_DEPTH = 64
"""How deep cells and structs may be nested."""


class UnsupportedClassError(ValueError):
    """A value is of a class that has no counterpart in Python; the message is the name of the class."""


@attrs.frozen
class Structs:
    """An array of structs.

    Attributes:
        elements: The structs as dicts of finished values, in the shape that MATLAB shows.
    """

    elements: np.ndarray[Any, Any]


Raw: TypeAlias = Any
"""A value that can still be divided into rows: an array of numbers, of single characters, or of finished
values as objects, for cells; `Structs`; or a `csc_array`."""


def finished(raw: Raw) -> Any:
    """Returns the value that is given to users."""
    if isinstance(raw, Structs):
        elements = raw.elements
        return elements.reshape(-1)[0] if elements.size == 1 else _lists(elements)
    if isinstance(raw, sparse.csc_array):
        return raw
    if raw.dtype.kind == "U":
        return _text(raw)
    return _lists(raw) if raw.dtype.kind == "O" else raw


def rows_of(raw: Raw, axis: int, start: int, stop: int, limit: MemoryLimit) -> list[Raw]:
    """Returns copies of the slices ``[start, stop)`` along an axis, without that axis.

    Raises:
        LimitError: The rows of a sparse matrix, which become dense, are too large.
    """
    if isinstance(raw, sparse.csc_array):
        limit.charge(raw.shape[1 - axis] * (stop - start) * raw.dtype.itemsize)
        part = raw[start:stop, :] if axis == 0 else raw[:, start:stop].T
        return list(part.toarray())
    if isinstance(raw, Structs):
        return [Structs(row) for row in _split(raw.elements, axis, start, stop)]
    return list(_split(raw, axis, start, stop))


def _split(
    values: np.ndarray[Any, Any], axis: int, start: int, stop: int
) -> list[np.ndarray[Any, Any]]:
    rows = np.moveaxis(values, axis, 0)
    return [rows[row].copy() for row in range(start, stop)]


def _lists(values: np.ndarray[Any, Any]) -> list[Any]:
    """Returns a list for a row or a column, and nested lists, rows first, for any other array."""
    if sum(length != 1 for length in values.shape) <= 1 or not values.size:
        values = values.reshape(-1)
    nested: list[Any] = values.tolist()
    return nested


def _text(characters: np.ndarray[Any, Any]) -> Any:
    if not characters.size:
        return ""
    rows = characters.reshape(-1, characters.shape[-1]) if characters.ndim else characters[None]
    # MATLAB stores UTF-16, so a character outside of the basic plane is a surrogate pair, and here becomes
    # one character. Single surrogates stay: MATLAB writes them if a char array is cut, or contains numbers.
    text = [
        "".join(row).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        for row in rows
    ]
    return text[0] if len(text) == 1 else text


def characters(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Returns an array of single characters.

    Args:
        codes: Code units of UTF-16, or code points.

    Raises:
        ValueError: A code is not a whole number, or larger than that of any character.
    """
    wide: np.ndarray[Any, Any] = np.asarray(exactly(codes, "u4"), order="C")
    if wide.size and wide.max() > sys.maxunicode:
        raise ValueError("it has codes that no character has")
    text: np.ndarray[Any, Any] = wide.view("U1").reshape(codes.shape)
    return text


def checked_sparse(matrix: Any) -> sparse.csc_array:
    """Returns a sparse matrix after checking its indices, which SciPy uses without a check.

    Raises:
        ValueError: An index is outside of the matrix, or an element is repeated, which SciPy would add up.
    """
    columns = sparse.csc_array(matrix)  # if it is converted, repeated elements are added up here
    columns.check_format(full_check=True)
    unique = columns
    if not columns.has_canonical_format:
        unique = columns.copy()
        unique.sum_duplicates()
    if unique.nnz != matrix.nnz:
        raise ValueError("it has an element twice")
    return columns


def exactly(values: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Converts numbers to another type, if that type can represent all of them exactly.

    Args:
        values: Integers or floating-point numbers.
        kind: The other type. If it is complex, the imaginary parts are 0.

    Raises:
        ValueError: The type cannot represent one of the numbers.
    """
    part = np.dtype(kind).type(0).real.dtype
    if values.dtype == part or values.dtype.newbyteorder() == part:
        return values.astype(kind)
    with np.errstate(invalid="ignore", over="ignore"):
        converted = values.astype(part)
        back = converted.astype(values.dtype)
    # Numbers of the same type are compared: NumPy converts integers of 64 bits to floating point to compare
    # them with numbers of another type.
    same = np.array_equal(back, values, equal_nan=part.kind == values.dtype.kind == "f")
    same = same and np.array_equal(converted < 0, values < 0)
    if part.kind != values.dtype.kind and "f" in (part.kind, values.dtype.kind):
        floats, whole = (converted, values.dtype) if part.kind == "f" else (values, part)
        # A float above the largest integer can be converted to the largest integer and back without change.
        same = same and bool((floats < 2.0 ** (8 * whole.itemsize - (whole.kind == "i"))).all())
    if not same:
        raise ValueError(f"it has numbers, stored as {values.dtype}, that {part} does not have")
    return converted.astype(kind)
