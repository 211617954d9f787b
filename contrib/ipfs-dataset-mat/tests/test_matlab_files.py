"""Files that MATLAB wrote, in versions 4 to 7.4 and on several platforms: the test data of SciPy."""

from __future__ import annotations

import importlib.resources
import io
import warnings

import h5py
import numpy as np
import pytest
from ipfs_dataset_mat import MatReader
from scipy import sparse
from scipy.io import loadmat

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.testing import MemoryFile

FOLDER = importlib.resources.files("scipy.io.matlab") / "tests" / "data"
FILES = sorted(
    (file for file in FOLDER.iterdir() if file.name.endswith(".mat")) if FOLDER.is_dir() else [],
    key=lambda file: file.name,
)
# Files with values that only MATLAB can read, and damaged files.
REFUSED = {
    "bad_miuint32.mat": "not those of size",
    "corrupted_zlib_checksum.mat": "incorrect data check",
    "corrupted_zlib_data.mat": "end in the middle",
    "debigged_m4.mat": "is cut off",
    "malformed1.mat": "is cut off or damaged",
    "parabola.mat": "a function handle",
    "some_functions.mat": "a function handle",
    "sqr.mat": "a function handle",
    "testfunc_7.4_GLNX86.mat": "a function handle",
    "testmatlabstring_7_WIN64.mat": "an object of a class, such as string",
}
# Files that SciPy cannot read (two), or reads differently: a struct without fields as [None], and bytes that
# are not UTF-8 as question marks.
NOT_COMPARED = {
    "bad_miutf8_array_name.mat",
    "broken_utf8.mat",
    "test_empty_struct.mat",
    "testhdf5_7.4_GLNX86.mat",
}

pytestmark = pytest.mark.skipif(
    not FILES, reason="NOT TESTED against MATLAB's own files: this SciPy came without its test data"
)


def read(data, name="object"):
    ((_, values),) = MatReader().samples(MemoryFile(data, name))
    return values


def converted(value):
    """Returns a value that SciPy read in the form of `MatReader`."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names is not None:
        structs = np.empty(value.shape, object)
        for place in np.ndindex(value.shape):
            structs[place] = {name: converted(value[place][name]) for name in value.dtype.names}
        return structs.reshape(-1)[0] if structs.size == 1 else listed(structs)
    if value.dtype.kind == "O":
        cells = np.empty(value.shape, object)
        for place in np.ndindex(value.shape):
            cells[place] = converted(value[place])
        return listed(cells)
    if value.dtype.kind == "U":
        rows = [str(row) for row in value.reshape(-1)]
        return "".join(rows) if len(rows) < 2 else rows
    return value


def listed(values):
    if sum(length != 1 for length in values.shape) <= 1 or not values.size:
        values = values.reshape(-1)
    return values.tolist()


def assert_equal(value, other):
    if sparse.issparse(other):
        assert sparse.issparse(value)
        assert value.shape == other.shape
        assert not (value != other).nnz
    elif isinstance(other, str):
        assert value.rstrip() == other.rstrip()
    elif isinstance(other, dict):
        assert sorted(value) == sorted(other)
        for name in other:
            assert_equal(value[name], other[name])
    elif isinstance(other, list):
        for one, another in zip(value, other, strict=True):
            assert_equal(one, another)
    else:
        # SciPy returns numbers in the type in which they are stored; with an option, without imaginary parts.
        assert (value.shape, value.dtype.kind == "c") == (other.shape, other.dtype.kind == "c")
        assert np.array_equal(value, other)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_written_by_matlab_are_read_as_scipy_reads_them(file):
    data = file.read_bytes()
    if file.name in REFUSED:
        with pytest.raises(FormatError, match=REFUSED[file.name]):
            read(data, file.name)
        return
    found = read(data, file.name)
    if file.name not in NOT_COMPARED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as those about repeated variables
            expected = loadmat(io.BytesIO(data))
        assert_equal(found, {n: converted(v) for n, v in expected.items() if n[:2] != "__"})


def test_files_that_scipy_cannot_read_are_read():
    data = (FOLDER / "test_empty_struct.mat").read_bytes()
    assert read(data) == {"a": {}}
    data = (FOLDER / "broken_utf8.mat").read_bytes()
    text = read(data)["bad_string"]
    assert text.encode("utf-8", "surrogateescape") in data
    assert text.endswith(" am broken")
    data = (FOLDER / "testhdf5_7.4_GLNX86.mat").read_bytes()
    with h5py.File(io.BytesIO(data)) as file:
        expected = {n: file[n][()].T for n in file if isinstance(file[n], h5py.Dataset)}
    found = read(data)
    numbers = [n for n, value in expected.items() if value.dtype.kind == "f"]
    assert numbers
    for name in numbers:
        assert np.array_equal(found[name], expected[name])
