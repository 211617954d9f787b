"""The formats pass the contract tests for readers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ipfs_dataset_numpy import ipfs_dataset_readers

from ipfs_dataset_core.testing import Example, ReaderContract

ARRAY = np.arange(60, dtype="f4").reshape(12, 5)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


class ArrayContract(ReaderContract):
    name = ""

    @pytest.fixture
    def plugin(self):
        (plugin,) = (plugin for plugin in ipfs_dataset_readers() if plugin.name == self.name)
        return plugin

    def same(self, one, other):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()


class TestNpy(ArrayContract):
    name = "npy"

    @pytest.fixture
    def example(self):
        return Example(npy(ARRAY), [("object", ARRAY)])


class TestNpyRows(ArrayContract):
    name = "npy_rows"

    @pytest.fixture
    def example(self):
        return Example(npy(ARRAY), [(f"object:{n}", row) for n, row in enumerate(ARRAY)])


class NpzContract(ArrayContract):
    name = "npz"
    read_slack = 1 << 20  # the archive's directory, at its end
    save = staticmethod(np.savez)

    @pytest.fixture
    def example(self):
        buffer = io.BytesIO()
        arrays = {"train": ARRAY, "test": ARRAY[:2] + 1, "mean": np.float64(3)}
        self.save(buffer, **arrays)
        return Example(buffer.getvalue(), list(arrays.items()))


class TestNpz(NpzContract):
    pass


class TestCompressedNpz(NpzContract):
    save = staticmethod(np.savez_compressed)
