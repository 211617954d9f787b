"""How little of a file is read, what is kept, and how workers share it."""

from __future__ import annotations

import contextlib
import io
import pickle
import random
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


def test_a_row_reads_its_row_group_and_the_next_one_nothing():
    file, reader = MemoryFile(DATA), ParquetReader()
    index = reader.index(file)
    assert file.bytes_read < 400_000
    file.reads.clear()
    assert reader.read(file, index, 1234)[1] == ROWS[1234]
    assert file.bytes_read < 1.2 * len(DATA) / 40
    file.reads.clear()
    assert reader.read(file, index, 1235) == ("object:1235", ROWS[1235])
    assert file.reads == []


def test_columns_that_are_not_asked_for_are_not_read():
    file, reader = MemoryFile(DATA), ParquetReader(["stars"])
    assert [row for _, row in reader.samples(file)] == [{"stars": row["stars"]} for row in ROWS]
    assert file.bytes_read < len(DATA) / 4


def test_an_index_has_a_number_a_row_group():
    index = ParquetReader().index(MemoryFile(DATA))
    assert len(index) == 4000
    assert len(pickle.dumps(index)) < 40 * 8 + 500


def test_a_slice_reads_its_row_groups_alone():
    file = MemoryFile(DATA)
    found = list(ParquetReader().samples_between(file, 0, len(DATA) // 8))
    assert [name for name, _ in found] == [f"object:{n}" for n in range(len(found))]
    assert len(found) in (500, 600)
    assert file.bytes_read < len(DATA) / 4


def test_a_column_that_is_missing_is_named_with_those_that_are_there():
    with pytest.raises(FormatError, match=r"'object' has no column 'star'. It has id, blob, stars"):
        ParquetReader(["star"]).index(MemoryFile(DATA))


def test_a_row_group_larger_than_the_limit_is_refused_unread():
    file, reader = MemoryFile(parquet([{"x": "a" * 1_000_000}] * 50)), ParquetReader(max_bytes=1000)
    index = reader.index(file)
    file.reads.clear()
    with pytest.raises(LimitError, match=r"Row group 0 of 'object'.*1000"):
        reader.read(file, index, 0)
    with pytest.raises(LimitError, match="max_bytes"):
        list(reader.samples(file))
    assert file.reads == []


def test_a_footer_larger_than_the_limit_is_refused_unread():
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
def test_what_is_no_parquet_is_refused(data):
    with pytest.raises(FormatError, match="'object'"):
        list(ParquetReader().samples(MemoryFile(data)))


def test_every_changed_byte_of_the_footer_ends_in_our_errors():
    data = parquet([{"a": n, "b": [str(n)]} for n in range(9)], row_group_size=4)
    length = int.from_bytes(data[-8:-4], "little")
    for at in range(len(data) - 8 - length, len(data), 3):
        changed = data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :]
        with contextlib.suppress(FormatError, LimitError):
            list(ParquetReader(max_bytes=1 << 26).samples(MemoryFile(changed)))


class Unreachable(MemoryFile):
    broken = False

    def read_at(self, start, size):
        if self.broken:
            raise TransportError("the node is away", retryable=True)
        return super().read_at(start, size)


def test_what_the_source_says_is_not_taken_for_damage():
    file, reader = Unreachable(DATA), ParquetReader()
    index = reader.index(file)
    file.broken = True
    with pytest.raises(TransportError, match="the node is away"):
        reader.read(file, index, 0)
    with pytest.raises(TransportError, match="the node is away"):
        list(reader.samples(file))
    file.broken = False
    assert reader.read(file, index, 0)[1] == ROWS[0]


def test_a_file_is_forgotten_with_its_source():
    reader = ParquetReader()
    list(reader.samples(MemoryFile(DATA)))
    assert len(reader._open) == 0


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
