"""The header of a ``.npy`` file, parsed and compared with the size of the file.

The format is described in NEP 1 and in the documentation of `numpy.lib.format`. `numpy.load` would read the
whole array to return one row, and NumPy has no public function that reads version 3 of the header.
"""

from __future__ import annotations

import ast
import math
import re
import struct
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ipfs_dataset_core import parser_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

MAX_BYTES = 4 << 30

MAGIC = b"\x93NUMPY"
_LONG_DOUBLE_TYPES = "gG"  # the type characters of longdouble and clongdouble
# For each major version: the position of the text, the struct format of its length, which stands before it,
# and its encoding.
_VERSIONS = {1: (10, "<H", "latin-1"), 2: (12, "<I", "latin-1"), 3: (12, "<I", "utf-8")}
_PREFIX_BYTES = 12
_MAX_TEXT_BYTES = 64 << 10
_MAX_DIMENSIONS = 64
# A string literal, or an integer literal of Python 2 that ends with L.
_TEXT_OR_LONG = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\b(\d+)L\b""")


class Header(NamedTuple):
    """The header of a file.

    Attributes:
        dtype: The type of the items.
        shape: The length of each axis, in items.
        fortran: Whether the array is in Fortran order, with the first axis varying fastest.
        start: The position of the data in the file, in bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def size(self) -> int:
        """The size of the data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, data: bytes) -> np.ndarray[Any, Any]:
        """Returns the array, writable and in the byte order of this machine.

        Args:
            data: The bytes of the array.

        Raises:
            ValueError: The bytes are too few, or the array is of `bool` and has bytes other than 0 and 1.
        """
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        stored: np.ndarray[Any, Any] = np.ndarray(self.shape, self.dtype, data, order=order)
        if self.dtype == np.bool_ and stored.size and stored.view(np.uint8).max() > 1:
            # NumPy would keep such bytes, and its operations would differ in what they count as true.
            raise ValueError("it has Boolean values that are neither 0 nor 1")
        return stored.astype(self.dtype.newbyteorder("="), order=order)


def reading(what: str) -> AbstractContextManager[None]:
    """Returns a context manager that turns errors caused by damaged data into `FormatError`s for `what`."""
    return parser_errors(what, "Save it again with numpy.save or numpy.savez, and publish that.")


def parse_header(read_at: Callable[[int, int], bytes], size: int) -> Header:
    """Returns the header of a file.

    Args:
        read_at: A function that takes a position and a size, and returns the bytes of the file there.
        size: The size of the file in bytes.

    Raises:
        ValueError: The file is damaged, cut off or longer than its array, or the array cannot be read: its
            items are Python objects or `longdouble`.
    """
    head = read_at(0, _PREFIX_BYTES)
    if len(head) < _PREFIX_BYTES or not head.startswith(MAGIC):
        raise ValueError("it is not a .npy file")
    if head[6] not in _VERSIONS or head[7]:
        raise ValueError(f"its version is {head[6]}.{head[7]}")
    text_start, length_format, encoding = _VERSIONS[head[6]]
    (length,) = struct.unpack_from(length_format, head, 8)
    if length > _MAX_TEXT_BYTES:
        raise ValueError(f"its header is {length} bytes long")
    text = read_at(text_start, length)
    if len(text) < length:
        raise ValueError("its header is cut off")
    header = _parsed(_fields(text.decode(encoding)), text_start + length)
    stop = header.start + header.size
    what = f"an array of {header.dtype} of shape {header.shape} fills its bytes {header.start} to {stop}"
    if stop > size:
        raise ValueError(f"it is cut off: {what}, and the file has {size}")
    if stop < size:
        raise ValueError(
            f"{what}, and {size - stop} more follow: its header is wrong, or several arrays were saved in "
            "one file, for which there is numpy.savez"
        )
    return header


def _fields(text: str) -> Any:
    """Evaluates the text of a header, a literal of a dict.

    Headers that Python 2 wrote are accepted too: there, long integers end with ``L``.

    Raises:
        ValueError: A field occurs twice.
    """
    plain = _TEXT_OR_LONG.sub(lambda match: match[1] or match[2], text.strip())
    expression = ast.parse(plain, mode="eval").body
    if isinstance(expression, ast.Dict):
        keys = [ast.dump(key) for key in expression.keys if key is not None]
        if len(set(keys)) < len(keys):
            raise ValueError("its header has a field twice")
    return ast.literal_eval(expression)


def _parsed(fields: Any, start: int) -> Header:
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise ValueError(
            "its header does not have exactly the fields descr, fortran_order and shape"
        )
    dtype = np.lib.format.descr_to_dtype(fields["descr"])
    if dtype.hasobject:
        raise ValueError(
            f"its type is {dtype}: its items are Python objects, which are pickled, and pickles are "
            "never loaded"
        )
    if any(kind.char in _LONG_DOUBLE_TYPES for kind in _scalars(dtype)):
        raise ValueError(
            f"its type is {dtype}, whose bytes are other numbers on other kinds of processors: convert it "
            "to float64 or complex128"
        )
    shape, fortran = fields["shape"], fields["fortran_order"]
    if not isinstance(shape, tuple) or not isinstance(fortran, bool):
        raise ValueError("its shape is not a tuple, or its order not True or False")  # noqa: TRY004 - invalid data
    if len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"its shape is {shape}")
    return Header(dtype, shape, fortran and len(shape) > 1, start)


def _scalars(dtype: np.dtype[Any]) -> Iterator[np.dtype[Any]]:
    """Yields the scalar types in a type, which may be structured or have a shape."""
    if dtype.subdtype is not None:
        yield from _scalars(dtype.subdtype[0])
    elif dtype.fields is not None:
        for field, *_ in dtype.fields.values():
            yield from _scalars(field)
    else:
        yield dtype
