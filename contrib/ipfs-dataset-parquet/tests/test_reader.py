"""The reader: what it reads and keeps, values of each type, errors for damaged files, and workers."""

from __future__ import annotations

import datetime as dt
import io
import pickle
import random
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ipfs_dataset_parquet.reader import ParquetReader
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset_core import FormatError, LimitError, TransportError
from ipfs_dataset_core.testing import MemoryFile
from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"
NOISE = random.Random(0)
ROWS = [{"id": n, "blob": NOISE.randbytes(1000), "stars": n % 5} for n in range(4000)]


def parquet(rows=ROWS, **options):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **{"row_group_size": 100, **options})
    return buffer.getvalue()


DATA = parquet()


def test_a_row_reads_its_row_group_and_the_next_row_reads_nothing():
    file, reader = MemoryFile(DATA), ParquetReader()
    index = reader.index(file)
    assert file.bytes_read < 400_000
    file.reads.clear()
    assert reader.read(file, index, 1234)[1] == ROWS[1234]
    assert file.bytes_read < 1.2 * len(DATA) / 40
    file.reads.clear()
    assert reader.read(file, index, 1235) == ("object:1235", ROWS[1235])
    assert file.reads == []


def test_other_columns_are_not_read():
    file, reader = MemoryFile(DATA), ParquetReader(["stars"])
    assert [row for _, row in reader.samples(file)] == [{"stars": row["stars"]} for row in ROWS]
    assert file.bytes_read < len(DATA) / 4


def test_an_empty_selection_is_refused():
    with pytest.raises(ValueError, match="columns= is empty"):
        ParquetReader([])


def test_threads_can_read_rows_of_one_group():
    index = ParquetReader().index(MemoryFile(DATA))
    reader, is_slow, is_reading, second_has_row = ParquetReader(), [], *events(2)

    def read(start, stop):
        if is_slow.pop() if is_slow else False:
            is_reading.set()
            second_has_row.wait(1)  # in vain if the second thread waits for the first one
        return DATA[start:stop]

    file, rows = MemoryFile(read, size=len(DATA)), {}
    reader.index(file)
    is_slow.append(True)

    def read_row(position):
        rows[position] = reader.read(file, index, position)[1]

    first = threading.Thread(target=read_row, args=(10,))
    first.start()
    is_reading.wait(60)
    read_row(20)
    second_has_row.set()
    first.join()
    assert rows == {10: ROWS[10], 20: ROWS[20]}


def events(number):
    return [threading.Event() for _ in range(number)]


def test_an_index_has_one_number_per_row_group():
    index = ParquetReader().index(MemoryFile(DATA))
    assert len(index) == 4000
    assert len(pickle.dumps(index)) < 40 * 8 + 500


def test_a_slice_reads_only_its_row_groups():
    file = MemoryFile(DATA)
    found = list(ParquetReader().samples_between(file, 0, len(DATA) // 8))
    assert [name for name, _ in found] == [f"object:{n}" for n in range(len(found))]
    assert len(found) in (500, 600)
    assert file.bytes_read < len(DATA) / 4


def test_an_error_for_a_missing_column_lists_the_columns():
    with pytest.raises(FormatError, match=r"'object' has no column 'star'. It has id, blob, stars"):
        ParquetReader(["star"]).index(MemoryFile(DATA))


def test_a_row_group_larger_than_the_limit_raises_an_error_before_it_is_read():
    file, reader = MemoryFile(parquet([{"x": "a" * 1_000_000}] * 50)), ParquetReader(max_bytes=1000)
    index = reader.index(file)
    file.reads.clear()
    with pytest.raises(LimitError, match=r"Row group 0 of 'object'.*1000"):
        reader.read(file, index, 0)
    with pytest.raises(LimitError, match="max_bytes"):
        list(reader.samples(file))
    assert file.reads == []


def test_a_footer_larger_than_the_limit_raises_an_error_before_it_is_read():
    length = (65 << 20).to_bytes(4, "little")
    file = MemoryFile(
        lambda start, stop: (length + b"PAR1")[-(stop - start) :], name="big", size=100 << 20
    )
    with pytest.raises(LimitError, match="'big' has a footer"):
        ParquetReader().index(file)
    assert file.bytes_read == 8


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 4 + b"PAR1", DATA[:-1]]
)
def test_a_file_that_is_not_parquet_raises_an_error(data):
    with pytest.raises(FormatError, match="'object'"):
        list(ParquetReader().samples(MemoryFile(data)))


