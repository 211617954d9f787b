"""The format passes the contract tests for readers, in each version and for both kinds of samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ipfs_dataset_mat import MatReader, ipfs_dataset_readers
from scipy.io import savemat

from ipfs_dataset_core import ReaderPlugin
from ipfs_dataset_core.testing import Example, ReaderContract

IMAGES = np.arange(4 * 3 * 20, dtype="u1").reshape(4, 3, 20)
LABELS = np.arange(20.0).reshape(20, 1)
VARIABLES = {"images": IMAGES, "labels": LABELS}
WHOLE = [("object", VARIABLES)]
ROWS = [(f"object:{n}", {"images": IMAGES[..., n], "labels": LABELS[n]}) for n in range(20)]


def by_row():
    return MatReader(sample_axis={"images": "last", "labels": 0})


def saved(variables, **options):
    buffer = io.BytesIO()
    savemat(buffer, variables, **options)
    return buffer.getvalue()


class WholeFileContract(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return ipfs_dataset_readers()[0]

    @pytest.fixture(autouse=True)
    def _equal_fixture(self, equal):
        self._values_equal = equal

    def same(self, one, other):
        return self._values_equal(one, other)


class TestVersion4(WholeFileContract):
    @pytest.fixture
    def example(self):
        variables = {"labels": LABELS, "more": LABELS.T + 1j}
        return Example(saved(variables, format="4"), [("object", variables)])


class TestVersion6(WholeFileContract):
    @pytest.fixture
    def example(self):
        return Example(saved(VARIABLES), WHOLE)


class TestVersion7(WholeFileContract):
    @pytest.fixture
    def example(self):
        return Example(saved(VARIABLES, do_compression=True), WHOLE)


class TestVersion73(WholeFileContract):
    @pytest.fixture
    def example(self, write_v73):
        return Example(write_v73(VARIABLES), WHOLE)


class RowsContract(WholeFileContract):
    # Version 5 is read whole at the first row; version 7.3 needs the file's own tables besides the row.
    read_slack = 1 << 20

    @pytest.fixture
    def plugin(self):
        return ReaderPlugin(name="mat_rows", summary="a sample a row", factory=by_row)


class TestRowsOfVersion7(RowsContract):
    @pytest.fixture
    def example(self):
        return Example(saved(VARIABLES, do_compression=True), ROWS)


class TestRowsOfVersion73(RowsContract):
    @pytest.fixture
    def example(self, write_v73):
        return Example(write_v73(VARIABLES), ROWS)


class TestCompressedRowsOfVersion73(RowsContract):
    @pytest.fixture
    def example(self, write_v73):
        return Example(write_v73(VARIABLES, chunks=True, compression="gzip"), ROWS)
