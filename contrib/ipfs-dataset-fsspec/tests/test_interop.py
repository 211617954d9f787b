"""Clients that are not in the group `test`: DuckDB, Polars and Dask, in the group `interop`."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

TABLE = pd.DataFrame({"x": np.arange(5000), "name": [f"row {n}" for n in range(5000)]})
SUM = int(TABLE["x"].sum())


def client(name):
    """Returns a module; a test that needs it is skipped where it is not installed."""
    return pytest.importorskip(
        name, reason=f"NOT TESTED: {name} is not installed (the group `interop` has it)"
    )


def parquet(table):
    pq.write_table(pa.Table.from_pandas(table), buffer := io.BytesIO(), row_group_size=500)
    return buffer.getvalue()


@pytest.fixture
def root(store):
    part = parquet(TABLE)
    return store.tree(
        {
            "t.csv": TABLE.to_csv(index=False).encode(),
            "t.jsonl": TABLE.to_json(orient="records", lines=True).encode(),
            "t.parquet": part,
            "parts/year=2023/a.parquet": part,
            "parts/year=2024/a.parquet": part,
        }
    )


@pytest.fixture
def url(root):
    return f"ipfsdataset://{root}"


@pytest.fixture
def options(store):
    return {"ipfs_api_address": store.address}


@pytest.fixture
def duck(fs):
    connection = client("duckdb").connect()
    connection.register_filesystem(fs)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "source",
    [
        "'{url}/t.parquet'",
        "read_csv('{url}/t.csv')",
        "read_json('{url}/t.jsonl')",
        "read_parquet(['{url}/t.parquet'])",
        "read_parquet('{url}/parts/year=2023/*.parquet')",
    ],
)
def test_duckdb_reads_files(duck, url, source):
    query = f"SELECT sum(x), max(name) FROM {source.format(url=url)}"
    assert duck.sql(query).fetchall() == [(SUM, "row 999")]
    assert duck.sql(query).fetchall() == [(SUM, "row 999")]


def test_duckdb_reads_partitions(duck, url):
    partitioned = f"read_parquet('{url}/parts/**/*.parquet', hive_partitioning=true)"
    query = f"SELECT year, sum(x) FROM {partitioned} GROUP BY year ORDER BY year"
    assert duck.sql(query).fetchall() == [(2023, SUM), (2024, SUM)]


def test_duckdb_finds_no_missing_file_and_cannot_write(duck, url):
    duckdb = client("duckdb")
    with pytest.raises(duckdb.IOException, match="No files found"):
        duck.sql(f"SELECT * FROM '{url}/none.parquet'")
    with pytest.raises(duckdb.Error, match="read-only"):
        duck.sql(f"COPY (SELECT 1) TO '{url}/new.parquet'")


def test_polars_reads_open_files_and_arrow_datasets(fs, root):
    # Not URLs: Polars knows its own few schemes only.
    polars = client("polars")
    assert polars.read_parquet(fs.open(f"{root}/t.parquet"), columns=["x"])["x"].sum() == SUM
    assert polars.read_csv(fs.open(f"{root}/t.csv"))["x"].sum() == SUM
    scan = polars.scan_parquet(fs.open(f"{root}/t.parquet")).filter(polars.col("x") >= 4990)
    assert scan.collect()["x"].to_list() == list(range(4990, 5000))
    parts = pyarrow.dataset.dataset(f"{root}/parts", filesystem=fs, partitioning="hive")
    found = polars.scan_pyarrow_dataset(parts).filter(polars.col("year") == 2024).collect()
    assert found["x"].sum() == SUM


def test_dask_reads_tables(url, options):
    frames = client("dask.dataframe")
    parts = frames.read_parquet(f"{url}/parts", storage_options=options)
    assert parts["x"].sum().compute(scheduler="threads") == 2 * SUM
    lines = frames.read_csv(f"{url}/t.csv", storage_options=options, blocksize=10_000)
    assert lines.npartitions > 5
    assert lines["x"].sum().compute(scheduler="threads") == SUM


def test_dask_reads_text_in_threads_and_in_processes(url, options):
    bag = client("dask.bag")
    lines = bag.read_text(f"{url}/*.jsonl", storage_options=options, blocksize=20_000)
    assert lines.npartitions > 5
    assert lines.count().compute(scheduler="threads") == 5000
    assert lines.count().compute(scheduler="processes", num_workers=2) == 5000
