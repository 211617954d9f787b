"""MATLAB's values as HDF5 holds them: attributes name the class, references lead to cells' contents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from ipfs_dataset_hdf5.chunks import check_chunks
from scipy import sparse

from ipfs_dataset_core import LimitError
from ipfs_dataset_mat.values import (
    MAX_DEPTH,
    NoCounterpartError,
    Structs,
    characters,
    checked_sparse,
    exactly,
    finished,
)

if TYPE_CHECKING:
    from ipfs_dataset_mat.values import Raw

_NUMBERS = {"double": "f8", "single": "f4", "logical": "?", "char": "U1"} | {
    f"{sign}int{bits}": f"{kind}{bits // 8}"
    for sign, kind in (("", "i"), ("u", "u"))
    for bits in (8, 16, 32, 64)
}
# An old-style object is a struct by another name; these two only MATLAB can read.
_NO_COUNTERPART = {1: "a function handle", 3: "an object of a class, such as string or table"}
_CLASSES = {"", "cell", "struct", "canonical empty", *_NUMBERS}
_OLD_OBJECT = 2
# What a value costs however small it is, so that cells that share their contents cannot grow without bound.
_VALUE_BYTES = 1024
_MOST_DIMENSIONS = 32
_COMPLEX = ("real", "imag")


def attribute(item: h5py.Dataset | h5py.Group, name: str, default: Any) -> Any:
    """Returns an attribute that is one number or name, as all are that matter here.

    Those of variable length, such as the order of a struct's fields, are never read: HDF5 can be kept busy
    forever by one changed byte of theirs.
    """
    if name not in item.attrs:
        return default
    about = item.attrs.get_id(name)
    if about.dtype.kind not in "Siu" or math.prod(about.shape) != 1:
        raise ValueError(f"its attribute {name} is damaged")
    return np.asarray(item.attrs[name]).item()


def class_of(item: h5py.Dataset | h5py.Group) -> str:
    """Returns the MATLAB class that an item is marked as, empty where a field of structs is not."""
    kind: str = attribute(item, "MATLAB_class", b"").decode("ascii")
    return kind


def is_empty(item: h5py.Dataset | h5py.Group) -> bool:
    """Tells whether a dataset holds the size of an empty value, not the value."""
    return isinstance(item, h5py.Dataset) and bool(attribute(item, "MATLAB_empty", 0))


def is_plain(item: h5py.Dataset | h5py.Group) -> bool:
    """Tells whether a value is one dataset that can be read in parts."""
    return isinstance(item, h5py.Dataset) and not is_empty(item) and item.ndim > 0


def is_references(item: Any) -> bool:
    """Tells whether an item holds references to values."""
    return isinstance(item, h5py.Dataset) and h5py.check_ref_dtype(item.dtype) is h5py.Reference


def shape_of(item: h5py.Dataset | h5py.Group) -> tuple[int, ...]:
    """Returns the size of a value as MATLAB shows it."""
    if is_empty(item):
        if item.size > _MOST_DIMENSIONS:
            raise ValueError(f"it is marked as empty, and has {item.size} dimensions")
        return tuple(int(length) for length in item[()].reshape(-1))
    if isinstance(item, h5py.Dataset):
        return tuple(reversed(item.shape))
    if "MATLAB_sparse" in item.attrs:
        return attribute(item, "MATLAB_sparse", 0), item["jc"].size - 1
    fields = list(item.values())
    return shape_of(fields[0]) if _are_arrays(fields) else (1, 1)


def _are_arrays(fields: list[Any]) -> bool:
    """Tells whether fields are those of an array of structs: unmarked datasets of references."""
    return bool(fields) and all(is_references(field) and not class_of(field) for field in fields)


class Decoder:
    """Decodes one value and what it is made of.

    Args:
        file: The file, to follow references.
        max_bytes: How many bytes all of it may have.
    """

    def __init__(self, file: h5py.File, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = self._left = max_bytes

    def member(self, group: h5py.Group, name: str) -> Any:
        """Returns a member of a group that lies in this very file.

        Raises:
            ValueError: It is missing, or lies elsewhere.
        """
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} is missing, or a link, which MATLAB does not write")  # noqa: TRY004
        return _checked(group[name])

    def value(self, item: h5py.Dataset | h5py.Group, depth: int = 0) -> Raw:
        """Returns a whole value.

        Raises:
            ValueError: It is damaged, nests too deep or has no counterpart.
            LimitError: It is larger than allowed.
        """
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_DEPTH} deep")
        decoded_by = attribute(item, "MATLAB_object_decode", 0)
        if decoded_by in _NO_COUNTERPART:
            raise NoCounterpartError(_NO_COUNTERPART[decoded_by])
        kind = class_of(item)
        if kind not in _CLASSES and decoded_by != _OLD_OBJECT:
            raise NoCounterpartError(f"an object of the class {kind}")
        if is_empty(item):
            return _empty(class_of(item), shape_of(item))
        if isinstance(item, h5py.Dataset):
            return self.part(item, (), depth)
        return self._sparse(item) if "MATLAB_sparse" in item.attrs else self._struct(item, depth)

    def part(self, item: h5py.Dataset, chosen: tuple[slice, ...], depth: int = 0) -> Raw:
        """Returns a part of a value that is one dataset; raises like `value`.

        Args:
            item: The dataset.
            chosen: A slice for each stored dimension, or nothing for all of it.
            depth: How deep in cells and structs it is.
        """
        if not (is_references(item) or item.dtype.names == _COMPLEX or item.dtype.kind in "biuf"):
            raise ValueError(f"it holds {item.dtype}, which is no number")
        lengths = [len(range(*s.indices(n))) for s, n in zip(chosen, item.shape, strict=False)]
        self._charge(math.prod(lengths or item.shape) * item.dtype.itemsize)
        check_chunks(item, chosen, self._max_bytes, f"The value at {item.name!r}")
        stored = np.asarray(item[chosen]).T
        if is_references(item):
            return self._each(stored, depth)
        return _numbers(stored, class_of(item))

    def _each(self, references: Any, depth: int) -> np.ndarray[Any, Any]:
        values = np.empty(references.shape, object)
        for place in np.ndindex(references.shape):
            target = _checked(self._file[references[place]])
            values[place] = finished(self.value(target, depth + 1))
        return values

    def _struct(self, group: h5py.Group, depth: int) -> Structs:
        fields = {name: self.member(group, name) for name in group}
        if not _are_arrays(list(fields.values())):
            elements = np.empty((1, 1), object)
            elements[0, 0] = {
                n: finished(self.value(item, depth + 1)) for n, item in fields.items()
            }
            return Structs(elements)
        columns = {name: self.part(item, (), depth) for name, item in fields.items()}
        shapes = {column.shape for column in columns.values()}
        if len(shapes) > 1:
            raise ValueError(f"its fields have different numbers of structs: {sorted(shapes)}")
        (shape,) = shapes
        elements = np.empty(shape, object)
        for place in np.ndindex(shape):
            elements[place] = {name: column[place] for name, column in columns.items()}
        return Structs(elements)

    def _sparse(self, group: h5py.Group) -> sparse.csc_array:
        jc = self.part(self.member(group, "jc"), ())
        rows, columns = attribute(group, "MATLAB_sparse", 0), len(jc) - 1
        if "data" not in group:  # no element is set
            empty = np.zeros(0, _NUMBERS[class_of(group)])
            return sparse.csc_array((empty, np.zeros(0, int), jc), shape=(rows, columns))
        ir = self.part(self.member(group, "ir"), ())
        values = self.part(self.member(group, "data"), ())
        if class_of(group) == "logical":
            values = values.astype(bool)
        return checked_sparse(sparse.csc_array((values, ir, jc), shape=(rows, columns)))

    def _charge(self, size: int) -> None:
        self._left -= size + _VALUE_BYTES
        if self._left < 0:
            raise LimitError(
                f"A value of {self._file.name!r} has more than the limit of {self._max_bytes} bytes: "
                "where you trust it, raise it by MatReader(max_bytes=…)."
            )


def _checked(item: Any) -> Any:
    """Returns a group or dataset, unless its data lie in other files."""
    if isinstance(item, h5py.Dataset):
        if item.external or item.is_virtual:
            raise ValueError(f"the data of {item.name!r} lie in another file")
        if item.shape is None:
            raise ValueError(f"{item.name!r} has no data")
    elif not isinstance(item, h5py.Group):
        raise ValueError(f"{item!r} is no value")  # noqa: TRY004 - the data are wrong, not the caller
    return item


def _empty(kind: str, shape: tuple[int, ...]) -> Raw:
    if math.prod(shape):
        raise ValueError(f"it is marked as empty, and of size {shape}")
    if kind == "struct":
        return Structs(np.empty(shape, object))
    return np.zeros(shape, object if kind == "cell" else _NUMBERS[kind])


def _numbers(stored: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    if stored.dtype.names == _COMPLEX:
        real, imaginary = stored["real"], stored["imag"]
        value: np.ndarray[Any, Any] = np.empty(
            stored.shape, "c8" if real.dtype.str[1:] == imaginary.dtype.str[1:] == "f4" else "c16"
        )
        value.real = exactly(real, value.real.dtype.str)
        value.imag = exactly(imaginary, value.imag.dtype.str)
        return value
    if kind == "char":
        return characters(stored)
    if kind == "logical":
        return stored.astype(bool)
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)
