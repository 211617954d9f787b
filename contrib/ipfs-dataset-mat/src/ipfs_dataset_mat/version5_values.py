"""MATLAB's values as version 5 holds them: matrices inside matrices."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from ipfs_dataset_mat.values import (
    MAX_DEPTH,
    NoCounterpartError,
    Structs,
    characters,
    checked_sparse,
    exactly,
    finished,
)
from ipfs_dataset_mat.version5_elements import BYTES, MATRIX, OPAQUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_mat.values import Raw
    from ipfs_dataset_mat.version5_elements import Element, Elements, Header

_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_DOUBLE, _SINGLE = 6, 7
_CLASSES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
_NO_COUNTERPART = {16: "a function handle", OPAQUE: "an object of a class, such as string or table"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_WIDE = (4, 17, 18)
_FILLING_BYTES = 8


class Matrices:
    """Decodes the matrices among elements; what is damaged is a `ValueError`.

    Args:
        elements: The elements.
        order: ``"<"`` or ``">"``.
    """

    def __init__(self, elements: Elements, order: str) -> None:
        self._elements = elements
        self._order = order

    def value(self, at: int = 0, depth: int = 0) -> tuple[Raw, int]:
        """Returns the value of the matrix element at a position, and where the next begins."""
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_DEPTH} deep")
        kind, size = self._elements.tag(at)
        if kind != MATRIX:
            raise ValueError(f"an element is of type {kind}, not a matrix")
        if not size:
            return np.zeros((0, 0)), at + 8
        value, after = self._filled(at + 8, depth)
        stop = at + 8 + size
        # Writers count what fills up the last element, or do not.
        if not after - _FILLING_BYTES < stop < after + _FILLING_BYTES:
            raise ValueError(
                f"what is at its byte {at} is to end at byte {stop}, and ends at byte {after}"
            )
        return value, max(after, stop)

    def _filled(self, at: int, depth: int) -> tuple[Raw, int]:
        """Returns the value of a matrix element that is not empty, and where its last part ends."""
        header = self._elements.header(at)
        if header.kind in _NO_COUNTERPART:
            raise NoCounterpartError(_NO_COUNTERPART[header.kind])
        if header.kind == _CELL:
            cells, after = self._each(math.prod(header.shape), header.after, depth)
            return cells.reshape(header.shape, order="F"), after
        if header.kind in (_STRUCT, _OBJECT):
            return self._structs(header, depth)
        if header.kind == _SPARSE:
            return self._sparse(header)
        if header.kind == _CHAR:
            text = self._elements.element(header.after)
            return self._characters(text, header.shape), text.after
        values, after = self._numbers(header, header.after)
        if len(values) != math.prod(header.shape):
            raise ValueError(f"it has {len(values)} values, not those of size {header.shape}")
        return values.reshape(header.shape, order="F"), after

    def _each(self, count: int, at: int, depth: int) -> tuple[np.ndarray[Any, Any], int]:
        """Returns the finished values of matrices that follow each other."""
        if count > (len(self._elements) - at) // 8:
            raise ValueError("it has more elements than bytes")
        values: np.ndarray[Any, Any] = np.empty(count, object)
        for number in range(count):
            raw, at = self.value(at, depth + 1)
            values[number] = finished(raw)
        return values, at

    def _structs(self, header: Header, depth: int) -> tuple[Structs, int]:
        at, count = header.after, math.prod(header.shape)
        if header.kind == _OBJECT:
            at = self._elements.element(at).after
        width = self._elements.element(at)
        names = self._elements.element(width.after)
        fields = _names(self._elements.bytes_of(names), int(self._elements.numbers(width)[0]))
        if count > len(self._elements):
            raise ValueError("it has more elements than bytes")
        values, after = self._each(count * len(fields), names.after, depth)
        elements: np.ndarray[Any, Any] = np.empty(count, object)
        for number in range(count):
            own = values[number * len(fields) : (number + 1) * len(fields)]
            elements[number] = dict(zip(fields, own, strict=True))
        return Structs(elements.reshape(header.shape, order="F")), after

    def _sparse(self, header: Header) -> tuple[sparse.csc_array, int]:
        rows = self._elements.element(header.after)
        columns = self._elements.element(rows.after)
        indptr, indices = self._elements.numbers(columns), self._elements.numbers(rows)
        stored = self._elements.element(columns.after)
        if header.is_logical and stored.stop - stored.start == len(indices):
            # MATLAB calls them doubles, and writes a byte for each.
            values, after = self._elements.numbers(stored._replace(kind=BYTES)) != 0, stored.after
        else:
            values, after = self._numbers(header, columns.after)
        count = int(indptr[-1])  # there may be room for more
        matrix = sparse.csc_array((values[:count], indices[:count], indptr), shape=header.shape)
        return checked_sparse(matrix), after

    def _numbers(self, header: Header, at: int) -> tuple[np.ndarray[Any, Any], int]:
        """Returns flat numbers in the type of their class: the file may store them in a smaller one."""
        number = _DOUBLE if header.kind == _SPARSE else header.kind
        if not _DOUBLE <= number < _DOUBLE + len(_CLASSES):
            raise ValueError(f"there is no class {number}")
        real = self._elements.element(at)
        values = self._elements.numbers(real)
        if header.is_logical:
            return values.astype(bool), real.after
        if not header.is_complex:
            return exactly(values, _CLASSES[number - _DOUBLE]), real.after
        imaginary = self._elements.element(real.after)
        kind, imaginary_values = (
            "c8" if number == _SINGLE else "c16",
            self._elements.numbers(imaginary),
        )
        if len(imaginary_values) != len(values):
            raise ValueError(
                f"it has {len(values)} real parts and {len(imaginary_values)} imaginary"
            )
        pairs = exactly(values, kind)
        pairs.imag = exactly(imaginary_values, kind).real
        return pairs, imaginary.after

    def _characters(self, text: Element, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        encoding = _ENCODINGS.get(text.kind)
        if encoding is None:
            raise ValueError(f"an element is of type {text.kind}, not text")
        # Bytes that are no UTF-8 become half of a pair each, as Python reads the names of files.
        count, errors = math.prod(shape), "surrogateescape"
        if text.start == text.stop and count <= len(self._elements):
            return np.full(shape, " ")  # MATLAB leaves out what is blank
        if text.kind in _WIDE:
            encoding, errors = f"{encoding}-{'le' if self._order == '<' else 'be'}", "surrogatepass"
        decoded = self._elements.bytes_of(text).decode(encoding, errors)
        codes = np.frombuffer(decoded.encode("utf-16-le", "surrogatepass"), "<u2")
        if len(codes) != count:
            # Other writers than MATLAB count a character beyond the basic plane once.
            codes = np.frombuffer(decoded.encode("utf-32-le", "surrogatepass"), "<u4")
        if len(codes) != count:
            raise ValueError(f"it has {len(decoded)} characters, not those of size {shape}")
        return characters(codes).reshape(shape, order="F")


def _names(data: bytes, width: int) -> list[str]:
    """Returns the names of fields, each of which takes up as many bytes as the longest may."""
    if width <= 0:
        raise ValueError("the length of its field names is damaged")
    if len(data) % width:
        raise ValueError("its field names are cut off")
    names = [
        data[start : start + width].partition(b"\0")[0].decode("latin-1")
        for start in range(0, len(data), width)
    ]
    return list(_renamed(names))


def _renamed(names: list[str]) -> Iterator[str]:
    """Yields the names of fields; those that were there before get a number in front, as in SciPy.

    MATLAB itself makes no such structs, but other programs do.
    """
    used: set[str] = set()
    for name in names:
        numbers = itertools.count(1)
        new = name
        while new in used or (new != name and new in names):
            new = f"_{next(numbers)}_{name}"
        used.add(new)
        yield new
