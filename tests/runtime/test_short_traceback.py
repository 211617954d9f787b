"""Tracebacks of errors that users see: their own code and what it called, and nothing of the inside."""

from __future__ import annotations

import logging
import traceback

import pytest

import ipfs_dataset
from ipfs_dataset import IPFSDataset, IPFSDatasetExporter, IPFSObject
from ipfs_dataset_core import FormatError, Reader
from ipfs_dataset_core.errors import ExportError, TransportError

CID = "bafybeibaoakszt4d5rfpogtedcmhnw3libjjtdxv2cqroi6zruhh2mlw74"


def frames(caught):
    return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda address: ipfs_dataset.load(CID, address), "load"),
        (lambda address: IPFSDataset(CID, address)[0], "__getitem__"),
        (lambda address: IPFSDataset(CID, address)[0:2], "__len__"),
        (lambda address: IPFSDataset(CID, address).__getitems__([0]), "__getitems__"),
        (lambda address: len(IPFSDataset(CID, address)), "__len__"),
        (lambda address: IPFSDatasetExporter(address).import_from_ipfs(CID), "import_from_ipfs"),
    ],
)
def test_what_a_user_called_is_the_last_frame(tmp_path, call, name, monkeypatch, caplog):
    with (
        caplog.at_level(logging.DEBUG, "ipfs_dataset_core.runtime.short_traceback"),
        pytest.raises(TransportError, match="has no block") as caught,
    ):
        call(tmp_path)
    assert frames(caught)[-1] == name
    assert "failover.py" in caplog.text  # the whole of it is in the log
    monkeypatch.setenv("IPFS_DATASET_TRACEBACK", "full")
    with pytest.raises(TransportError) as caught:
        call(tmp_path)
    assert frames(caught)[-1] != name


def test_an_export_ends_with_the_call_and_the_error(tmp_path):
    with pytest.raises(ExportError, match="sample 1") as caught:
        IPFSDatasetExporter(tmp_path / "store").export_to_ipfs([1, object()])
    assert frames(caught)[-1] == "export_to_ipfs"


def test_frames_of_the_users_own_code_stay(tmp_path):
    class Numbers(Reader):
        """Fails."""

        name = "numbers"

        def index(self, source):
            return self.fail()

        def read(self, source, index, position):
            raise AssertionError

        def fail(self):
            raise FormatError("no second number")

    published = ipfs_dataset.IPFSDatasetExporter(tmp_path / "s").export_to_ipfs([1])
    broken = IPFSObject(f"{published}/manifest.json", Numbers())
    with pytest.raises(FormatError, match="no second number") as caught:
        IPFSDataset(broken, tmp_path / "s")[0]
    assert "fail" in frames(caught)


def test_what_has_sizes_is_shown_with_them_once_it_was_seen(tmp_path):
    image = pytest.importorskip("PIL.Image")
    exporter = IPFSDatasetExporter(tmp_path / "store")
    same = [(image.new("RGB", (32, 32), (i, 0, 0)), i) for i in range(3)]
    dataset = exporter.import_from_ipfs(exporter.export_to_ipfs(same))
    assert "3 x (image, int), " in repr(dataset)
    dataset[0]
    assert "3 x (image 32x32, int), " in repr(dataset)
    other = [*same, (image.new("RGB", (9, 8)), 1)]
    dataset = exporter.import_from_ipfs(exporter.export_to_ipfs(other))
    assert dataset[0] != dataset[3]
    assert "4 x (image, int), " in repr(dataset)
