"""The format passes the contract tests for readers."""

from __future__ import annotations

import datetime as dt
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ipfs_dataset_parquet import ipfs_dataset_readers
from ipfs_dataset_parquet.reader import ParquetReader

from ipfs_dataset_core import ReaderPlugin
from ipfs_dataset_core.testing import Example, ReaderContract

ROWS = [
    {
        "id": n,
        "text": f"row {n}" if n % 3 else None,
        "box": [float(n), n + 0.5],
        "image": {"bytes": bytes([n]), "path": "p"},
        "when": dt.date(2024, 1, 1 + n),
    }
    for n in range(20)
]


class ParquetContract(ReaderContract):
    read_slack = 1 << 20  # the footer at the end, and Arrow's buffers

    def options(self):
        return {}

    @pytest.fixture
    def plugin(self):
        return ipfs_dataset_readers()[0]

    @pytest.fixture
    def example(self):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(ROWS), buffer, row_group_size=7, **self.options())
        return Example(buffer.getvalue(), [(f"object:{n}", row) for n, row in enumerate(ROWS)])


class TestSnappy(ParquetContract):
    pass


class TestZstandard(ParquetContract):
    def options(self):
        return {"compression": "zstd"}


class TestUncompressedPlain(ParquetContract):
    def options(self):
        return {"compression": "none", "use_dictionary": False}


def by_columns():
    return ParquetReader(["text", "id"])


class TestColumns(ParquetContract):
    @pytest.fixture
    def plugin(self):
        return ReaderPlugin(name="parquet_columns", summary="two columns", factory=by_columns)

    @pytest.fixture
    def example(self):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(ROWS), buffer, row_group_size=7)
        rows = [{"text": row["text"], "id": row["id"]} for row in ROWS]
        return Example(buffer.getvalue(), [(f"object:{n}", row) for n, row in enumerate(rows)])
