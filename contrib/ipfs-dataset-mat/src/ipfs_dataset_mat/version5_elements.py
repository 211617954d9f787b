"""The elements that a version 5 file consists of: a type, a size and the data.

Read here and not by SciPy, whose decoder in C takes types and nesting on trust: one changed byte in a type,
or a few kilobytes of nested cells, end the process.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTES = 2
MATRIX = 14
COMPRESSED = 15

OPAQUE = 17
_COMPLEX = 0x800
_LOGICAL = 0x200
_SMALL_BYTES = 4
_MAX_DIMENSIONS = 32
_NUMBERS = {
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
    """One element: its type, its data and where the next begins."""

    kind: int
    start: int
    stop: int
    after: int


class Header(NamedTuple):
    """What stands in front of a variable's data.

    Attributes:
        kind: The number of its MATLAB class.
        is_complex: Whether there are imaginary parts.
        is_logical: Whether it is an array of truth values, whatever its class.
        shape: As MATLAB shows it.
        name: Empty in cells and structs, and for what MATLAB keeps for itself.
        after: Where the data begin.
    """

    kind: int
    is_complex: bool
    is_logical: bool
    shape: tuple[int, ...]
    name: str
    after: int


class Elements:
    """Decompressed elements. What is damaged is a `ValueError`.

    Args:
        data: The bytes.
        order: ``"<"`` or ``">"``.
    """

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._order = order

    def __len__(self) -> int:
        return len(self._data)

    def tag(self, at: int) -> tuple[int, int]:
        """Returns type and size of the element at a position, whose data need not all be there."""
        if at + 8 > len(self._data):
            raise ValueError("an element is cut off")
        kind, size = struct.unpack_from(f"{self._order}2I", self._data, at)
        return kind, size

    def element(self, at: int) -> Element:
        """Returns the element at a position."""
        kind, size = self.tag(at)
        start, after = at + 8, at + 8 + size + -size % 8
        if kind >> 16:
            # The small form: size and type share a word, and the data follow in the next.
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > _SMALL_BYTES:
                raise ValueError("a small element is too large")
        if start + size > len(self._data):
            raise ValueError("an element is cut off")
        return Element(kind, start, start + size, after)

    def bytes_of(self, element: Element) -> bytes:
        """Returns the data of an element."""
        return self._data[element.start : element.stop]

    def numbers(self, element: Element) -> np.ndarray[Any, Any]:
        """Returns the data of an element as a flat array, in the type that the file stores them in."""
        kind = _NUMBERS.get(element.kind)
        if kind is None:
            raise ValueError(f"an element is of type {element.kind}, not numbers")
        stored = np.dtype(f"{self._order}{kind}")
        count, rest = divmod(element.stop - element.start, stored.itemsize)
        if rest:
            raise ValueError(
                f"the numbers at its byte {element.start} do not end at a whole number"
            )
        return np.frombuffer(self._data, stored, count, element.start)

    def header(self, at: int) -> Header:
        """Returns the header of the variable whose matrix element's data begin at a position."""
        flags = self.element(at)
        if flags.stop - flags.start != 8:  # noqa: PLR2004 - two words
            raise ValueError("its array flags are damaged")
        (word,) = struct.unpack_from(f"{self._order}I", self._data, flags.start)
        kind, is_complex, is_logical = word & 0xFF, bool(word & _COMPLEX), bool(word & _LOGICAL)
        shape: Sequence[int] = ()
        name = self.element(flags.after)
        if kind != OPAQUE:
            shape = self.numbers(name)[: _MAX_DIMENSIONS + 1].tolist()
            name = self.element(name.after)
        if len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0:
            raise ValueError("its dimensions are damaged")
        text = self.bytes_of(name).decode("latin-1")
        return Header(kind, is_complex, is_logical, tuple(shape), text, name.after)
