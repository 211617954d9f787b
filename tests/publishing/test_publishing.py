"""Blocks are sent in batches, files are built while they are written, and memory does not grow."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from ipfs_dataset_core.errors import ExportError, TransportError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import CID, RAW, get_profile, make_cid
from ipfs_dataset_core.publishing.dataset_samples import samples_of
from ipfs_dataset_core.publishing.publish import TreeSink, publish
from ipfs_dataset_core.publishing.upload import BlockUpload
from ipfs_dataset_core.runtime.deadlines import time_left
from ipfs_dataset_core.testing import MemoryTransport
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from tests.support.threads_left import upload_threads

PROFILE = get_profile("unixfs-v1-2025")


def test_the_progress_bar_is_shown_on_request_and_not_in_a_pipe(capsys):
    assert list(samples_of([1, 2], progress=None)) == [1, 2]
    assert capsys.readouterr() == ("", "")
    list(samples_of([1, 2], progress=True))
    assert "2/2" in capsys.readouterr().err


def test_blocks_are_sent_in_bounded_batches_while_the_dataset_is_read():
    transport = MemoryTransport()
    seen = []

    def samples():
        for i in range(60):
            seen.append(len(transport.blocks))
            yield bytes([i]) * (1 << 20)

    root = publish(TarShards(ExporterOptions()).export, samples(), transport, PROFILE)
    assert transport.pinned == [root]
    assert max(transport.put_bytes) <= 17 << 20
    assert seen[40] >= 16


class Refusing(MemoryTransport):
    def put_blocks(self, blocks):
        raise TransportError("the disk is full")


def test_a_transport_that_fails_ends_the_export_early_with_its_error():
    taken = []

    def samples():
        for i in range(100):
            taken.append(i)
            yield bytes([i]) * (1 << 20)

    transport = Refusing()
    with pytest.raises(TransportError, match="disk is full"):
        publish(TarShards(ExporterOptions()).export, samples(), transport, PROFILE)
    assert len(taken) < 50
    assert transport.pinned == []
    assert upload_threads() == []


def test_an_iterator_that_fails_ends_the_export_with_its_error():
    def samples():
        for i in range(40):
            yield bytes([i]) * (1 << 20)
        raise OSError("the dataset's disk is gone")

    transport = MemoryTransport()
    with pytest.raises(OSError, match="disk is gone"):
        publish(TarShards(ExporterOptions()).export, samples(), transport, PROFILE)
    assert transport.pinned == []
    assert upload_threads() == []


def test_pieces_are_written_at_once_and_not_to_a_closed_file():
    blocks: dict[CID, bytes] = {}
    file = TreeSink(PROFILE, blocks.__setitem__).create("a")
    file.writelines([b"four", bytearray(b"five"), memoryview(b"six")])
    assert file.tell() == 11
    file.close()
    assert list(blocks.values()) == [b"fourfivesix"]
    with pytest.raises(ValueError, match="closed"):
        file.writelines([b""])


class Meeting(MemoryTransport):
    """Stores batches once `at_once` threads have one at the same time."""

    def __init__(self, concurrency, at_once):
        super().__init__()
        self.concurrency = concurrency
        self.barrier = threading.Barrier(at_once, timeout=30)
        self.order = []

    def put_blocks(self, blocks):
        self.order += [cid for cid, _ in blocks]
        self.barrier.wait()
        super().put_blocks(blocks)


@pytest.mark.parametrize(("concurrency", "at_once"), [(1, 1), (2, 2), (8, 2)])
def test_two_batches_are_sent_at_once_if_the_transport_allows_it(concurrency, at_once):
    transport = Meeting(concurrency, at_once)
    blocks = {make_cid(data, RAW): data for data in (bytes([i]) * 100 for i in range(12))}
    with closing(BlockUpload(transport, batch_bytes=200)) as upload:
        _send_all(upload, blocks.items())
    assert transport.blocks.keys() == {cid.multihash for cid in blocks}
    if at_once == 1:
        assert transport.order == list(blocks)


class LastRefusing(MemoryTransport):
    """Stores every batch except the one that contains a given block."""

    def __init__(self, cid):
        super().__init__()
        self.refused = cid

    def put_blocks(self, blocks):
        if self.refused in dict(blocks):
            raise TransportError("the disk is full")
        super().put_blocks(blocks)


@pytest.mark.parametrize("number", range(6))
def test_the_failure_of_any_batch_is_raised(number):
    blocks = [(make_cid(data, RAW), data) for data in (bytes([i]) * 100 for i in range(6))]
    with closing(BlockUpload(LastRefusing(blocks[number][0]), batch_bytes=100)) as upload:
        with pytest.raises(TransportError, match="disk is full"):
            _send_all(upload, blocks)
    assert upload_threads() == []


class Failing(MemoryTransport):
    """Raises a retryable error, and records the time that was left."""

    def __init__(self):
        super().__init__()
        self.left = []

    def put_blocks(self, blocks):
        self.left.append(time_left())
        raise TransportError("busy", retryable=True)


def test_all_attempts_of_a_batch_share_one_deadline():
    transport = Failing()
    block = b"a" * 100
    with closing(BlockUpload(transport, batch_bytes=100, retries=1000, deadline=1.0)) as upload:
        with pytest.raises(TransportError, match="busy"):
            _send_all(upload, [(make_cid(block, RAW), block)])
    assert 0 < len(transport.left) < 100
    assert all(0 < left <= 1 for left in transport.left)


def _send_all(upload, blocks):
    for cid, block in blocks:
        upload.emit(cid, block)
    upload.finish()


def test_closing_an_upload_drops_unsent_blocks():
    transport = MemoryTransport()
    upload = BlockUpload(transport)
    upload.emit(CID.parse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"), b"")
    upload.close()
    assert transport.blocks == {}


def test_a_sink_allows_one_open_file_and_each_path_once():
    sink = TreeSink(PROFILE, lambda cid, block: None)
    file = sink.create("a")
    with pytest.raises(ExportError, match="'a' is still open"):
        sink.create("b")
    with pytest.raises(ExportError, match="never closed"):
        sink.finish()
    with pytest.raises(ExportError, match="not closed yet"):
        sink.cid_of("a")
    assert file.write(b"four") == 4
    assert (file.tell(), file.writable()) == (4, True)
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"")
    with pytest.raises(ExportError, match="written already"):
        sink.create("a")
    assert str(sink.cid_of("a")).startswith("bafkrei")


FLAT = """
from tests.support.peak import peak_kib
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.interfaces import ExporterOptions, Transport
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
import torch

class Nowhere(Transport):
    name = "nowhere"
    def get_block(self, cid): raise NotImplementedError
    def put_blocks(self, blocks): pass
    def pin(self, cid): pass

def samples(count):
    for i in range(count):
        yield torch.full((256, 1024), i, dtype=torch.float32), i

def run(count):
    publish(TarShards(ExporterOptions()).export, samples(count), Nowhere(), get_profile("unixfs-v1-2025"))
    return peak_kib()

before = run(2)
print((run(300) - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
def test_the_memory_of_an_export_does_not_grow_with_its_size():
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{FLAT}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    assert int(done.stdout) < 100


def test_the_garbage_collector_does_not_publish_a_file_that_was_never_closed():
    blocks: dict[CID, bytes] = {}
    file = TreeSink(PROFILE, blocks.__setitem__).create("a")
    file.write(b"cut off")
    cycle: list[object] = [file]
    cycle.append(cycle)
    del file, cycle
    gc.collect()
    assert blocks == {}
