"""Programs that end with open HDF5 files: these are closed before HDF5 closes them itself and crashes."""

from __future__ import annotations

import gc

import h5py
import numpy as np
import pytest
from ipfs_dataset_hdf5.reader import Hdf5RowsReader

from ipfs_dataset_core import TransportError
from ipfs_dataset_core.testing import MemoryFile
from tests.support.ending import check_ending

BEGIN = """
import ctypes, gc, io, threading, time
import h5py, numpy
from ipfs_dataset_core import TransportError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_hdf5.reader import Hdf5RowsReader

with h5py.File(buffer := io.BytesIO(), "w") as file:
    file.create_dataset("x", data=numpy.arange(40000.0).reshape(-1, 4), chunks=(1, 4))
data, waits, working = buffer.getvalue(), [0.0], [True]

def read(start, stop):
    time.sleep(waits[0])
    if not working[0]:
        raise TransportError("the source is gone")
    return data[start:stop]

source = MemoryFile(read, size=len(data))
rows = Hdf5RowsReader().samples(source)
"""
SUSPENDED = "next(rows)"
IN_A_CYCLE = """
next(rows)
class Cycle: pass
cycle = Cycle()
cycle.cycle, cycle.rows = cycle, rows
gc.disable()
del cycle, rows
"""
NEVER_FREED = """
next(rows)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(rows))
"""
THE_SOURCE_FAILS = """
next(rows)
working[0] = False
try:
    list(rows)
except TransportError:
    pass
else:
    raise AssertionError
"""
IN_A_DAEMON_THREAD = """
waits[0] = {wait}
threading.Thread(target=lambda: list(rows), daemon=True).start()
while len(source.reads) < {reads}:
    time.sleep(0.001)
"""


@pytest.mark.parametrize(
    "program",
    [
        SUSPENDED,
        IN_A_CYCLE,
        NEVER_FREED,
        THE_SOURCE_FAILS,
        IN_A_DAEMON_THREAD.format(wait=0.3, reads=3),  # among many reads of one call of HDF5
        IN_A_DAEMON_THREAD.format(wait=0.001, reads=300),
    ],
)
def test_a_process_ends_normally_with_an_open_file(program):
    check_ending(BEGIN + program)


def open_files():
    gc.collect()
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


@pytest.mark.parametrize("reads", range(2, 12))
def test_a_file_whose_source_failed_is_closed(tmp_path, reads):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(24.0).reshape(6, 4), chunks=(1, 4))
    data, before = path.read_bytes(), open_files()

    def read(start, stop):
        if len(source.reads) > reads:
            raise TransportError("the source is gone")
        return data[start:stop]

    source = MemoryFile(read, size=len(data))
    with pytest.raises(TransportError, match="the source is gone"):
        list(Hdf5RowsReader().samples(source))
    assert open_files() == before
