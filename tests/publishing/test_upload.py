"""Only missing blocks are sent; removed ones are sent again; an error states how much was stored."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import threading
from contextlib import closing

import pytest

from ipfs_dataset_core.errors import ObjectNotFoundError, TransportError, TransportTimeoutError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import RAW, get_profile, make_cid
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_core.publishing.upload import BlockUpload, UploadCount, with_advice
from ipfs_dataset_core.testing import MemoryTransport
from ipfs_dataset_plugins import store
from ipfs_dataset_plugins.tar_shards.exporter import TarShards

PROFILE = get_profile("unixfs-v1-2025")
BLOCKS = [(make_cid(data, RAW), data) for data in (b"%03d" % i * 100 for i in range(200))]


class Asked(MemoryTransport):
    """Records the blocks that were looked up and those that were sent."""

    concurrency = 1

    def __init__(self):
        super().__init__()
        self.asked = []
        self.sent = []

    def lacking(self, blocks):
        self.asked += [cid for cid, _ in blocks]
        return super().lacking(blocks)

    def put_blocks(self, blocks):
        blocks = list(blocks)
        self.sent += [cid for cid, _ in blocks]
        super().put_blocks(blocks)


def upload(transport, blocks, batch_bytes=6000, **options):
    with closing(BlockUpload(transport, batch_bytes, **options)) as sending:
        for cid, block in blocks:
            sending.emit(cid, block)
        sending.finish()
    return sending.count


def test_stored_blocks_are_not_sent_again():
    transport = Asked()
    upload(transport, BLOCKS)
    transport.sent.clear()
    count = upload(transport, BLOCKS)
    assert transport.sent == []
    assert (count.blocks, count.bytes) == (200, 60_000)
    assert (count.present_blocks, count.present_bytes) == (200, 60_000)
    assert (count.sent_blocks, count.sent_bytes) == (0, 0)


@pytest.mark.parametrize("there", [[7], [0, 199], range(50), range(150, 200), range(0, 200, 9)])
def test_missing_blocks_are_sent_in_order(there):
    transport = Asked()
    transport.put_blocks([BLOCKS[number] for number in there])
    transport.sent.clear()
    count = upload(transport, BLOCKS)
    assert transport.blocks == {cid.multihash: block for cid, block in BLOCKS}
    wanted = [cid for number, (cid, _) in enumerate(BLOCKS) if number not in there]
    assert [cid for cid in transport.sent if cid in wanted] == wanted
    # At most one batch, in which no block was found, is sent although its blocks are stored.
    assert len(transport.sent) - len(wanted) <= 20
    assert count.sent_blocks == len(transport.sent)


def test_only_some_of_the_new_blocks_are_looked_up():
    transport = Asked()
    upload(transport, BLOCKS)
    assert len(transport.asked) < 20 + 180 / 6


def test_every_block_is_sent_after_a_failed_lookup(caplog):
    class CannotTell(Asked):
        def lacking(self, blocks):
            super().lacking(blocks)
            raise TransportError("block/stat is not allowed")

    transport = CannotTell()
    caplog.set_level(logging.INFO)
    count = upload(transport, BLOCKS)
    assert len(transport.sent) == 200
    assert len(transport.asked) == 20
    assert count.sent_bytes == 60_000
    assert "block/stat is not allowed" in caplog.text


class Full(MemoryTransport):
    """Has space for three batches."""

    concurrency = 1

    def put_blocks(self, blocks):
        if len(self.put_bytes) == 3:
            raise TransportError("memory: no space left", retryable=False, final=True)
        super().put_blocks(blocks)


def test_the_error_of_an_upload_states_the_stored_bytes_and_advice():
    with pytest.raises(TransportError) as caught:
        upload(Full(), BLOCKS)
    assert str(caught.value) == (
        "memory: no space left. 18.0 kB of the 30.0 kB made so far are stored, nothing is published: run "
        "the export again, which sends only what is missing then"
    )
    assert caught.value.final


def test_the_error_states_that_nothing_is_kept_if_the_store_keeps_no_blocks():
    class FullFile(Full):
        keeps_blocks = False

    with pytest.raises(TransportError) as caught:
        upload(FullFile(), BLOCKS)
    assert str(caught.value) == (
        "memory: no space left. Nothing is published, and nothing of the 30.0 kB made so far is kept: "
        "run the export again, which begins anew"
    )


def test_a_retryable_error_with_nothing_stored_contains_advice():
    class Gone(MemoryTransport):
        def put_blocks(self, blocks):
            raise TransportError("memory: reset by peer", retryable=True)

    with pytest.raises(
        TransportError, match=r"peer\. 0 B of the .* run the export again"
    ) as caught:
        upload(Gone(), BLOCKS)
    assert caught.value.retryable


def samples(count=40):
    return [bytes([number]) * (1 << 20) for number in range(count)]


class Forgetful(MemoryTransport):
    """Removes unpinned blocks before the first pins, as garbage collection does."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses

    def pin(self, cid, **how):
        if self.losses:
            self.losses -= 1
            for key in list(self.blocks)[::5]:
                del self.blocks[key]
            raise ObjectNotFoundError("memory: a block was not found locally")
        super().pin(cid, **how)


