"""Version 4: matrices of numbers or text, each behind a header of twenty bytes."""

from __future__ import annotations

import inspect
import io
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.io import loadmat

from ipfs_dataset_core import LimitError
from ipfs_dataset_mat.container import Container, check_new, reading
from ipfs_dataset_mat.values import checked_sparse

if TYPE_CHECKING:
    from scipy import sparse

    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_mat.values import Raw

_HEADER_BYTES = 20
_LONGEST_NAME = 256
_ITEMS = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
_TEXT, _SPARSE = 1, 2
_LARGEST_CODE = 255
_LARGEST_TYPE = 5000
# A column costs eight bytes even without values, and a small file can claim any number of them.
_MOST_COLUMNS = 1 << 27
# SciPy 1.18 warns where it is not told in which form it returns sparse matrices, and 1.11 cannot be told.
_SPARSE_ARRAYS: dict[str, Any] = (
    {"spmatrix": False} if "spmatrix" in inspect.signature(loadmat).parameters else {}
)


class _Variable(NamedTuple):
    start: int
    stop: int
    shape: tuple[int, int]
    kind: int
    data: int
    stored: str

    @property
    def is_sparse(self) -> bool:
        """Whether it is a sparse matrix, stored as the list of its elements."""
        return self.kind == _SPARSE


class Mat4(Container):
    """A file of version 4."""

    def __init__(self, source: ObjectFile) -> None:
        super().__init__()
        self._source = source.read_at
        self._name = source.name
        with reading(repr(source.name)):
            self._variables = self._scan(source.size)

    def names(self) -> list[str]:
        return list(self._variables)

    def shape(self, name: str) -> tuple[int, ...]:
        variable = self._variables[name]
        # What a sparse matrix's header has is the size of its list of values.
        return self._whole(name).shape if variable.is_sparse else variable.shape

    def load(self, name: str) -> Raw:
        variable = self._variables[name]
        with reading(f"The variable {name!r} of {self._name!r}"):
            data = self._source(variable.start, variable.stop - variable.start)
            _check_numbers(data, variable)
            value = loadmat(io.BytesIO(data), chars_as_strings=False, **_SPARSE_ARRAYS)[name]
            if variable.is_sparse:
                return _compressed(value)
            # Other types than double only save space in the file.
            return value if value.dtype.kind == "U" else value + np.float64(0)

    def _scan(self, size: int) -> dict[str, _Variable]:
        variables: dict[str, _Variable] = {}
        at = 0
        while at < size:
            name, variable = _header(self._source(at, _HEADER_BYTES + _LONGEST_NAME), at)
            if variable.stop > size:
                raise ValueError(f"the variable {name!r} at byte {at} is cut off")
            check_new(name, at, variables)
            variables[name] = variable
            at = variable.stop
        return variables


def _compressed(value: Any) -> sparse.csc_array:
    if value.shape[1] > _MOST_COLUMNS:
        raise LimitError(
            f"A sparse matrix has more than {_MOST_COLUMNS} columns: {value.shape[1]}."
        )
    return checked_sparse(value)


def _check_numbers(data: bytes, variable: _Variable) -> None:
    """Checks numbers that SciPy would round, or of which it would use the last eight bits.

    Raises:
        ValueError: Some are not those of a character, or of a row or column.
    """
    rows, columns = variable.shape
    start = variable.data - variable.start
    numbers = np.frombuffer(data, variable.stored, rows * columns, start)
    if variable.kind == _TEXT and not np.isin(numbers, np.arange(_LARGEST_CODE + 1)).all():
        raise ValueError(
            f"it has codes of characters that are not whole numbers up to {_LARGEST_CODE}"
        )
    if variable.kind == _SPARSE and (numbers[: 2 * rows] % 1 != 0).any():
        raise ValueError("it has elements whose row or column is no whole number")


def _header(head: bytes, at: int) -> tuple[str, _Variable]:
    """Returns the variable whose header these bytes begin with."""
    order = "<" if int.from_bytes(head[:4], "little") <= _LARGEST_TYPE else ">"
    kind, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", head)
    item = _ITEMS.get(kind // 10 % 10)
    if kind // 1000 > 1:
        raise ValueError(
            f"the variable at byte {at} is in the number format of a VAX or Cray: save it by a newer MATLAB"
        )
    if (
        item is None
        or kind // 100 % 10
        or kind % 10 > _SPARSE
        or min(kind, rows, columns) < 0
        or not 0 < length <= _LONGEST_NAME
    ):
        raise ValueError(f"there is no variable at byte {at}")
    if len(head) < _HEADER_BYTES + length:
        raise ValueError(f"the variable at byte {at} is cut off in its name")
    name = head[_HEADER_BYTES : _HEADER_BYTES + length].rstrip(b"\0").decode("latin-1")
    parts = 1 if kind % 10 == _SPARSE else 1 + bool(imaginary)
    stop = at + _HEADER_BYTES + length + parts * np.dtype(item).itemsize * rows * columns
    stored = f"{order}{_ITEMS[kind // 10 % 10]}"
    return name, _Variable(
        at, stop, (rows, columns), kind % 10, at + _HEADER_BYTES + length, stored
    )
