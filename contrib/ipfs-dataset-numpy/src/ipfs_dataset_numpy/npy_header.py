"""The header of a ``.npy`` file: what array follows, and that its bytes are there.

Read here and not by `numpy.load`, which would read the whole array to give one row, and has no public
function for version 3 of the header.
"""

from __future__ import annotations

import ast
import math
import re
import struct
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ipfs_dataset_core import library_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

MAX_BYTES = 4 << 30

MAGIC = b"\x93NUMPY"
_LONG_DOUBLES = "gG"
# Version, where the header's text starts, how its length is packed and its encoding.
_VERSIONS = {1: (10, "<H", "latin-1"), 2: (12, "<I", "latin-1"), 3: (12, "<I", "utf-8")}
_LONGEST_START = 12
_LONGEST_TEXT = 64 << 10
_MOST_DIMENSIONS = 64
# Texts, which stay, and numbers of Python 2 that end in L.
_TEXT_OR_LONG = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\b(\d+)L\b""")


class Header(NamedTuple):
    """What array a file holds.

    Attributes:
        dtype: The type of its items.
        shape: Its shape.
        fortran: Whether the first axis varies fastest.
        start: Where its data start.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def size(self) -> int:
        """How many bytes the data have."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, data: bytes) -> np.ndarray[Any, Any]:
        """Returns the array that these data are, writable and in the byte order of this machine."""
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        stored: np.ndarray[Any, Any] = np.ndarray(self.shape, self.dtype, data, order=order)
        if self.dtype == np.bool_ and stored.size and stored.view(np.uint8).max() > 1:
            # NumPy would keep them, and count each with other results in other operations.
            raise ValueError("it has truth values that are neither 0 nor 1")
        return stored.astype(self.dtype.newbyteorder("="), order=order)


def reading(what: str) -> AbstractContextManager[None]:
    """Returns a context that turns what damaged data raise into a `FormatError` that names `what`."""
    return library_errors(what, "Save it again by numpy.save or numpy.savez, and publish that.")


def parse_header(read_at: Callable[[int, int], bytes], size: int) -> Header:
    """Returns the header of a file.

    Args:
        read_at: Returns so many bytes from a position.
        size: How many bytes the file has.

    Raises:
        ValueError: It is damaged, cut off, longer than its array, or of Python objects.
    """
    head = read_at(0, _LONGEST_START)
    if len(head) < _LONGEST_START or not head.startswith(MAGIC):
        raise ValueError("it is not a .npy file")
    if head[6] not in _VERSIONS or head[7]:
        raise ValueError(f"its version is {head[6]}.{head[7]}")
    text_start, packed, encoding = _VERSIONS[head[6]]
    (length,) = struct.unpack_from(packed, head, 8)
    if length > _LONGEST_TEXT:
        raise ValueError(f"its header is {length} bytes long")
    text = read_at(text_start, length)
    if len(text) < length:
        raise ValueError("its header is cut off")
    header = _parsed(_fields(text.decode(encoding)), text_start + length)
    stop = header.start + header.size
    what = f"an array of {header.dtype} of shape {header.shape} fills its bytes {header.start} to {stop}"
    if stop > size:
        raise ValueError(f"it is cut off: {what}, and there are {size}")
    if stop < size:
        raise ValueError(
            f"{what}, and {size - stop} more follow: its header is wrong, or several arrays were saved to "
            "one file, which numpy.savez does in a way that can be read"
        )
    return header


def _fields(text: str) -> Any:
    """Returns the dict that a header is, written by Python 2 too: there, long integers end in L.

    Raises:
        ValueError: A field is there twice; the later would count, and the other be lost.
    """
    plain = _TEXT_OR_LONG.sub(lambda found: found[1] or found[2], text.strip())
    expression = ast.parse(plain, mode="eval").body
    if isinstance(expression, ast.Dict):
        keys = [ast.dump(key) for key in expression.keys if key is not None]
        if len(set(keys)) < len(keys):
            raise ValueError("its header has a field twice")
    return ast.literal_eval(expression)


def _parsed(fields: Any, start: int) -> Header:
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header has not the fields descr, fortran_order and shape")
    dtype = np.lib.format.descr_to_dtype(fields["descr"])
    if dtype.hasobject:
        raise ValueError(
            f"its type is {dtype}: it holds Python objects, which are pickled and not read from strangers"
        )
    if any(kind.char in _LONG_DOUBLES for kind in _scalars(dtype)):
        raise ValueError(
            f"its type is {dtype}, whose bytes are another number on another kind of processor: convert it "
            "to float64 or complex128"
        )
    shape, fortran = fields["shape"], fields["fortran_order"]
    if not isinstance(shape, tuple) or not isinstance(fortran, bool):
        raise ValueError("its shape is no tuple, or its order not true or false")  # noqa: TRY004 - the data's fault
    if len(shape) > _MOST_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"its shape is {shape}")
    return Header(dtype, shape, fortran and len(shape) > 1, start)


def _scalars(dtype: np.dtype[Any]) -> Iterator[np.dtype[Any]]:
    """Yields the types that a type is made of."""
    if dtype.subdtype is not None:
        yield from _scalars(dtype.subdtype[0])
    elif dtype.fields is not None:
        for field, *_ in dtype.fields.values():
            yield from _scalars(field)
    else:
        yield dtype