def run(transport, data, **more):
    return publish(TarShards(ExporterOptions()).export, iter(data), transport, PROFILE, **more)


def test_blocks_removed_before_pinning_are_sent_again(caplog):
    transport, count = Forgetful(1), UploadCount()
    root = run(transport, samples(), again=lambda: iter(samples()), count=count)
    assert transport.pinned == [root]
    expected = MemoryTransport()
    assert run(expected, samples()) == root
    assert transport.blocks == expected.blocks
    assert count.bytes == sum(map(len, expected.blocks.values()))
    assert 0 < count.sent_bytes < count.bytes / 2
    assert "removed while" in caplog.text


@pytest.mark.parametrize("again", [None, lambda: iter(samples())])
def test_repeated_removal_of_blocks_is_an_error_and_nothing_is_pinned(again):
    transport = Forgetful(99)
    with pytest.raises(
        ObjectNotFoundError, match=r"not found locally\. Blocks were removed.*again"
    ):
        run(transport, samples(), again=again)
    assert transport.pinned == []


def test_log_bar_and_attribute_state_the_bytes_already_stored(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    exporter = IPFSDatasetExporter(tmp_path / "store", progress=True)
    cid = exporter.export_to_ipfs(samples(6))
    assert str(exporter.uploaded) == "6.3 MB"
    assert exporter.export_to_ipfs(samples(6)) == cid
    assert str(exporter.uploaded) == "6.3 MB, 6.3 MB already there"
    assert exporter.uploaded.sent_bytes == 0
    assert f"Published {cid} to store" in caplog.text
    assert "6.3 MB, 6.3 MB already there" in caplog.text
    assert "6/6" in capsys.readouterr().err
    assert pickle.loads(pickle.dumps(exporter)).export_to_ipfs(samples(6)) == cid


def test_the_progress_bar_shows_the_uploaded_bytes(capsys):
    from ipfs_dataset_core.publishing.dataset_samples import samples_of

    assert list(
        samples_of([1], progress=True, status=lambda: "57.4 MB, 54.1 MB already there")
    ) == [1]
    assert "54.1 MB already there" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["store", "a.car"])
def test_a_full_disk_is_a_typed_error_and_a_rerun_continues(tmp_path, monkeypatch, name):
    exporter = IPFSDatasetExporter(tmp_path / name)
    left = 10 << 20
    really_write = os.write

    def write(descriptor, data):
        nonlocal left
        left -= len(data)
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(descriptor, data)

    class Full:
        """Replaces the file of a `.car`, which writes several pieces at once."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, attribute):
            return getattr(self.file, attribute)

        def writelines(self, pieces):
            write(os.open(os.devnull, os.O_WRONLY), b"".join(pieces))

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        opened = store.CarWriter._open
        full.setattr(store.CarWriter, "_open", lambda writer: Full(opened(writer)))
        with pytest.raises(TransportError, match=r"No space left.*Free some space"):
            exporter.export_to_ipfs(samples(20))
    assert not (tmp_path / "a.car").exists()
    assert list((tmp_path / "store" / "pins").glob("*")) == []
    cid = exporter.export_to_ipfs(samples(20))
    if name == "store":
        assert exporter.uploaded.present_bytes > 5 << 20
    assert list(exporter.import_from_ipfs(cid)) == samples(20)
    assert list(tmp_path.rglob("*.part")) == []


class Hanging(MemoryTransport):
    """Stores the first batch; later calls block until they are released, whatever the deadline."""

    def __init__(self, concurrency):
        super().__init__()
        self.concurrency = concurrency
        self.released = threading.Event()

    def put_blocks(self, blocks):
        if self.blocks:
            self.released.wait(60)
        super().put_blocks(blocks)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_upload_to_a_store_that_hangs_ends_by_the_deadline(monkeypatch, concurrency):
    monkeypatch.setattr("ipfs_dataset_core.publishing.upload.GRACE_SECONDS", 0.1)
    transport = Hanging(concurrency)
    words = r"within deadline=0\.2 seconds: .*[0-9]\.0 kB of the .* run the export again"
    try:
        with pytest.raises(TransportTimeoutError, match=words) as caught:
            upload(transport, BLOCKS, deadline=0.2)
        assert str(caught.value).startswith("memory: a batch of blocks")
        assert not transport.released.is_set()
    finally:
        transport.released.set()


def test_closing_an_upload_does_not_wait_for_a_batch_that_hangs(monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.publishing.upload.GRACE_SECONDS", 0.1)
    transport = Hanging(2)
    try:
        sending = BlockUpload(transport, 6000, deadline=0.2)
        for cid, block in BLOCKS[:40]:
            sending.emit(cid, block)
        sending.close()
        assert not transport.released.is_set()
    finally:
        transport.released.set()


def test_a_batch_is_stored_if_no_thread_can_be_started(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    transport = MemoryTransport()
    upload(transport, BLOCKS)
    assert transport.blocks == {cid.multihash: block for cid, block in BLOCKS}


def test_advice_follows_one_full_stop():
    for text in ("it is full", "it is full."):
        error = with_advice(TransportError(text, retryable=True), "Free some space")
        assert (str(error), error.retryable) == ("it is full. Free some space", True)
