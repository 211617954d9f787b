"""The .npy container, headers only: written and read without numpy, for tensors need none.

Format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Version 1.0 where the
header is short and ASCII, else 3.0 (UTF-8); data starts at a multiple of 64 bytes.
"""

from __future__ import annotations

import ast
import functools
import math
from typing import Any

import attrs

from ipfs_dataset_core import FormatError

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16
_USUAL_HEADER = 1 << 10
_ALIGNMENT = 64
_PREFIX = len(MAGIC) + 2


@attrs.frozen
class Header:
    """What a .npy file says of its data.

    Args:
        descr: The data type, as ``numpy.lib.format.dtype_to_descr`` writes it.
        fortran_order: Whether the first index varies fastest.
        shape: Lengths of the dimensions.
    """

    descr: Any
    fortran_order: bool
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def write_header(header: Header) -> bytes:
    """Returns the bytes that go before the data."""
    fields = attrs.asdict(header, recurse=False).items()
    text = "{" + "".join(f"{name!r}: {value!r}, " for name, value in fields) + "}"
    body = text.encode()
    if text.isascii() and len(body) < MAX_HEADER - _ALIGNMENT:
        version, width = b"\x01\x00", 2
    else:
        version, width = b"\x03\x00", 4
    padding = -(_PREFIX + width + len(body) + 1) % _ALIGNMENT
    body += b" " * padding + b"\n"
    return MAGIC + version + len(body).to_bytes(width, "little") + body


def read_header(data: bytes) -> tuple[Header, int]:
    """Returns the header of a .npy file and where its data starts.

    Raises:
        FormatError: It is not a .npy file, or its header is not usable.
    """
    if data[: len(MAGIC)] != MAGIC or len(data) < _PREFIX + 4:
        raise FormatError("it is not a .npy file")
    major = data[len(MAGIC)]
    width = {1: 2, 2: 4, 3: 4}.get(major)
    if width is None:
        raise FormatError(f"it is a .npy file of the unknown version {major}")
    start = _PREFIX + width
    size = int.from_bytes(data[_PREFIX:start], "little")
    if size > MAX_HEADER or start + size > len(data):
        raise FormatError(f"its .npy header claims {size} bytes")
    parse = _parse if size > _USUAL_HEADER else _parsed
    header = parse(data[start : start + size], "utf-8" if major == 3 else "latin-1")  # noqa: PLR2004
    return header, start + size


# Most samples of a dataset have arrays of the same few types and shapes.
@functools.lru_cache(maxsize=256)
def _parsed(body: bytes, encoding: str) -> Header:
    return _parse(body, encoding)


def _parse(body: bytes, encoding: str) -> Header:
    try:
        fields = ast.literal_eval(body.decode(encoding).strip())
        header = Header(fields["descr"], fields["fortran_order"], fields["shape"])
    except (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError) as error:
        raise FormatError(f"its .npy header cannot be parsed: {error}") from error
    whole = type(header.shape) is tuple and all(type(n) is int and n >= 0 for n in header.shape)
    if not whole or type(header.fortran_order) is not bool:
        raise FormatError("its .npy header has no usable shape")
    return header
