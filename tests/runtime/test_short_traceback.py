"""Tracebacks of errors that users see: their own code and what it called, and nothing of the inside."""

from __future__ import annotations

import logging
import traceback

import pytest

import ipfs_dataset
from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSDatasetExporter,
    IPFSIterableDataset,
    IPFSObject,
    MixedDataset,
    RemoteFileType,
    ShuffleDataset,
)
from ipfs_dataset_core import FormatError, Reader
from ipfs_dataset_core.addressing.object_url import parse_object_url
from ipfs_dataset_core.errors import AddressError, ExportError, TransportError, VerificationError
from ipfs_dataset_core.runtime.short_traceback import short_traceback
from tests.support.builders import noise, tar_bytes
from tests.support.stores import Store

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
def test_the_last_frame_is_the_call_of_the_user(tmp_path, call, name, monkeypatch, caplog):
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


def damaged(folder, *, published=False):
    """Returns the CID of data most of which is damaged, and the store."""
    store = Store(folder)
    if published:
        cid = IPFSDatasetExporter(store.address).export_to_ipfs(
            [noise(300_000, n) for n in range(8)]
        )
    else:
        cid = store.file(tar_bytes({f"{n}.bin": noise(300_000, n) for n in range(8)}))
    blocks = [path for path in folder.rglob("bafk*") if path.stat().st_size > 200_000]
    for path in blocks[:-1]:
        path.write_bytes(b"other bytes")
    return cid, store.address


def tar(cid):
    return IPFSObject(cid, RemoteFileType.TAR)


@pytest.mark.parametrize(
    ("iterator", "published"),
    [
        (lambda cid, at: iter(IPFSIterableDataset(tar(cid), at)), False),
        (lambda cid, at: iter(IPFSIterableDataset(tar(cid), at, batch_size=2, lanes=2)), False),
        (lambda cid, at: iter(IPFSIterableDataset(tar(cid), at, shuffle_blocks=True)), False),
        (lambda cid, at: iter(ShuffleDataset(IPFSIterableDataset(tar(cid), at), 3)), False),
        (lambda cid, at: iter(ShuffleDataset(IPFSDataset(tar(cid), at), 3)), False),
        (lambda cid, at: iter(MixedDataset({"a": (IPFSDataset(tar(cid), at), 1)})), False),
        (lambda cid, at: iter(IPFSDataset(tar(cid), at)), False),
        (lambda cid, at: iter(IPFSDataset(tar(cid), at, transform=str)), False),
        (lambda cid, at: IPFSIterableDataset(tar(cid), at).splits(), False),
        (lambda cid, at: iter(BlockShuffleSampler(IPFSDataset(tar(cid), at))), False),
        (lambda cid, at: iter(ipfs_dataset.load(cid, at)), True),
        (lambda cid, at: ipfs_dataset.load(cid, at).splits()[0].read(), True),
    ],
    ids=[
        *("stream", "lanes", "blocks", "shuffled", "numbers", "mixed", "map", "transformed"),
        *("split", "sampler", "published", "part"),
    ],
)
def test_an_iteration_ends_with_the_call_and_the_error(tmp_path, iterator, published, monkeypatch):
    data = damaged(tmp_path / "store", published=published)

    def read():
        list(iterator(*data))

    with pytest.raises((VerificationError, TransportError)) as caught:
        read()
    # Only what the loop called itself: the iterator that it made, or its next sample.
    inside = frames(caught)[frames(caught).index("read") + 1 :]
    assert set(inside) <= {
        *("<lambda>", "__iter__", "__init__", "_begin", "__next__", "__len__", "splits"),
        "shortened_iteration",
    }
    monkeypatch.setenv("IPFS_DATASET_TRACEBACK", "full")
    with pytest.raises((VerificationError, TransportError)) as caught:
        read()
    assert len(frames(caught)) > frames(caught).index("read") + 7


def test_joined_datasets_end_with_the_call_and_the_error(tmp_path):
    cid, address = damaged(tmp_path / "store", published=True)
    joined = ipfs_dataset.load(cid, address) + ipfs_dataset.load(cid, address)
    with pytest.raises((VerificationError, TransportError)) as caught:
        joined.__getitems__([1, 9])
    assert frames(caught)[-1] == "__getitems__"


def test_a_users_transform_stays_in_the_traceback_of_an_iteration(tmp_path):
    def change(sample):
        raise FormatError("not mine")

    cid = Store(tmp_path / "s").file(tar_bytes({"a": b"1"}))
    with pytest.raises(FormatError, match="not mine") as caught:
        list(IPFSIterableDataset(tar(cid), tmp_path / "s", transform=change))
    assert frames(caught)[-1] == "change"


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
    # Those of the plugin are shown with its own error, which is the cause of the one that names the object.
    assert "Numbers.index" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in fail" in shown


def test_sizes_are_shown_after_they_were_read(tmp_path):
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


def test_the_log_has_the_whole_traceback_also_where_it_is_formatted_later(caplog):
    def called():
        with short_traceback:
            parse_object_url("~/folder")

    logger = "ipfs_dataset_core.runtime.short_traceback"
    with caplog.at_level(logging.DEBUG, logger), pytest.raises(AddressError) as caught:
        called()
    assert frames(caught)[-1] == "called"
    [record] = caplog.records
    assert "parse_object_url" in "".join(traceback.format_exception(*record.exc_info))


def test_the_cause_is_shown_and_other_handled_errors_are_not():
    def called(values):
        with short_traceback:
            try:
                values["missing"]
            except KeyError:
                raise TransportError("no answer") from OSError("reset")

    def called_without_cause(values):
        with short_traceback:
            try:
                values["missing"]
            except KeyError:
                raise TransportError("no answer")  # noqa: B904 - as code of plugins may

    for call, cause in ((called, True), (called_without_cause, False)):
        with pytest.raises(TransportError) as caught:
            call({})
        text = "".join(traceback.format_exception(caught.value))
        assert ("reset" in text, "KeyError: 'missing'" in text) == (cause, False)
