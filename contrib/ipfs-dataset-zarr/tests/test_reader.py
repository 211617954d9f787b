"""The reader: selection of arrays, what is fetched and cached, and workers."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
from ipfs_dataset_zarr.reader import ZarrReader
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from tests.support.stores import Store

FIELD = np.arange(12 * 4 * 3, dtype="f4").reshape(12, 4, 3)
DIMENSIONS = {
    "t2m": ("time", "latitude", "longitude"),
    "time": ("time",),
    "latitude": ("latitude",),
    "month": ("month",),
}


def climate(group):
    """Fills a store as xarray does; there are as many months as times."""
    arrays = {"t2m": FIELD, "time": np.arange(12), "latitude": np.arange(4.0)}
    for name, values in {**arrays, "month": np.arange(12)}.items():
        named = {"dimension_names": DIMENSIONS[name]} if group.metadata.zarr_format == 3 else {}
        made = group.create_array(name, data=values, chunks=(1, *values.shape[1:]), **named)
        if not named:
            made.attrs["_ARRAY_DIMENSIONS"] = list(DIMENSIONS[name])
    group.create_array("crs", shape=(), dtype="i4")


def samples(files, **options):
    return list(ZarrReader(**options).samples(MemoryDirectory(files)))


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_the_largest_array_and_those_with_the_same_leading_axis_are_read(
    written, zarr_format, consolidated
):
    files = written(climate, zarr_format, consolidated=consolidated)
    found = samples(files)
    assert [name for name, _ in found] == [f"folder:{n}" for n in range(12)]
    assert sorted(found[5][1]) == ["t2m", "time"]
    assert np.array_equal(found[5][1]["t2m"], FIELD[5])
    assert found[5][1]["time"] == 5


def test_axes_without_names_are_compared_by_length(written):
    def build(group):
        group.create_array("x", data=FIELD)
        group.create_array("y", data=np.arange(12))
        group.create_array("z", data=np.arange(4))

    assert sorted(samples(written(build))[0][1]) == ["x", "y"]


def test_variables_selects_arrays(written):
    files = written(climate)
    assert list(samples(files, variables=["time", "/month/"])[3][1]) == ["time", "month"]
    assert samples(files, variables="latitude")[3][1] == {"latitude": 3.0}
    with pytest.raises(
        FormatError, match=r"do not have the same number of rows: t2m has 12, latitude has 4"
    ):
        samples(files, variables=["t2m", "latitude"])
    with pytest.raises(FormatError, match=r"'folder' has no array 'x'. It has .*t2m"):
        samples(files, variables="x")
    with pytest.raises(FormatError, match=r"'crs' of 'folder'.*single value without rows"):
        samples(files, variables="crs")


def test_an_empty_selection_is_refused():
    with pytest.raises(ValueError, match="variables= is empty"):
        ZarrReader(variables=[])


def test_making_an_index_reads_only_consolidated_metadata_and_those_of_the_arrays(written):
    files = written(climate, 2, consolidated=True)
    directory = MemoryDirectory(files)
    assert len(ZarrReader().index(directory)) == 12
    assert list(directory.opened) == [".zmetadata", "t2m/.zarray", "time/.zarray"]


def test_an_array_in_a_group_is_named_or_the_group_is_read_as_a_store(written):
    files = written(lambda group: group.create_group("a/b").create_array("x", data=FIELD))
    assert len(samples(files, variables="a/b/x")) == 12
    with pytest.raises(FormatError, match="path of a group to the URL"):
        samples(files)
    below = {path.removeprefix("a/b/"): data for path, data in files.items() if "a/b/" in path}
    assert list(samples(below)[0][1]) == ["x"]


def test_files_beside_the_arrays_are_ignored(written):
    assert len(samples({**written(climate), "README.md": b"#", "docs/index.html": b""})) == 12


def test_several_largest_arrays_with_different_axes_raise_an_error(written):
    def build(group):
        group.create_array("x", data=FIELD)
        group.create_array("y", data=FIELD.reshape(4, 12, 3))

    with pytest.raises(FormatError, match=r"have different leading axes.*x\[12, 4, 3\]"):
        samples(written(build))


@pytest.mark.parametrize("files", [{}, {"a.txt": b""}, {"zarr/zarr.json": b"{}"}])
def test_a_folder_that_is_not_a_store_raises_an_error(files):
    with pytest.raises(FormatError, match="'folder' is not a Zarr store"):
        samples(files)


def test_a_file_raises_an_error():
    with pytest.raises(FormatError, match="is a file"):
        ZarrReader().index(MemoryFile(b""))


def test_a_row_reads_only_its_chunks(array):
    values = np.random.default_rng(0).random((100, 50, 50))
    directory = MemoryDirectory(array(values, chunks=(10, 25, 50), compressors=None))
    reader = ZarrReader()
    index = reader.index(directory)
    directory.opened.clear()
    assert np.array_equal(reader.read(directory, index, 42)[1], values[42])
    assert sorted(directory.opened) == ["c/4/0/0", "c/4/1/0"]
    assert index.span(0) == (0, 10 * 50 * 50 * 8)
    directory.opened.clear()
    reader.read(directory, index, 49)
    assert directory.opened == {}  # of the same chunks, which are kept
    assert len(pickle.dumps(index)) < 300


def test_a_row_reads_only_its_part_of_a_shard(array):
    values = np.random.default_rng(0).random((64, 50, 50))
    options = {"chunks": (1, 50, 50), "shards": (64, 50, 50), "compressors": None}
    directory = MemoryDirectory(array(values, **options))
    reader = ZarrReader()
    index = reader.index(directory)
    assert np.array_equal(reader.read(directory, index, 42)[1], values[42])
    shard = directory.opened["c/0/0/0"]
    assert shard.bytes_read <= 20_000 + 2 * (64 * 16 + 4)
    assert [stop - start for start, stop in shard.hints] == [20_000]


def test_a_batch_reads_each_chunk_once(array):
    directory = MemoryDirectory(array(FIELD, chunks=(2, 4, 3)))
    reader = ZarrReader()
    index = reader.index(directory)
    reader.prefetch(directory, index, [7, 1, 6, 0])
    assert [reader.read(directory, index, n)[1][0, 0] for n in (7, 1, 6, 0)] == [84, 12, 72, 0]
    read = {path: len(file.reads) for path, file in directory.opened.items() if "c/" in path}
    assert read == {"c/0/0/0": 1, "c/3/0/0": 1}


def test_rows_are_writable_copies(array):
    directory = MemoryDirectory(array(FIELD, chunks=(3, 4, 3)))
    reader = ZarrReader()
    index = reader.index(directory)
    row = reader.read(directory, index, 1)[1]
    row[:] = -1
    assert row.base is None
    assert np.array_equal(reader.read(directory, index, 1)[1], FIELD[1])


def test_absent_chunks_have_the_fill_value(array):
    files = array(FIELD, chunks=(1, 2, 3), fill_value=7)
    del files["c/5/1/0"]
    found = samples(files)
    assert np.array_equal(found[5][1][:2], FIELD[5][:2])
    assert np.all(found[5][1][2:] == 7)


def test_a_reader_does_not_keep_a_directory_alive(array):
    reader, directory = ZarrReader(), MemoryDirectory(array(FIELD))
    reader.read(directory, reader.index(directory), 0)
    gone = weakref.ref(directory)
    del directory
    gc.collect()
    assert gone() is None
    assert len(reader._stores) == 0


def test_too_many_samples_raise_an_error(array):
    directory = MemoryDirectory(array(FIELD), limits=Limits(members=11))
    with pytest.raises(LimitError, match="members"):
        ZarrReader().index(directory)


def test_a_reader_can_be_pickled(array):
    reader, directory = ZarrReader(variables=[""]), MemoryDirectory(array(FIELD))
    reader.index(directory)
    again = pickle.loads(pickle.dumps(reader))
    assert len(list(again.samples(directory))) == 12


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (IPFSDataset, None),
        (IPFSDataset, "forkserver"),
        (IPFSDataset, "fork"),
        (IPFSIterableDataset, "fork"),
    ],
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_share_a_store(tmp_path, written, kind, method):
    store = Store(tmp_path / "store")
    dataset = kind(IPFSObject(store.tree(written(climate)), "zarr"), store.address)
    assert len(dataset) == 12
    if kind is IPFSDataset:
        assert dataset[5][1]["time"] == 5  # the parent has threads of its own before it forks
    options = {"num_workers": 2, "multiprocessing_context": method} if method else {}
    loader = DataLoader(dataset, batch_size=2, collate_fn=list, **options)
    found = [sample for batch in loader for _, sample in batch]
    assert sorted(int(sample["time"]) for sample in found) == list(range(12))
    assert all(np.array_equal(sample["t2m"], FIELD[sample["time"]]) for sample in found)


def test_a_store_without_rows_has_no_samples(written):
    files = written(lambda group: group.create_array("x", shape=(0, 3), dtype="i4"))
    assert samples(files) == []


def test_an_array_missing_in_consolidated_metadata_raises_an_error(written):
    files = written(climate, 2, consolidated=True)
    consolidated = json.loads(files[".zmetadata"])
    del consolidated["metadata"]["t2m/.zarray"]
    files[".zmetadata"] = json.dumps(consolidated).encode()
    with pytest.raises(FormatError, match="no array 't2m'"):
        samples(files, variables="t2m")


def test_the_declaration_imports_neither_numpy_nor_zarr():
    program = """
import sys
from ipfs_dataset_zarr import ipfs_dataset_readers
assert ipfs_dataset_readers()[0].name == "zarr"
print(sorted({"zarr", "numcodecs", "numpy", "torch"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
