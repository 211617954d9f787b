"""The Python values for MATLAB values: the same for each version, and for files that MATLAB wrote."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ipfs_dataset_mat import MatReader
from scipy import sparse
from scipy.io import loadmat, savemat

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.testing import MemoryFile

WRITTEN_BY_MATLAB = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"


def read(data, **options):
    ((name, values),) = MatReader(**options).samples(MemoryFile(data, "it.mat"))
    assert name == "it.mat"
    return values


def cell(*values):
    made = np.empty((1, len(values)), object)
    made[0, :] = values
    return made


def saved(variables, **options):
    buffer = io.BytesIO()
    savemat(buffer, variables, **options)
    return buffer.getvalue()


def for_scipy(value, struct_array):
    """Returns a value as `savemat` takes it."""
    if isinstance(value, struct_array):
        records = np.empty((1, len(value)), [(name, object) for name in value[0]])
        for number, one in enumerate(value):
            records[0, number] = tuple(for_scipy(one[name], struct_array) for name in one)
        return records
    if isinstance(value, list):
        return cell(*(for_scipy(item, struct_array) for item in value))
    if isinstance(value, dict):
        return {name: for_scipy(item, struct_array) for name, item in value.items()}
    return value


NUMBERS = [
    np.arange(24, dtype=kind).reshape(2, 3, 4)
    for kind in ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
]
VALUES = [
    *NUMBERS,
    np.array([[1 + 2j, 3], [4, 5 - 1j]]),
    np.array([[1 + 2j, 3]], "c8"),
    np.array([[True, False, True]]),
    np.array([[2.5]]),
    np.zeros((0, 3)),
    "text",
    "",
    "snow ☃ and a treble clef 𝄞",
    [np.array([[1.0]]), "two", [np.array([[3.0]]), "four"]],
    ["only one"],
    {"z": np.array([[1.0]]), "a": "order kept", "deep": {"er": np.array([[False]])}},
    {"cells": ["a", "b"]},
    sparse.csc_array(np.array([[0, 1.5, 0], [2, 0, 0]])),
    sparse.csc_array(np.array([[0, 1, 0], [1, 0, 0]], bool)),
    sparse.csc_array((3, 2)),
]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_of_version_5_equal_those_that_were_saved(value, compressed, equal, struct_array):
    variables = {"value": for_scipy(value, struct_array)}
    found = read(saved(variables, do_compression=compressed))
    assert equal(found, {"value": value}), found


@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip"}])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_of_version_73_equal_those_that_were_saved(value, options, equal, write_v73):
    found = read(write_v73({"value": value}, **options))
    assert equal(found, {"value": value}), found


def test_an_array_of_structs_becomes_a_list_of_dicts(equal, struct_array, write_v73):
    people = struct_array([{"name": "Ada", "age": np.array([[36.0]])}, {"name": "Bob", "age": ""}])
    wanted = {"people": list(people)}
    assert equal(read(saved({"people": for_scipy(people, struct_array)})), wanted)
    assert equal(read(write_v73({"people": people})), wanted)


@given(
    value=hnp.arrays(
        st.sampled_from(["f8", "f4", "i2", "u1", "?", "c16"]),
        hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=5),
        elements={"allow_nan": False},
    )
)
@settings(deadline=None, max_examples=40)
def test_arrays_keep_their_shape_and_type(value, equal, write_v73):
    assume(value.size or value.dtype.kind != "c")  # MATLAB has no empty complex arrays
    wanted = {"value": value}
    assert equal(read(saved({"value": value})), wanted)
    assert equal(read(write_v73({"value": value})), wanted)


def test_doubles_that_are_stored_as_bytes_become_doubles(equal):
    # MATLAB writes a double that holds only small whole numbers as miUINT8 (2) in a mxDOUBLE_CLASS.
    data = saved({"x": np.array([[1, 2, 3]], "u1")})
    at = data.index(b"\6\0\0\0\x08\0\0\0") + 8
    assert data[at] == 9  # mxUINT8_CLASS, to be mxDOUBLE_CLASS
    as_double = data[:at] + b"\6" + data[at + 1 :]
    assert equal(read(as_double), {"x": np.array([[1.0, 2.0, 3.0]])})


def test_matrices_of_chars_and_cells_become_lists_of_rows(equal):
    characters = np.array(["one  ", "three"])
    cells = np.empty((2, 2), object)
    cells[:] = [["a", "b"], ["c", np.eye(2)]]
    found = read(saved({"text": characters, "cells": cells}))
    assert equal(found, {"text": ["one  ", "three"], "cells": [["a", "b"], ["c", np.eye(2)]]})


def written(pattern):
    paths = sorted(WRITTEN_BY_MATLAB.glob(pattern))
    if not paths:
        pytest.skip("this SciPy came without the files that MATLAB wrote")
    return [(path.name, path.read_bytes()) for path in paths]


KINDS = [
    "3dmatrix",
    "cell",
    "cellnest",
    "complex",
    "double",
    "emptycell",
    "matrix",
    "minus",
    "multi",
]
KINDS += ["object", "onechar", "sparse", "sparsecomplex", "string", "stringarray", "struct"]
KINDS += ["structarr", "structnest", "unicode"]


@pytest.mark.parametrize("kind", KINDS)
def test_values_written_by_all_versions_of_matlab_are_equal(kind, equal):
    found = [(name, read(data)) for name, data in written(f"test{kind}_*.mat")]
    first = {name: found[0][1][name] for name in sorted(found[0][1])}
    assert first
    for name, values in found[1:]:
        assert equal(first, {key: values[key] for key in sorted(values)}), name


@pytest.mark.parametrize("kind", ["double", "matrix", "3dmatrix", "complex"])
def test_numbers_written_by_matlab_equal_those_that_scipy_reads(kind):
    for _, data in written(f"test{kind}_*.mat"):
        theirs = loadmat(io.BytesIO(data))[f"test{kind}"]
        assert np.array_equal(read(data)[f"test{kind}"], theirs)


def test_numbers_written_by_matlab_in_version_73_are_read():
    for name, data in written("testhdf5_7.4_*.mat"):
        assert np.allclose(read(data)["testdouble"], np.arange(9) * np.pi / 4), name


def test_a_function_handle_raises_an_error_and_can_be_left_out():
    for _, data in written("some_functions.mat"):
        with pytest.raises(FormatError, match=r"'sqr' of 'it.mat'.*function handle.*variables="):
            read(data)
        assert list(read(data, variables=["b", "a"])) == ["b", "a"]


def test_damaged_files_from_scipy_raise_an_error():
    for name, data in written("*corrupted*.mat") + written("malformed*.mat"):
        with pytest.raises(FormatError, match=r"it\.mat"):
            read(data)
        assert name
