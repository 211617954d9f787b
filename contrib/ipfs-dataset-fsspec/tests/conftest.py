"""Fixtures: a store to publish to, filesystems that are closed after each test, and Kubo if installed."""

from __future__ import annotations

from functools import partial

import fsspec
import pytest
from fsspec.registry import _registry, known_implementations
from ipfs_dataset_fsspec import IPFSDatasetFileSystem

from tests.support.kubo import KuboNode, why_no_kubo
from tests.support.stores import Store


@pytest.fixture(autouse=True)
def a_home_without_sources(tmp_path, monkeypatch):
    """Nothing that is installed or set on this machine counts."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "IPFS_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("IPFS_GATEWAY", "IPFS_DATASET_STORE", "IPFS_DATASET_GATEWAYS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def closed_filesystems():
    """Closes every filesystem that a test made, whoever made it for whom."""
    yield
    for fs in list(IPFSDatasetFileSystem._cache.values()):
        fs.close()
    IPFSDatasetFileSystem.clear_instance_cache()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def reading(store):
    """Makes filesystems over the store."""
    return partial(fsspec.filesystem, "ipfsdataset", ipfs_api_address=store.address)


@pytest.fixture
def fs(reading):
    return reading()


@pytest.fixture
def at():
    """Makes filesystems over gateways, which give up fast."""

    def over(*gateways, **options):
        urls = [gateway.url for gateway in gateways]
        quick = {"retries": 0, "timeout": 2, "deadline": 20}
        return fsspec.filesystem("ipfsdataset", gateways=urls, **{**quick, **options})

    return over


@pytest.fixture
def registered():
    """The classes of protocols, and where others are imported from, without ``ipfs``; restored afterwards."""
    tables = (_registry, known_implementations)
    before = [dict(table) for table in tables]
    for table in tables:
        table.pop("ipfs", None)
        table.pop("ipns", None)
    yield tables
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


@pytest.fixture(scope="session")
def kubo(tmp_path_factory):
    if reason := why_no_kubo():
        pytest.skip(reason)
    with KuboNode(tmp_path_factory.mktemp("kubo") / "repo") as node:
        yield node
