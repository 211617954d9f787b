"""Version 4: each variable is a matrix of numbers or text, after a header of 20 bytes and its name.

Format: "Level 4 MAT-File Format" in https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf.
"""

from __future__ import annotations

import inspect
import io
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.io import loadmat

from ipfs_dataset_mat.mat_file import MatFile, check_new, reading
from ipfs_dataset_mat.values import checked_sparse

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_mat.memory_limit import MemoryLimit
    from ipfs_dataset_mat.values import Raw

_HEADER_BYTES = 20
_MAX_NAME_BYTES = 256
# The first number of a header is MOPT in decimal digits: M the number format of the machine, O zero, P the
# type of the stored numbers, T the type of the matrix.
_MAX_TYPE = 5000
_NUMBER_TYPES = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
_TEXT, _SPARSE = 1, 2
_MAX_CHARACTER = 255
_DOUBLE_BYTES = 8
# SciPy 1.18 warns if `loadmat` is not told in which form to return sparse matrices; 1.11 lacks the argument.
_SPARSE_ARRAYS: dict[str, Any] = (
    {"spmatrix": False} if "spmatrix" in inspect.signature(loadmat).parameters else {}
)


class _Variable(NamedTuple):
    """A variable, according to its header.

    Attributes:
        start: The position of its header in the file.
        data: The position of its numbers in the file.
        stop: The position after its last byte.
        shape: Its rows and columns; for a sparse matrix, those of the list of its elements.
        kind: The type of the matrix: 0 for numbers, `_TEXT` or `_SPARSE`.
        dtype: The NumPy type of the stored numbers.
        is_complex: Whether imaginary parts follow the numbers. Sparse matrices list them with the elements.
    """

    start: int
    data: int
    stop: int
    shape: tuple[int, int]
    kind: int
    dtype: str
    is_complex: bool

    @property
    def decoded_bytes(self) -> int:
        """The size of the matrix, or of the list of its elements, as doubles."""
        return self.shape[0] * self.shape[1] * _DOUBLE_BYTES * (1 + self.is_complex)


class Mat4(MatFile):
    """A file of version 4.

    Args:
        source: The file.
        max_bytes: The maximum size of a variable in bytes of memory.
    """

    def __init__(self, source: ObjectFile, max_bytes: int) -> None:
        super().__init__(source.name, max_bytes)
        self._read_at = source.read_at
        with reading(repr(source.name)):
            self._variables = self._scan(source.size)

    def names(self) -> list[str]:
        return list(self._variables)

    def shape(self, name: str) -> tuple[int, ...]:
        variable = self._variables[name]
        # The header of a sparse matrix has the size of the list of its elements.
        return self._load_once(name).shape if variable.kind == _SPARSE else variable.shape

    def load(self, name: str) -> Raw:
        variable, limit = self._variables[name], self._limit(name)
        limit.charge(variable.decoded_bytes)
        with reading(self.what(name)):
            data = self._read_at(variable.start, variable.stop - variable.start)
            _check_numbers(data, variable)
            value = loadmat(io.BytesIO(data), chars_as_strings=False, **_SPARSE_ARRAYS)[name]
            if variable.kind == _SPARSE:
                return _compressed(value, limit)
            # MATLAB has only doubles in this version; other types only save space in the file.
            return value if value.dtype.kind == "U" else value + np.float64(0)

    def _scan(self, size: int) -> dict[str, _Variable]:
        """Reads the headers of all variables."""
        variables: dict[str, _Variable] = {}
        at = 0
        while at < size:
            name, variable = _header(self._read_at(at, _HEADER_BYTES + _MAX_NAME_BYTES), at)
            if variable.stop > size:
                raise ValueError(f"the variable {name!r} at byte {at} is cut off")
            check_new(name, at, variables)
            variables[name] = variable
            at = variable.stop
        return variables


def _compressed(value: Any, limit: MemoryLimit) -> Raw:
    """Returns a sparse matrix by columns. A column takes 8 bytes even if it has no elements."""
    limit.charge(value.shape[1] * _DOUBLE_BYTES)
    return checked_sparse(value)


def _check_numbers(data: bytes, variable: _Variable) -> None:
    """Checks numbers that SciPy would change silently: codes of characters, rows and columns of elements.

    Raises:
        ValueError: Some are not whole numbers, or a code is too large.
    """
    rows, columns = variable.shape
    numbers = np.frombuffer(data, variable.dtype, rows * columns, variable.data - variable.start)
    if variable.kind == _TEXT and not np.isin(numbers, np.arange(_MAX_CHARACTER + 1)).all():
        raise ValueError(
            f"it has codes of characters that are not whole numbers up to {_MAX_CHARACTER}"
        )
    if variable.kind == _SPARSE and (numbers[: 2 * rows] % 1 != 0).any():
        raise ValueError("it has elements whose row or column is not a whole number")


def _header(head: bytes, at: int) -> tuple[str, _Variable]:
    """Parses the header of a variable.

    Args:
        head: The bytes of the file from the start of the header, with at least the name.
        at: The position of the header in the file.

    Returns:
        The name of the variable, and its description.

    Raises:
        ValueError: The bytes are not a header, or the variable cannot be read.
    """
    order = "<" if int.from_bytes(head[:4], "little") <= _MAX_TYPE else ">"
    kind, rows, columns, imaginary, name_bytes = struct.unpack_from(f"{order}5i", head)
    number_type = _NUMBER_TYPES.get(kind // 10 % 10)
    if kind // 1000 > 1:
        raise ValueError(
            f"the variable at byte {at} is in the number format of a VAX or Cray: save it with a newer MATLAB"
        )
    if (
        number_type is None
        or kind // 100 % 10
        or kind % 10 > _SPARSE
        or min(kind, rows, columns) < 0
        or not 0 < name_bytes <= _MAX_NAME_BYTES
    ):
        raise ValueError(f"there is no variable at byte {at}")
    data = _HEADER_BYTES + name_bytes
    if len(head) < data:
        raise ValueError(f"the variable at byte {at} is cut off in its name")
    name = head[_HEADER_BYTES:data].rstrip(b"\0").decode("latin-1")
    is_complex = bool(imaginary) and kind % 10 != _SPARSE
    dtype = order + number_type
    size = np.dtype(dtype).itemsize * rows * columns * (1 + is_complex)
    return name, _Variable(
        start=at,
        data=at + data,
        stop=at + data + size,
        shape=(rows, columns),
        kind=kind % 10,
        dtype=dtype,
        is_complex=is_complex,
    )