FIVE_ROWS = [
    {"a": n, "s": text, "l": numbers}
    for n, text, numbers in zip(
        range(1, 6), ["x", "yy", None, "z", "w"], [[1], [2, 3], [], None, [4]], strict=True
    )
]


def footer_bytes(data):
    """Returns the positions of the bytes of the footer."""
    return range(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data) - 8)


def changed(data, at, bits):
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def read_in_order(data, **options):
    return [row for _, row in ParquetReader(**options).samples(MemoryFile(data))]


def read_by_number(data, **options):
    file, reader = MemoryFile(data), ParquetReader(**options)
    index = reader.index(file)
    return [reader.read(file, index, number)[1] for number in range(len(index))]


def outcome(read, data):
    try:
        return read(data, max_bytes=1 << 26)
    except (FormatError, LimitError) as error:
        return type(error)


@pytest.mark.parametrize("bits", [0x02, 0x11, 0x80])
def test_changing_any_byte_of_the_footer_neither_loses_nor_adds_rows(bits):
    data = parquet(FIVE_ROWS, row_group_size=3)
    for at in footer_bytes(data):
        found = outcome(read_in_order, changed(data, at, bits))
        assert found in (FormatError, LimitError) or len(found) == 5, at
        by_number = outcome(read_by_number, changed(data, at, bits))
        assert repr(by_number) == repr(found), at


def missing_row_group():
    """Returns a file with two row groups of which the first has no data; Arrow skips it without an error."""
    data = parquet(FIVE_ROWS, row_group_size=3)
    for at in footer_bytes(data):
        try:
            table = pq.ParquetFile(io.BytesIO(changed(data, at, 0x80)))
            found = sum(len(batch) for n in (0, 1) for batch in table.iter_batches(row_groups=[n]))
        except (OSError, ValueError, pa.ArrowException):
            continue
        if (found, table.metadata.num_rows) == (2, 5):
            return changed(data, at, 0x80)
    raise AssertionError("no such file could be made")


@pytest.mark.parametrize("read", [read_in_order, read_by_number])
def test_an_error_for_a_row_group_without_data_names_its_bytes(read):
    expected = (
        r"Row group 0 of 'object', in its bytes \d+ to \d+, has 0 rows, but the footer declares 3"
    )
    with pytest.raises(FormatError, match=expected):
        read(missing_row_group())


def test_rows_by_number_are_decoded_without_read_row_group(monkeypatch):
    # `read_row_group` refuses nested columns of more than 2 GiB, which `iter_batches` reads.
    def refuse(*args, **kwargs):
        raise pa.ArrowNotImplementedError(
            "Nested data conversions not implemented for chunked array"
        )

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", refuse)
    assert read_by_number(DATA) == read_in_order(DATA) == ROWS


def column(values, kind):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"good": [0] * len(values), "x": pa.array(values, kind)}), buffer)
    return buffer.getvalue()


# Columns whose second value Python's types cannot hold exactly, and the integers that they are.
BEYOND_PYTHON = [
    (pa.date32(), [0, 10**7]),
    (pa.date32(), [0, -(10**6)]),
    (pa.timestamp("ms"), [0, 10**15]),
    (pa.timestamp("us"), [0, 2**62]),
    (pa.timestamp("us", "UTC"), [0, 2**62]),
    (pa.timestamp("ns"), [0, 1501]),
    (pa.timestamp("ns", "UTC"), [0, 1501]),
    (pa.duration("s"), [0, 2**60]),
    (pa.duration("ns"), [0, 1501]),
    (pa.time64("ns"), [0, 1501]),
    (pa.time64("us"), [0, 86_400_000_000]),
    (pa.time32("ms"), [0, -1]),
    (pa.list_(pa.timestamp("ns")), [[], [0, 1501]]),
    (pa.list_(pa.time64("us")), [[], [86_400_000_000]]),
    (pa.struct([("when", pa.date32())]), [None, {"when": 10**7}]),
    (pa.map_(pa.string(), pa.time64("ns")), [[], [("a", 1501)]]),
]


@pytest.mark.parametrize("read", [read_in_order, read_by_number])
@pytest.mark.parametrize(("kind", "values"), BEYOND_PYTHON, ids=str)
def test_a_time_that_python_cannot_represent_raises_an_error_and_can_be_read_as_an_integer(
    read, kind, values
):
    data = column(values, kind)
    expected = (
        r"row 1 and column 'x' of 'object', of type .* no equal value in Python.*times_as_int=True"
    )
    with pytest.raises(FormatError, match=expected) as caught:
        read(data)
    assert "damaged" not in str(caught.value)
    assert [row["x"] for row in read(data, times_as_int=True)] == values


