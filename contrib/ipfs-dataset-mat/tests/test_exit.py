"""Programs that end while a file of version 7.3, which HDF5 reads, is open."""

from __future__ import annotations

import pytest

from tests.support.ending import check_ending

PROGRAM = """
import ctypes, io
import h5py, numpy
from ipfs_dataset_core import TransportError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_mat import MatReader

with h5py.File(buffer := io.BytesIO(), "w") as file:
    made = file.create_dataset("x", data=numpy.arange(4000.0).reshape(-1, 4), chunks=(1, 4))
    made.attrs["MATLAB_class"] = numpy.bytes_("double")
data, working = buffer.getvalue(), [True]

def read(start, stop):
    if not working[0]:
        raise TransportError("the source is gone")
    return data[start:stop]

source = MemoryFile(read, size=len(data))
rows = MatReader(sample_axis="last").samples(source)
assert next(rows)[1]["x"].tolist() == [0, 1, 2, 3]
"""
NEVER_FREED = "ctypes.pythonapi.Py_IncRef(ctypes.py_object(rows))"
THE_SOURCE_FAILS = """
working[0] = False
try:
    list(rows)
except TransportError:
    pass
else:
    raise AssertionError
"""


@pytest.mark.parametrize("program", ["", NEVER_FREED, THE_SOURCE_FAILS])
def test_a_process_can_end_while_a_file_is_open(program):
    check_ending(PROGRAM + program)
