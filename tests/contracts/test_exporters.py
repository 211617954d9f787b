"""The built-in published form keeps the contract that is asked of everybody's."""

from __future__ import annotations

import pytest

from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.testing import ExporterContract


class TestTarShards(ExporterContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().exporter("tar_shards")
