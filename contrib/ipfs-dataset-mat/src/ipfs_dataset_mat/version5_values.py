"""Decoding of values in version 5 files, in which every value is a matrix element, also those of cells."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from ipfs_dataset_mat.values import (
    MAX_DEPTH,
    Structs,
    UnsupportedClassError,
    characters,
    checked_sparse,
    exactly,
    finished,
)
from ipfs_dataset_mat.version5_elements import MATRIX, OPAQUE, TAG_BYTES, UINT8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_mat.memory_limit import MemoryLimit
    from ipfs_dataset_mat.values import Raw
    from ipfs_dataset_mat.version5_elements import Element, Elements, Header

# Numbers of MATLAB classes; those of numbers follow each other.
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_DOUBLE, _SINGLE = 6, 7
_NUMBER_TYPES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
_UNSUPPORTED = {16: "a function handle", OPAQUE: "an object of a class, such as string or table"}
# Encodings of text, by the type of the element.
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_WIDE_ENCODINGS = (4, 17, 18)
_PADDING_BYTES = 8
_CHARACTER_BYTES = 4


class Matrices:
    """Decodes matrix elements.

    Args:
        elements: The elements.
        limit: The limit on the memory of the values.
    """

    def __init__(self, elements: Elements, limit: MemoryLimit) -> None:
        self._elements = elements
        self._limit = limit

    def value(self, at: int = 0, depth: int = 0) -> tuple[Raw, int]:
        """Decodes the matrix element at a position.

        Args:
            at: The position.
            depth: The number of cells and structs around it.

        Returns:
            The value, and the position of the next element.

        Raises:
            ValueError: It is damaged or nested too deeply.
            UnsupportedClassError: A value in it has no counterpart in Python.
            LimitError: It is too large.
        """
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_DEPTH} deep")
        kind, size = self._elements.tag(at)
        start = at + TAG_BYTES
        if kind != MATRIX:
            raise ValueError(f"an element is of type {kind}, not a matrix")
        if not size:
            self._limit.charge(0)
            return np.zeros((0, 0)), start
        value, end = self._decode(start, depth)
        stop = start + size
        # Some writers include the padding of the last part in the size, others do not.
        if not end - _PADDING_BYTES < stop < end + _PADDING_BYTES:
            raise ValueError(
                f"the value at its byte {at} should end at byte {stop}, and ends at byte {end}"
            )
        return value, max(end, stop)

    def _decode(self, at: int, depth: int) -> tuple[Raw, int]:
        """Returns the value of a matrix element with data, and the end of its last part."""
        header = self._elements.header(at)
        if header.kind in _UNSUPPORTED:
            raise UnsupportedClassError(_UNSUPPORTED[header.kind])
        if header.kind == _CELL:
            cells, end = self._values(math.prod(header.shape), header.next, depth)
            return cells.reshape(header.shape, order="F"), end
        if header.kind in (_STRUCT, _OBJECT):
            return self._structs(header, depth)
        if header.kind == _SPARSE:
            return self._sparse(header)
        if header.kind == _CHAR:
            text = self._elements.element(header.next)
            return self._characters(text, header.shape), text.next
        values, end = self._numbers(header, header.next)
        if len(values) != math.prod(header.shape):
            raise ValueError(f"it has {len(values)} values, not those of size {header.shape}")
        return values.reshape(header.shape, order="F"), end

    def _values(self, count: int, at: int, depth: int) -> tuple[np.ndarray[Any, Any], int]:
        """Returns the finished values of consecutive matrix elements, and the position after them."""
        if count > (len(self._elements) - at) // TAG_BYTES:
            raise ValueError("it has more elements than bytes")
        values: np.ndarray[Any, Any] = np.empty(count, object)
        for number in range(count):
            raw, at = self.value(at, depth + 1)
            values[number] = finished(raw)
        return values, at

    def _structs(self, header: Header, depth: int) -> tuple[Structs, int]:
        at, count = header.next, math.prod(header.shape)
        if header.kind == _OBJECT:
            at = self._elements.element(at).next  # the name of the class
        width = self._elements.element(at)
        names = self._elements.element(width.next)
        fields = _field_names(self._elements.bytes_of(names), int(self._elements.numbers(width)[0]))
        if count > len(self._elements):
            raise ValueError("it has more elements than bytes")
        values, end = self._values(count * len(fields), names.next, depth)
        elements: np.ndarray[Any, Any] = np.empty(count, object)
        for number in range(count):
            self._limit.charge(0)
            own = values[number * len(fields) : (number + 1) * len(fields)]
            elements[number] = dict(zip(fields, own, strict=True))
        return Structs(elements.reshape(header.shape, order="F")), end

    def _sparse(self, header: Header) -> tuple[sparse.csc_array, int]:
        rows = self._elements.element(header.next)
        columns = self._elements.element(rows.next)
        indptr, indices = self._elements.numbers(columns), self._elements.numbers(rows)
        stored = self._elements.element(columns.next)
        if header.is_logical and stored.size == len(indices):
            # MATLAB declares the type double, and writes a byte for each element.
            values, end = self._elements.numbers(stored._replace(kind=UINT8)) != 0, stored.next
        else:
            values, end = self._numbers(header, columns.next)
        count = int(indptr[-1])  # the file may have space for more elements
        matrix = sparse.csc_array((values[:count], indices[:count], indptr), shape=header.shape)
        return checked_sparse(matrix), end

    def _numbers(self, header: Header, at: int) -> tuple[np.ndarray[Any, Any], int]:
        """Returns flat numbers in the type of their class, and the position after them.

        The file may store them in a smaller type.
        """
        number = _DOUBLE if header.kind == _SPARSE else header.kind
        if not _DOUBLE <= number < _DOUBLE + len(_NUMBER_TYPES):
            raise ValueError(f"there is no class {number}")
        real = self._elements.element(at)
        values = self._elements.numbers(real)
        if header.is_logical:
            self._limit.charge(len(values))
            return values.astype(bool), real.next
        if not header.is_complex:
            dtype = _NUMBER_TYPES[number - _DOUBLE]
            self._limit.charge(len(values) * np.dtype(dtype).itemsize)
            return exactly(values, dtype), real.next
        imaginary = self._elements.element(real.next)
        imaginary_values = self._elements.numbers(imaginary)
        if len(imaginary_values) != len(values):
            raise ValueError(
                f"it has {len(values)} real parts and {len(imaginary_values)} imaginary"
            )
        dtype = "c8" if number == _SINGLE else "c16"
        self._limit.charge(len(values) * np.dtype(dtype).itemsize)
        pairs = exactly(values, dtype)
        pairs.imag = exactly(imaginary_values, dtype).real
        return pairs, imaginary.next

    def _characters(self, text: Element, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        encoding = _ENCODINGS.get(text.kind)
        if encoding is None:
            raise ValueError(f"an element is of type {text.kind}, not text")
        count, errors = math.prod(shape), "surrogateescape"
        if not text.size and count <= len(self._elements):
            self._limit.charge(count * _CHARACTER_BYTES)
            return np.full(shape, " ")  # MATLAB does not store blank text
        if text.kind in _WIDE_ENCODINGS:
            encoding += "-le" if self._elements.order == "<" else "-be"
            errors = "surrogatepass"
        decoded = self._elements.bytes_of(text).decode(encoding, errors)
        codes = np.frombuffer(decoded.encode("utf-16-le", "surrogatepass"), "<u2")
        if len(codes) != count:
            # MATLAB counts a character outside of the basic plane as two, other writers as one.
            codes = np.frombuffer(decoded.encode("utf-32-le", "surrogatepass"), "<u4")
        if len(codes) != count:
            raise ValueError(f"it has {len(decoded)} characters, not those of size {shape}")
        self._limit.charge(count * _CHARACTER_BYTES)
        return characters(codes).reshape(shape, order="F")


def _field_names(data: bytes, width: int) -> list[str]:
    """Returns the names of fields.

    Args:
        data: The names, each padded with zeros to the same width.
        width: This width in bytes.
    """
    if width <= 0:
        raise ValueError("the length of its field names is damaged")
    if len(data) % width:
        raise ValueError("its field names are cut off")
    names = [
        data[start : start + width].partition(b"\0")[0].decode("latin-1")
        for start in range(0, len(data), width)
    ]
    return list(_unique(names))


def _unique(names: list[str]) -> Iterator[str]:
    """Yields the names of fields; a repeated name gets a number in front, as in SciPy.

    MATLAB does not write structs with repeated names, but other programs do.
    """
    original, used = set(names), set()
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
    for name in names:
        new = name
        while new in used or (new != name and new in original):
            new = f"_{next(numbers[name])}_{name}"
        used.add(new)
        yield new
