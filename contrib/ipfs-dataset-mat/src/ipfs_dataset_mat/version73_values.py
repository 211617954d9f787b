"""Decoding of values in version 7.3 files: attributes name their class, cells are arrays of references."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from ipfs_dataset_hdf5.chunks import check_chunks
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

if TYPE_CHECKING:
    from ipfs_dataset_mat.memory_limit import MemoryLimit
    from ipfs_dataset_mat.values import Raw

_NUMBER_TYPES = {"double": "f8", "single": "f4", "logical": "?", "char": "U1"} | {
    f"{sign}int{bits}": f"{kind}{bits // 8}"
    for sign, kind in (("", "i"), ("u", "u"))
    for bits in (8, 16, 32, 64)
}
# What MATLAB stores for a cell to which nothing was assigned, which is an empty double.
_NUMBER_TYPES["canonical empty"] = "f8"
_CLASSES = {"", "cell", "struct", *_NUMBER_TYPES}
# Values of the attribute MATLAB_object_decode. Objects of the old kind are stored like structs.
_OLD_OBJECT = 2
_UNSUPPORTED = {1: "a function handle", 3: "an object of a class, such as string or table"}
_MAX_DIMENSIONS = 32
_COMPLEX = ("real", "imag")


def attribute(item: h5py.Dataset | h5py.Group, name: str, default: Any) -> Any:
    """Returns an attribute that consists of one number or text of fixed length.

    Attributes of variable length, such as the order of the fields of a struct, are never read: one changed
    byte in them can make HDF5 loop for ever.

    Raises:
        ValueError: The attribute is of another kind.
    """
    if name not in item.attrs:
        return default
    properties = item.attrs.get_id(name)
    if properties.dtype.kind not in "Siu" or math.prod(properties.shape) != 1:
        raise ValueError(f"its attribute {name} is damaged")
    return np.asarray(item.attrs[name]).item()


def class_of(item: h5py.Dataset | h5py.Group) -> str:
    """Returns the name of the MATLAB class of a value. Fields of arrays of structs have none: it is empty."""
    name: str = attribute(item, "MATLAB_class", b"").decode("ascii")
    return name


def is_empty(item: h5py.Dataset | h5py.Group) -> bool:
    """Returns whether a value has no elements; the dataset then contains its size."""
    return isinstance(item, h5py.Dataset) and bool(attribute(item, "MATLAB_empty", 0))


def is_array(item: h5py.Dataset | h5py.Group) -> bool:
    """Returns whether a value is a dataset with elements, of which a part can be read."""
    return isinstance(item, h5py.Dataset) and not is_empty(item) and item.ndim > 0


def has_references(item: Any) -> bool:
    """Returns whether an item is a dataset of references to other values."""
    return isinstance(item, h5py.Dataset) and h5py.check_ref_dtype(item.dtype) is h5py.Reference


def member(group: h5py.Group, name: str) -> Any:
    """Returns a member of a group. No links are followed, because they can lead to other files.

    Raises:
        ValueError: It is missing, is a link, or its data are in another file.
    """
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is missing, or a link, which MATLAB does not write")  # noqa: TRY004
    return _checked(group[name])


def _members(group: h5py.Group) -> dict[str, Any]:
    return {name: member(group, name) for name in group}


class Decoder:
    """Decodes a variable, or a part of it.

    Args:
        file: The file, for references.
        limit: The limit on the memory of all decoded values.
    """

    def __init__(self, file: h5py.File, limit: MemoryLimit) -> None:
        self._file = file
        self._limit = limit

    def shape(self, item: h5py.Dataset | h5py.Group) -> tuple[int, ...]:
        """Returns the size of a value as MATLAB shows it; raises like `value`."""
        if is_empty(item):
            if item.size > _MAX_DIMENSIONS:
                raise ValueError(f"it is marked as empty, and has {item.size} dimensions")
            return tuple(int(length) for length in self._read(item, ()).reshape(-1))
        if isinstance(item, h5py.Dataset):
            return tuple(reversed(item.shape))
        if "MATLAB_sparse" in item.attrs:
            return attribute(item, "MATLAB_sparse", 0), member(item, "jc").size - 1
        fields = list(_members(item).values())
        return self.shape(fields[0]) if _is_struct_array(fields) else (1, 1)

    def value(self, item: h5py.Dataset | h5py.Group, depth: int = 0) -> Raw:
        """Returns a whole value.

        Args:
            item: The dataset or group of the value.
            depth: The number of cells and structs around it.

        Raises:
            ValueError: It is damaged or nested too deeply.
            UnsupportedClassError: A value in it has no counterpart in Python.
            LimitError: It is too large.
        """
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_DEPTH} deep")
        decoded_by = attribute(item, "MATLAB_object_decode", 0)
        if decoded_by in _UNSUPPORTED:
            raise UnsupportedClassError(_UNSUPPORTED[decoded_by])
        kind = class_of(item)
        if kind not in _CLASSES and decoded_by != _OLD_OBJECT:
            raise UnsupportedClassError(f"an object of the class {kind}")
        if is_empty(item):
            return _empty(kind, self.shape(item))
        if isinstance(item, h5py.Dataset):
            return self.part(item, (), depth)
        return self._sparse(item) if "MATLAB_sparse" in item.attrs else self._struct(item, depth)

    def part(self, item: h5py.Dataset, selection: tuple[slice, ...], depth: int = 0) -> Raw:
        """Returns a part of a value that is a dataset; raises like `value`.

        Args:
            item: The dataset.
            selection: A slice for each axis of the dataset; empty for all of it.
            depth: The number of cells and structs around it.
        """
        stored = self._read(item, selection).T
        if has_references(item):
            return self._cells(stored, depth)
        return _numbers(stored, class_of(item))

    def _read(self, item: h5py.Dataset, selection: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Reads a part of a dataset of numbers or references, unless it or its chunks are too large."""
        if not (has_references(item) or item.dtype.names == _COMPLEX or item.dtype.kind in "biuf"):
            raise ValueError(f"it holds {item.dtype}, which is no number")
        lengths = [len(range(*s.indices(n))) for s, n in zip(selection, item.shape, strict=False)]
        self._limit.check(math.prod(item.chunks or ()) * item.dtype.itemsize)
        self._limit.charge(math.prod(lengths or item.shape) * item.dtype.itemsize)
        what = f"{self._limit.what}, stored at {item.name!r},"
        check_chunks(item, selection, self._limit.max_bytes, what)
        return np.asarray(item[selection])

    def _cells(self, references: Any, depth: int) -> np.ndarray[Any, Any]:
        values = np.empty(references.shape, object)
        for place in np.ndindex(references.shape):
            target = _checked(self._file[references[place]])
            values[place] = finished(self.value(target, depth + 1))
        return values

    def _struct(self, group: h5py.Group, depth: int) -> Structs:
        fields = _members(group)
        if not _is_struct_array(list(fields.values())):
            elements = np.empty((1, 1), object)
            elements[0, 0] = {
                name: finished(self.value(item, depth + 1)) for name, item in fields.items()
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
        indptr = self.part(member(group, "jc"), ())
        shape = attribute(group, "MATLAB_sparse", 0), len(indptr) - 1
        if "data" not in group:  # a matrix without elements
            values, indices = np.zeros(0, _NUMBER_TYPES[class_of(group)]), np.zeros(0, int)
        else:
            values, indices = (self.part(member(group, name), ()) for name in ("data", "ir"))
        if class_of(group) == "logical":
            values = values.astype(bool)
        return checked_sparse(sparse.csc_array((values, indices, indptr), shape=shape))


def _is_struct_array(fields: list[Any]) -> bool:
    """Returns whether these are the fields of an array of structs: datasets of references without a class."""
    return bool(fields) and all(has_references(field) and not class_of(field) for field in fields)


def _checked(item: Any) -> Any:
    """Returns a group or dataset after checking that its data are in this file."""
    if isinstance(item, h5py.Dataset):
        if item.external or item.is_virtual:
            raise ValueError(f"the data of {item.name!r} are in another file")
        if item.shape is None:
            raise ValueError(f"{item.name!r} has no data")
    elif not isinstance(item, h5py.Group):
        raise ValueError(f"{item!r} is not a value")  # noqa: TRY004 - a fault of the file
    return item


def _empty(kind: str, shape: tuple[int, ...]) -> Raw:
    if math.prod(shape):
        raise ValueError(f"it is marked as empty, and of size {shape}")
    if kind == "struct":
        return Structs(np.empty(shape, object))
    dtype = object if kind == "cell" else _NUMBER_TYPES.get(kind)
    if dtype is None:
        raise ValueError(f"it is marked as empty, and of the class {kind!r}")
    return np.zeros(shape, dtype)


def _numbers(stored: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    if stored.dtype.names == _COMPLEX:
        real, imaginary = stored["real"], stored["imag"]
        single = real.dtype.str[1:] == imaginary.dtype.str[1:] == "f4"
        value: np.ndarray[Any, Any] = np.empty(stored.shape, "c8" if single else "c16")
        value.real = exactly(real, value.real.dtype.str)
        value.imag = exactly(imaginary, value.imag.dtype.str)
        return value
    if kind == "char":
        return characters(stored)
    if kind == "logical":
        return stored.astype(bool)
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)
