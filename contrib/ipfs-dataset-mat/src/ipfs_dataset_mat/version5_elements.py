"""The data elements of a version 5 file, each with a type, a size and its data.

SciPy is not used here. Its decoder, in C, does not check types and nesting: one changed byte in a type, or a
few kilobytes of nested cells, can crash the process.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# Types of elements, in the documentation miUINT8, miMATRIX and miCOMPRESSED.
UINT8 = 2
MATRIX = 14
COMPRESSED = 15

# The class of objects (mxOPAQUE_CLASS), which is not documented.
OPAQUE = 17

TAG_BYTES = 8
_SMALL_BYTES = 4
_FLAGS_BYTES = 8
_COMPLEX = 0x800
_LOGICAL = 0x200
_MAX_DIMENSIONS = 32
_NUMBER_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}


class Element(NamedTuple):
    """The position of an element.

    Attributes:
        kind: The number of its type.
        start: The position of its data.
        stop: The position after its data.
        next: The position of the next element; padding fills up its data to a multiple of 8 bytes.
    """

    kind: int
    start: int
    stop: int
    next: int

    @property
    def size(self) -> int:
        """The size of its data in bytes."""
        return self.stop - self.start


class Header(NamedTuple):
    """The header of a variable, or of a value in a cell or struct.

    Attributes:
        kind: The number of its MATLAB class.
        is_complex: Whether it has imaginary parts.
        is_logical: Whether it is an array of truth values. Its class is then that of the stored numbers.
        shape: Its size as MATLAB shows it.
        name: Its name; empty for values in cells and structs, and for data that MATLAB itself uses.
        next: The position of its data.
    """

    kind: int
    is_complex: bool
    is_logical: bool
    shape: tuple[int, ...]
    name: str
    next: int


class Elements:
    """The elements in a piece of decompressed data. Every method raises ValueError for damaged data.

    Args:
        data: The bytes.
        order: The byte order, ``"<"`` or ``">"``.

    Attributes:
        order: As the argument.
    """

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self.order = order

    def __len__(self) -> int:
        """Returns the number of bytes."""
        return len(self._data)

    def tag(self, at: int) -> tuple[int, int]:
        """Returns the type and the size of the element at a position, without looking at its data."""
        if at + TAG_BYTES > len(self._data):
            raise ValueError("an element is cut off")
        kind, size = struct.unpack_from(f"{self.order}2I", self._data, at)
        return kind, size

    def element(self, at: int) -> Element:
        """Returns the element at a position, whose data are complete."""
        kind, size = self.tag(at)
        start = at + TAG_BYTES
        stop_padded = start + size + -size % 8
        if kind >> 16:
            # The small form: the first four bytes have the size and the type, the next four are the data.
            kind, size, start, stop_padded = kind & 0xFFFF, kind >> 16, at + 4, at + TAG_BYTES
            if size > _SMALL_BYTES:
                raise ValueError("a small element is too large")
        if start + size > len(self._data):
            raise ValueError("an element is cut off")
        return Element(kind, start, start + size, stop_padded)

    def bytes_of(self, element: Element) -> bytes:
        """Returns the data of an element."""
        return self._data[element.start : element.stop]

    def numbers(self, element: Element) -> np.ndarray[Any, Any]:
        """Returns the data of an element as a flat array, in the type in which the file stores them."""
        number_type = _NUMBER_TYPES.get(element.kind)
        if number_type is None:
            raise ValueError(f"an element is of type {element.kind}, not numbers")
        stored = np.dtype(self.order + number_type)
        count, rest = divmod(element.size, stored.itemsize)
        if rest:
            raise ValueError(
                f"the numbers at its byte {element.start} do not end at a whole number"
            )
        return np.frombuffer(self._data, stored, count, element.start)

    def header(self, at: int) -> Header:
        """Returns the header at a position, which is that of the data of a matrix element."""
        flags = self.element(at)
        if flags.size != _FLAGS_BYTES:
            raise ValueError("its array flags are damaged")
        (word,) = struct.unpack_from(f"{self.order}I", self._data, flags.start)
        kind, is_complex, is_logical = word & 0xFF, bool(word & _COMPLEX), bool(word & _LOGICAL)
        shape: Sequence[int] = ()
        name = self.element(flags.next)
        if kind != OPAQUE:  # objects have no dimensions
            shape = self.numbers(name)[: _MAX_DIMENSIONS + 1].tolist()
            name = self.element(name.next)
        if len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0:
            raise ValueError("its dimensions are damaged")
        text = self.bytes_of(name).decode("latin-1")
        return Header(kind, is_complex, is_logical, tuple(shape), text, name.next)
