"""Libraries that read through fsspec: pandas, Arrow, Zarr, xarray and reference filesystems."""

from __future__ import annotations

import io

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr

from ipfs_dataset_core import CID, TransportError
from tests.support import builders
from tests.support.gateway_server import GatewayServer

TABLE = pd.DataFrame({"x": np.arange(5000), "name": [f"row {n}" for n in range(5000)]})
RAIN = xr.Dataset(
    {"mm": (("day", "place"), np.arange(600.0).reshape(100, 6))},
    coords={"day": np.arange(100), "place": np.arange(6)},
)


def parquet(table):
    pq.write_table(pa.Table.from_pandas(table), buffer := io.BytesIO(), row_group_size=500)
    return buffer.getvalue()


@pytest.fixture
def zarr_files(tmp_path):
    folder = tmp_path / "made"
    RAIN.to_zarr(folder, consolidated=False, encoding={"mm": {"chunks": (10, 3)}})
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_pandas_reads_urls(store):
    root = store.tree({"t.csv": TABLE.to_csv(index=False).encode(), "t.parquet": parquet(TABLE)})
    options = {"ipfs_api_address": store.address}
    url = f"ipfsdataset://{root}"
    read = pd.read_csv(f"{url}/t.csv", storage_options=options)
    pd.testing.assert_frame_equal(read, TABLE)
    rows = pd.read_csv(f"{url}/t.csv", storage_options=options, chunksize=999)
    assert sum(map(len, rows)) == 5000
    columns = pd.read_parquet(f"{url}/t.parquet", columns=["x"], storage_options=options)
    assert columns["x"].sum() == TABLE["x"].sum()
    with pytest.raises(FileNotFoundError):
        pd.read_csv(f"{url}/none.csv", storage_options=options)
    with pytest.raises(OSError, match="read-only"):
        TABLE.to_csv(f"{url}/new.csv", storage_options=options)


def test_arrow_reads_files_and_datasets(store, fs):
    parts = {f"year={year}/part.parquet": parquet(TABLE[:1000]) for year in (2023, 2024)}
    root = store.tree(parts)
    one = pq.read_table(f"{root}/year=2023/part.parquet", filesystem=fs, columns=["x"])
    assert one["x"].to_pylist() == list(range(1000))
    arrow = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
    infos = arrow.get_file_info([root, f"{root}/none", f"{root}/year=2023/part.parquet"])
    kinds = pyarrow.fs.FileType
    assert [i.type for i in infos] == [kinds.Directory, kinds.NotFound, kinds.File]
    assert infos[2].size == len(parts["year=2023/part.parquet"])
    whole = pyarrow.dataset.dataset(root, filesystem=fs, partitioning="hive")
    assert whole.count_rows() == 2000
    assert whole.to_table(filter=pyarrow.dataset.field("year") == 2024).num_rows == 1000


def test_zarr_and_xarray_read_a_mapper(store, fs, zarr_files):
    path = store.tree({f"deep/rain.zarr/{name}": data for name, data in zarr_files.items()})
    mapper = fs.get_mapper(f"{path}/deep/rain.zarr")
    with xr.open_zarr(mapper, consolidated=False) as read:
        xr.testing.assert_identical(read.load(), RAIN)
    assert zarr.open_group(mapper, mode="r")["mm"][37, 2] == 37 * 6 + 2


def test_zarr_and_xarray_read_a_url(store, zarr_files):
    url = f"ipfsdataset://{store.tree(zarr_files)}"
    options = {"ipfs_api_address": store.address}
    with xr.open_zarr(url, consolidated=False, storage_options=options) as read:
        xr.testing.assert_identical(read.load(), RAIN)
    assert zarr.open_array(f"{url}/mm", mode="r", storage_options=options)[:].sum() == 179_700


def test_an_absent_chunk_is_a_fill_value_and_a_failed_one_an_error(at, zarr_files):
    chunks = sorted(name for name in zarr_files if name.startswith("mm/") and "json" not in name)
    missing, lost = chunks[0], chunks[-1]
    del zarr_files[missing]
    root, blocks = builders.tree(zarr_files)
    with GatewayServer(blocks) as server:
        fs = at(server)
        lost_cid = fs.info(f"{root}/{lost}")["CID"]
        fs.close()
        array = zarr.open_group(fs.get_mapper(str(root)), mode="r")["mm"]
        assert np.isnan(array[:10, :3]).all()
        assert array[10, 0] == 60
        server.blocks = {
            multihash: block
            for multihash, block in blocks.items()
            if multihash != CID.parse(lost_cid).multihash
        }
        with pytest.raises(TransportError, match="No source delivered"):
            array[:]
        fs.close()


def test_a_reference_filesystem_reads_ranges(store):
    data = np.arange(1000, dtype="<i4").tobytes()
    url = f"ipfsdataset://{store.file(b'head' + data)}"
    references = {"whole": [url], "some": [url, 4 + 40, 8], "inline": "text"}
    fs = fsspec.filesystem(
        "reference",
        fo={"version": 1, "refs": references},
        remote_protocol="ipfsdataset",
        remote_options={"ipfs_api_address": store.address},
        skip_instance_cache=True,
    )
    assert np.frombuffer(fs.cat_file("some"), "<i4").tolist() == [10, 11]
    assert fs.cat(["some", "inline"])["inline"] == b"text"
