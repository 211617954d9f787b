"""Programs that end while they read a file, and files whose source failed."""

from __future__ import annotations

import gc
import io
import weakref

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ipfs_dataset_parquet import reader as module

from ipfs_dataset_core import TransportError
from ipfs_dataset_core.testing import MemoryFile
from tests.support.ending import check_ending

PROGRAM = """
import io, threading, time
import pyarrow, pyarrow.parquet
from ipfs_dataset_core import TransportError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_parquet.reader import ParquetReader

table = pyarrow.table({"x": list(range(1000))})
pyarrow.parquet.write_table(table, buffer := io.BytesIO(), row_group_size=100)
data, working = buffer.getvalue(), [True]

def read(start, stop):
    if not working[0]:
        raise TransportError("the source is gone")
    return data[start:stop]

source = MemoryFile(read, size=len(data))
rows = ParquetReader().samples(source)
assert next(rows)[1] == {"x": 0}
"""
THE_SOURCE_FAILS = """
working[0] = False
try:
    list(rows)
except TransportError:
    pass
else:
    raise AssertionError
"""
IN_A_DAEMON_THREAD = """
def slowly(start, stop):
    time.sleep(0.02)
    return data[start:stop]

source = MemoryFile(slowly, size=len(data))
threading.Thread(target=lambda: list(ParquetReader().samples(source)), daemon=True).start()
while len(source.reads) < {reads}:
    time.sleep(0.001)
"""


@pytest.mark.parametrize(
    "program",
    [
        "",
        THE_SOURCE_FAILS,
        IN_A_DAEMON_THREAD.format(reads=2),
        IN_A_DAEMON_THREAD.format(reads=6),
    ],
)
def test_a_process_ends_normally_in_the_middle_of_a_file(program):
    check_ending(PROGRAM + program)


def test_a_file_whose_source_failed_is_freed(monkeypatch):
    opened = []

    class Table(module.Table):
        def __init__(self, *arguments, **options):
            opened.append(weakref.ref(self))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(module, "Table", Table)
    pq.write_table(pa.table({"x": list(range(1000))}), buffer := io.BytesIO(), row_group_size=100)
    data, working = buffer.getvalue(), [True]

    def read(start, stop):
        if not working[0]:
            raise TransportError("the source is gone")
        return data[start:stop]

    rows = module.ParquetReader().samples(MemoryFile(read, size=len(data)))
    next(rows)
    working[0] = False
    with pytest.raises(TransportError, match="the source is gone"):
        list(rows)
    del rows
    gc.collect()
    assert [table() for table in opened] == [None]
