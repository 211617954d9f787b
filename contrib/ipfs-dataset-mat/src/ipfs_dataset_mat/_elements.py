"""The elements of a version 5 file: what variables there are, and that SciPy can be trusted with one.

SciPy decodes nested cells and structs by recursion in C: a small hostile file would overflow the stack and
end the process. `check` walks the same elements first, in the same order, and refuses what nests too deep
or claims more elements than its bytes can hold.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

MATRIX = 14
COMPRESSED = 15
MAX_DEPTH = 64

_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_NUMBERS = range(6, 16)
_NO_COUNTERPART = {16: "a function handle", 17: "an object of a class, such as string or table"}
_COMPLEX = 0x800
_SMALL_BYTES = 4
_MAX_DIMENSIONS = 32


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
        shape: As MATLAB shows it.
        name: Empty in cells and structs, and for what MATLAB keeps for itself.
        after: Where the data begin.
    """

    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str
    after: int


class Elements:
    """Decompressed elements.

    Args:
        data: The bytes.
        order: ``"<"`` or ``">"``.
    """

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._order = order

    def element(self, at: int) -> Element:
        """Returns the element at a position.

        Raises:
            ValueError: It reaches beyond the data.
        """
        if at + 8 > len(self._data):
            raise ValueError("an element is cut off")
        kind, size = struct.unpack_from(f"{self._order}2I", self._data, at)
        start, after = at + 8, at + 8 + size + -size % 8
        if kind >> 16:
            # The small form: size and type share a word, and the data follow in the next.
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > _SMALL_BYTES:
                raise ValueError("a small element is too large")
        if start + size > len(self._data):
            raise ValueError("an element is cut off")
        return Element(kind, start, start + size, after)

    def header(self, at: int) -> Header:
        """Returns the header of the variable whose matrix element's data begin at a position.

        Raises:
            ValueError: It is damaged, or of a class without counterpart.
        """
        flags = self.element(at)
        if flags.stop - flags.start != 8:  # noqa: PLR2004 - two words
            raise ValueError("its array flags are damaged")
        (word,) = struct.unpack_from(f"{self._order}I", self._data, flags.start)
        kind = word & 0xFF
        if kind in _NO_COUNTERPART:
            return Header(kind, is_complex=False, shape=(), name="", after=flags.after)
        dimensions = self.element(flags.after)
        name = self.element(dimensions.after)
        return Header(
            kind,
            is_complex=bool(word & _COMPLEX),
            shape=self._shape(dimensions),
            name=self._data[name.start : name.stop].decode("latin-1"),
            after=name.after,
        )

    def check(self, at: int = 0, depth: int = 0) -> int:
        """Walks a matrix element, and returns where the next begins.

        Raises:
            ValueError: It is damaged, nests too deep or is of a class without counterpart.
        """
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_DEPTH} deep")
        if at + 8 > len(self._data):
            raise ValueError("a matrix is cut off")
        kind, size = struct.unpack_from(f"{self._order}2I", self._data, at)
        if kind != MATRIX:
            raise ValueError(f"an element is of type {kind}, not a matrix")
        at += 8
        return self._check_matrix(self.header(at), depth) if size else at

    def _check_matrix(self, header: Header, depth: int) -> int:
        at, kind = header.after, header.kind
        if kind in (_CELL, _STRUCT, _OBJECT):
            children = math.prod(header.shape)
            if kind != _CELL:
                at, fields = self._fields(at, kind)
                children *= fields
            if max(children, math.prod(header.shape)) > len(self._data) - at + 1:
                raise ValueError("it has more elements than bytes")
            for _ in range(children):
                at = self.check(at, depth + 1)
            return at
        if kind in _NO_COUNTERPART:
            raise ValueError(
                f"it is {_NO_COUNTERPART[kind]}, which only MATLAB reads: save its parts as arrays, "
                "chars, cells and structs, or leave it out by variables="
            )
        if kind not in (_CHAR, _SPARSE, *_NUMBERS):
            raise ValueError(f"there is no class {kind}")
        parts = 1 + (header.is_complex and kind != _CHAR) + 2 * (kind == _SPARSE)
        for _ in range(parts):
            at = self.element(at).after
        return at

    def _fields(self, at: int, kind: int) -> tuple[int, int]:
        """Returns where the members of a struct begin, and how many fields each element has."""
        if kind == _OBJECT:
            at = self.element(at).after
        width = self.element(at)
        names = self.element(width.after)
        if width.stop - width.start != 4:  # noqa: PLR2004 - one word
            raise ValueError("the length of its field names is damaged")
        (length,) = struct.unpack_from(f"{self._order}i", self._data, width.start)
        if length <= 0:
            raise ValueError("the length of its field names is damaged")
        return names.after, (names.stop - names.start) // length

    def _shape(self, dimensions: Element) -> tuple[int, ...]:
        count = (dimensions.stop - dimensions.start) // 4
        if count > _MAX_DIMENSIONS:
            raise ValueError(f"it has {count} dimensions")
        shape = struct.unpack_from(f"{self._order}{count}i", self._data, dimensions.start)
        if min(shape, default=0) < 0:
            raise ValueError("a dimension is negative")
        return shape