@pytest.mark.parametrize("read", [read_in_order, read_by_number])
def test_times_of_whole_microseconds_are_read_as_datetime_types(read):
    when = dt.datetime(2024, 2, 29, 12, 30, 0, 250_000)  # noqa: DTZ001 - as the column has it
    for value, kind in [
        (when, pa.timestamp("ns")),
        (when.time(), pa.time64("ns")),
        (dt.timedelta(microseconds=7), pa.duration("ns")),
        ([when, None], pa.list_(pa.timestamp("ns"))),
        ({"a": when}, pa.struct([("a", pa.timestamp("ns"))])),
        ([("a", when)], pa.map_(pa.string(), pa.timestamp("ns"))),
    ]:
        first, second = (row["x"] for row in read(column([value, None], kind)))
        assert (first, second) == (value, None)
        assert type(first) is type(value)


@pytest.mark.parametrize("read", [read_in_order, read_by_number])
def test_an_error_for_a_value_without_an_equal_in_python_names_row_and_column(read):
    text = pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")
    fields = [pa.field("a", pa.int64())] * 2
    for array, reason in [
        (pa.Array.from_buffers(pa.string(), 1, [None, *text]), "'utf-8' codec"),
        (pa.StructArray.from_arrays([pa.array([1])] * 2, fields=fields), "duplicate field names"),
    ]:
        buffer = io.BytesIO()
        pq.write_table(pa.table({"good": [7], "x": array}), buffer)
        with pytest.raises(FormatError, match=f"row 0 and column 'x' of 'object'.*{reason}"):
            read(buffer.getvalue())
        assert read(buffer.getvalue(), columns=["good"]) == [{"good": 7}]


@pytest.mark.parametrize("read", [read_in_order, read_by_number])
def test_columns_with_the_same_name_raise_an_error_unless_others_are_chosen(read):
    buffer = io.BytesIO()
    arrays = [pa.array([1]), pa.array([2]), pa.array([3])]
    pq.write_table(pa.Table.from_arrays(arrays, names=["a", "a", "b"]), buffer)
    for columns in (None, ["a"]):
        with pytest.raises(FormatError, match=r"several columns with the name 'a'.*columns="):
            read(buffer.getvalue(), columns=columns)
    assert read(buffer.getvalue(), columns=["b"]) == [{"b": 3}]


def test_an_error_names_encryption():
    with pytest.raises(FormatError, match="'object' is an encrypted Parquet file"):
        read_in_order(DATA[:-4] + b"PARE")


class Unreachable(MemoryFile):
    broken = False

    def read_at(self, start, size):
        if self.broken:
            raise TransportError("the node is away", retryable=True)
        return super().read_at(start, size)


def test_an_error_of_the_source_is_raised_unchanged():
    file, reader = Unreachable(DATA), ParquetReader()
    index = reader.index(file)
    file.broken = True
    with pytest.raises(TransportError, match="the node is away"):
        reader.read(file, index, 0)
    with pytest.raises(TransportError, match="the node is away"):
        list(reader.samples(file))
    file.broken = False
    assert reader.read(file, index, 0)[1] == ROWS[0]


def test_a_reader_does_not_keep_a_source_alive():
    reader = ParquetReader()
    list(reader.samples(MemoryFile(DATA)))
    assert len(reader._tables) == 0


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_workers_share_one_file(tmp_path, kind):
    store = Store(tmp_path / "store")
    dataset = kind(f"ipfs://{store.file(DATA)}", store.address)
    assert [row["id"] for _, row in dataset] == list(range(4000))  # opens it before the fork
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    assert sorted(row["id"] for _, row in loader) == list(range(4000))


def test_examples_run_as_written(tmp_path, capsys):
    store = Store(tmp_path / "store")
    data = parquet([{"text": "…", "stars": stars} for stars in (5, 1, 4)])
    cid = store.tree({"reviews.parquet": data})
    replacements = {
        "bafybeiev3hgwqqsjkvkdq4vvjgmkbxynxsftwuoypulvncgqzbpwqbxtvi": cid,
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    assert capsys.readouterr().out.splitlines() == ["10", "3 {'stars': 4}"]
