"""The import paths and signatures that users wrote against, and what they cost to import."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys

import pytest
from torch.utils.data import Dataset, IterableDataset

import ipfs_dataset as facade
import ipfs_dataset_core
from ipfs_dataset import exporter, ipfs_dataset, types


def test_the_facade_only_passes_on_what_the_core_has():
    for module in (exporter, ipfs_dataset, types):
        for name in module.__all__:
            assert getattr(module, name) is getattr(ipfs_dataset_core, name)


def test_every_name_of_the_modules_is_at_the_top_as_well():
    modules = (exporter, ipfs_dataset, types)
    names = {name for module in modules for name in module.__all__}
    assert {*facade.__all__} - {"__version__"} == names == {*facade._MODULE_OF}
    assert {*facade.__all__} <= {*dir(facade)}
    for module in modules:
        for name in module.__all__:
            assert getattr(facade, name) is getattr(module, name)
    assert facade.__version__ == importlib.metadata.version("ipfs-dataset")
    with pytest.raises(AttributeError, match="no attribute 'IPFSDatsaet'"):
        facade.IPFSDatsaet  # type: ignore[attr-defined]  # noqa: B018 - looking it up is the test


def test_names_of_the_core_are_there_and_no_others():
    for name in ipfs_dataset_core.__all__:
        assert getattr(ipfs_dataset_core, name) is not None
    assert sorted(ipfs_dataset_core.__all__, key=lambda name: name) == sorted(
        set(ipfs_dataset_core.__all__)
    )
    with pytest.raises(AttributeError, match="no attribute 'IPFSDatsaet'"):
        ipfs_dataset_core.IPFSDatsaet  # type: ignore[attr-defined]  # noqa: B018 - looking it up is the test


@pytest.mark.parametrize(
    ("function", "positional"),
    [
        (types.IPFSObject, ["url", "filetype"]),
        (ipfs_dataset.IPFSDataset, ["ipfs_objs", "ipfs_api_address"]),
        (ipfs_dataset.IPFSIterableDataset, ["ipfs_objs", "ipfs_api_address", "shuffle_urls"]),
        (ipfs_dataset.ShuffleDataset, ["dataset", "buffer_size"]),
        (exporter.IPFSDatasetExporter, ["address"]),
    ],
)
def test_arguments_by_position_are_those_of_the_original(function, positional):
    parameters = inspect.signature(function).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional


def test_defaults_are_those_of_the_readme():
    assert types.IPFSObject("ipfs://x").filetype is None
    buffer_size = inspect.signature(ipfs_dataset.ShuffleDataset).parameters["buffer_size"]
    assert buffer_size.default == 1000


def test_the_formats_that_everybody_has_are_an_enum():
    assert [kind.name for kind in types.RemoteFileType] == [
        "PLAIN",
        "FOLDER",
        "TAR",
        "ZIP",
        "PLAIN_STREAM",
    ]


def test_datasets_are_those_of_torch():
    assert issubclass(ipfs_dataset.IPFSDataset, Dataset)
    assert not issubclass(ipfs_dataset.IPFSDataset, IterableDataset)
    assert issubclass(ipfs_dataset.IPFSIterableDataset, IterableDataset)
    assert issubclass(ipfs_dataset.ShuffleDataset, IterableDataset)


def test_objects_are_values():
    one = types.IPFSObject("ipfs://x", types.RemoteFileType.ZIP)
    assert one == types.IPFSObject("ipfs://x", types.RemoteFileType.ZIP)
    with pytest.raises(AttributeError):
        one.url = "other"  # type: ignore[misc]


def test_naming_objects_needs_no_torch():
    code = "import sys, ipfs_dataset.types, ipfs_dataset; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_of_the_core_is_loaded_when_asked_for():
    assert {*ipfs_dataset_core._MODULE_OF} | {"register"} == set(ipfs_dataset_core.__all__)
    assert set(ipfs_dataset_core.__all__) <= set(dir(ipfs_dataset_core))
