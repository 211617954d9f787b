"""Writes version 7.3 as MATLAB lays it out, and tells whether two values are equal."""

from __future__ import annotations

import io
import itertools

import h5py
import numpy as np
import pytest
from scipy import sparse

_CLASSES = {"f8": "double", "f4": "single", "c16": "double", "c8": "single"} | {
    f"{kind}{bits // 8}": f"{name}{bits}"
    for kind, name in (("i", "int"), ("u", "uint"))
    for bits in (8, 16, 32, 64)
}


class Writer73:
    """Writes arrays, str, lists as cells of 1 x n, dicts as structs, `StructArray` and csc arrays."""

    def __init__(self, **dataset_options):
        self.buffer = io.BytesIO()
        self.file = h5py.File(self.buffer, "w", userblock_size=512)
        self.options = dataset_options
        self._numbers = itertools.count()

    def finish(self):
        self.file.close()
        data = bytearray(self.buffer.getvalue())
        data[:128] = b"MATLAB 7.3 MAT-file, made by a test".ljust(124) + b"\0\2IM"
        return bytes(data)

    def put(self, group, name, value):
        if isinstance(value, dict):
            self._struct(group, name, value)
        elif isinstance(value, StructArray):
            self._structs(group, name, value)
        elif isinstance(value, list):
            self._cell(group, name, value)
        elif isinstance(value, sparse.csc_array):
            self._sparse(group, name, value)
        elif isinstance(value, str):
            codes = np.frombuffer(value.encode("utf-16-le"), "u2")[None]
            self._array(group, name, codes, "char", 2)
        elif value.dtype == bool:
            self._array(group, name, value.astype("u1"), "logical", 1)
        else:
            self._array(group, name, value, _CLASSES[value.dtype.str[1:]])

    def _array(self, group, name, value, kind, decode=None):
        if value.size == 0:
            value = value.reshape((0, 0)) if kind == "char" else value
            made = group.create_dataset(name, data=np.array(value.shape, "u8"))
            made.attrs["MATLAB_empty"] = np.uint8(1)
        else:
            stored = np.ascontiguousarray(value.T)
            if stored.dtype.kind == "c":
                part = stored.real.dtype
                pair = np.empty(stored.shape, [("real", part), ("imag", part)])
                pair["real"], pair["imag"] = stored.real, stored.imag
                stored = pair
            made = group.create_dataset(name, data=stored, **self.options)
        made.attrs["MATLAB_class"] = np.bytes_(kind)
        if decode is not None:
            made.attrs["MATLAB_int_decode"] = np.int32(decode)

    def _references(self, values):
        store = self.file.require_group("#refs#")
        made = []
        for value in values:
            name = f"r{next(self._numbers)}"
            self.put(store, name, value)
            made.append(store[name].ref)
        return np.array(made, h5py.ref_dtype).reshape(-1, 1)  # 1 x n, as MATLAB shows it

    def _cell(self, group, name, values):
        if not values:
            return self._array(group, name, np.empty((0, 0), "f8"), "cell")
        made = group.create_dataset(name, data=self._references(values))
        made.attrs["MATLAB_class"] = np.bytes_("cell")
        return None

    def _struct(self, group, name, value):
        made = group.create_group(name)
        made.attrs["MATLAB_class"] = np.bytes_("struct")
        self._list_fields(made, value)
        for field in value:
            self.put(made, field, value[field])

    def _list_fields(self, group, names):
        fields = np.empty(len(names), object)
        for number, field in enumerate(names):
            fields[number] = np.array([c.encode() for c in field], "S1")
        group.attrs.create("MATLAB_fields", fields, dtype=h5py.vlen_dtype(np.dtype("S1")))

    def _structs(self, group, name, value):
        made = group.create_group(name)
        made.attrs["MATLAB_class"] = np.bytes_("struct")
        self._list_fields(made, value[0])
        for field in value[0]:
            made.create_dataset(field, data=self._references([one[field] for one in value]))

    def _sparse(self, group, name, value):
        made = group.create_group(name)
        made.attrs["MATLAB_class"] = np.bytes_("logical" if value.dtype == bool else "double")
        made.attrs["MATLAB_sparse"] = np.uint64(value.shape[0])
        if value.nnz:
            stored = value.data.astype("u1") if value.dtype == bool else value.data
            made.create_dataset("data", data=stored)
            made.create_dataset("ir", data=value.indices.astype("u8"))
        made.create_dataset("jc", data=value.indptr.astype("u8"))


class StructArray(list):
    """A 1 x n array of structs."""


def write_v73(variables, **dataset_options):
    writer = Writer73(**dataset_options)
    for name, value in variables.items():
        writer.put(writer.file, name, value)
    return writer.finish()


def equal(one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if sparse.issparse(one) and sparse.issparse(other):
        return one.dtype == other.dtype and one.shape == other.shape and (one != other).nnz == 0
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and one == other


@pytest.fixture(name="write_v73", scope="session")
def _write_v73():
    return write_v73


@pytest.fixture(name="struct_array", scope="session")
def _struct_array():
    return StructArray


@pytest.fixture(name="equal", scope="session")
def _equal():
    return equal
