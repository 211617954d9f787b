"""The formats pass the contract tests for readers, for each way of storing datasets."""

from __future__ import annotations

import io

import h5py
import numpy as np
import pytest
from ipfs_dataset_hdf5 import ipfs_dataset_readers

from ipfs_dataset_core.testing import Example, ReaderContract

IMAGES = np.arange(20 * 4 * 3, dtype="u1").reshape(20, 4, 3)
DATASETS = {"train/images": IMAGES, "train/labels": np.arange(20.0)}
ROWS = [(f"object:{n}", {path: values[n] for path, values in DATASETS.items()}) for n in range(20)]
STORED = [{}, {"chunks": True, "compression": "gzip", "fletcher32": True}]


def written(datasets, **options):
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        for path, values in datasets.items():
            file.create_dataset(path, data=values, **options)
    return buffer.getvalue()


class Hdf5Contract(ReaderContract):
    name = ""
    # HDF5 reads its own tables besides the row.
    read_slack = 1 << 20

    @pytest.fixture
    def plugin(self):
        (plugin,) = (plugin for plugin in ipfs_dataset_readers() if plugin.name == self.name)
        return plugin

    def same(self, one, other):
        return list(one) == list(other) and all(
            one[path].dtype == other[path].dtype and np.array_equal(one[path], other[path])
            for path in one
        )


class TestWholeFile(Hdf5Contract):
    name = "hdf5"

    @pytest.fixture(params=STORED)
    def example(self, request):
        return Example(written(DATASETS, **request.param), [("object", DATASETS)])


class TestRows(Hdf5Contract):
    name = "hdf5_rows"

    @pytest.fixture(params=STORED)
    def example(self, request):
        return Example(written(DATASETS, **request.param), ROWS)
