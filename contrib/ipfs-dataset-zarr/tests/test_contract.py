"""The format passes the contract tests for readers, for each way of writing a store."""

from __future__ import annotations

import numpy as np
import pytest
from ipfs_dataset_zarr import ipfs_dataset_readers

from ipfs_dataset_core.testing import Example, ReaderContract

IMAGES = np.arange(20 * 4 * 3, dtype="i2").reshape(20, 4, 3)
TIMES = np.arange(20.0)
ROWS = [(f"object:{n}", {"images": IMAGES[n], "times": TIMES[n]}) for n in range(20)]


class ZarrContract(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return ipfs_dataset_readers()[0]

    def same(self, one, other):
        if not isinstance(other, dict):
            return one.dtype == other.dtype and np.array_equal(one, other)
        return list(one) == list(other) and all(self.same(one[path], other[path]) for path in one)


class TestStore(ZarrContract):
    @pytest.fixture(params=[(2, {}), (3, {}), (3, {"shards": (6, 4, 4)})])
    def example(self, request, written):
        zarr_format, options = request.param

        def build(group):
            images = group.create_array(
                "images", shape=IMAGES.shape, dtype="i2", chunks=(3, 2, 2), **options
            )
            images[:] = IMAGES
            group.create_array("times", data=TIMES)
            group.create_array("latitudes", data=np.arange(4.0))

        return Example(written(build, zarr_format), ROWS)


class TestArray(ZarrContract):
    @pytest.fixture
    def example(self, array):
        rows = [(f"object:{n}", image) for n, image in enumerate(IMAGES)]
        return Example(array(IMAGES, chunks=(7, 4, 3)), rows)
