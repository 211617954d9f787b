"""Metadata and chunks are compared: nothing is shortened or filled silently."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import zarr
from ipfs_dataset_zarr.reader import ZarrReader

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.testing import MemoryDirectory

DOCUMENTS = {2: "x/.zarray", 3: "x/zarr.json"}
CHUNKS = {2: "x/1.0", 3: "x/c/1/0"}
VALUES = np.arange(24, dtype="f4").reshape(6, 4)


@pytest.fixture(params=[2, 3])
def version(request):
    return request.param


@pytest.fixture
def store(version, tmp_path):
    group = zarr.open_group(tmp_path / "store", mode="w", zarr_format=version)
    made = group.create_array(
        "x", shape=(6, 4), chunks=(2, 4), dtype="f4", fill_value=7, compressors=None
    )
    made[:] = VALUES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # version 3 has consolidated metadata by custom only
        zarr.consolidate_metadata(tmp_path / "store")
    paths = (path for path in (tmp_path / "store").rglob("*") if path.is_file())
    return {path.relative_to(tmp_path / "store").as_posix(): path.read_bytes() for path in paths}


def rows(files):
    return [sample["x"].tolist() for _, sample in ZarrReader().samples(MemoryDirectory(files))]


def changed(data, **fields):
    return json.dumps({**json.loads(data), **fields}).encode()


def without_consolidated(version, store):
    if version == 2:
        return {path: data for path, data in store.items() if path != ".zmetadata"}
    return {**store, "zarr.json": changed(store["zarr.json"], consolidated_metadata=None)}


def test_outdated_consolidated_metadata_raise_an_error(version, store):
    assert rows(store) == VALUES.tolist()
    longer = {**store, DOCUMENTS[version]: changed(store[DOCUMENTS[version]], shape=[10, 4])}
    with pytest.raises(
        FormatError, match=r"'x': shape is \[6, 4\] in the former.*\[10, 4\].*consolidate_metadata"
    ):
        rows(longer)
    assert len(rows(without_consolidated(version, longer))) == 10


def test_attributes_may_differ_and_documents_of_arrays_may_be_missing(version, store):
    path = DOCUMENTS[version]
    if version == 3:
        assert rows({**store, path: changed(store[path], attributes={"a": 1})}) == VALUES.tolist()
    assert rows({name: data for name, data in store.items() if name != path}) == VALUES.tolist()


def test_an_absent_chunk_has_the_fill_value(version, store):
    del store[CHUNKS[version]]
    wanted = VALUES.copy()
    wanted[2:4] = 7
    assert rows(store) == wanted.tolist()


def test_an_absent_chunk_without_a_fill_value_raises_an_error(tmp_path):
    group = zarr.open_group(tmp_path, mode="w", zarr_format=2)
    group.create_array("x", shape=(6, 4), chunks=(2, 4), dtype="f4", compressors=None)[:] = VALUES
    paths = (path for path in tmp_path.rglob("*") if path.is_file())
    files = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in paths}
    files["x/.zarray"] = changed(files["x/.zarray"], fill_value=None)
    assert rows(files) == VALUES.tolist()
    del files["x/1.0"]
    with pytest.raises(
        FormatError, match=r"'x' of 'folder'.*chunk 'x/1\.0' of 'folder' is missing"
    ):
        rows(files)


@pytest.mark.parametrize("size", [0, 4, 28, 36, 64])
def test_a_chunk_of_another_size_raises_an_error(version, store, size):
    store[CHUNKS[version]] = (store[CHUNKS[version]] * 2)[:size]
    with pytest.raises(FormatError, match="The array 'x' of 'folder' cannot be read"):
        rows(store)


def test_a_repeated_name_in_metadata_raises_an_error(version, store):
    files = without_consolidated(version, store)
    path = DOCUMENTS[version]
    files[path] = files[path].replace(b'"shape"', b'"shape": [2, 4], "shape"', 1)
    with pytest.raises(FormatError, match="the name 'shape' twice"):
        rows(files)
