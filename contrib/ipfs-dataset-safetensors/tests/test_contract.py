"""The formats pass the contract tests for readers."""

from __future__ import annotations

import pytest
import torch
from ipfs_dataset_safetensors import ipfs_dataset_readers
from safetensors.torch import save

from ipfs_dataset_core.testing import Example, ReaderContract

TENSORS = {
    "latent": torch.arange(60, dtype=torch.bfloat16).reshape(12, 5),
    "label": torch.arange(12),
    "mask": torch.arange(12) % 3 == 0,
}


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return one.dtype == other.dtype and torch.equal(one, other)


class SafetensorsContract(ReaderContract):
    name = ""

    @pytest.fixture
    def plugin(self):
        (plugin,) = (plugin for plugin in ipfs_dataset_readers() if plugin.name == self.name)
        return plugin

    def same(self, one, other):
        return equal(one, other)


class TestTensors(SafetensorsContract):
    name = "safetensors"

    @pytest.fixture
    def example(self):
        # The library orders by type, widest first.
        return Example(
            save(TENSORS), [(name, TENSORS[name]) for name in ("label", "latent", "mask")]
        )


class TestRows(SafetensorsContract):
    name = "safetensors_rows"
    read_slack = 1 << 10  # a row of each tensor, and the span is the widest's

    @pytest.fixture
    def example(self):
        rows = [{name: TENSORS[name][row] for name in TENSORS} for row in range(12)]
        return Example(
            save(TENSORS), [(f"object:{row}", values) for row, values in enumerate(rows)]
        )
