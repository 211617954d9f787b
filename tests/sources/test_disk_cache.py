import errno
import logging
import os
import threading
import time
import warnings
from functools import partial

import attrs
import pytest

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject
from ipfs_dataset_core.errors import IPFSDatasetWarning
from ipfs_dataset_core.ipld import RAW, get_profile, make_cid
from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.runtime.pool import DaemonPool
from ipfs_dataset_core.sources import disk_cache
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.toolkit.block_files import BlockFiles
from ipfs_dataset_core.toolkit.data_folders import BLOCKS, MARK
from ipfs_dataset_core.toolkit.index_cache import IndexKey
from ipfs_dataset_core.toolkit.shared_folder import Shelves
from ipfs_dataset_plugins.gateway.transport import GatewayTransport
from tests.support.builders import noise, one_file, zip_bytes
from tests.support.gateway_server import GatewayServer

KIB = 1024
PROFILE = attrs.evolve(get_profile("unixfs-v1-2025"), chunk_size=16 * KIB)
SECRET = IndexKey(bytes(32))


def block_of(number):
    block = noise(10 * KIB, number)
    return make_cid(block, RAW), block


def size_of(folder):
    return sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MARK
    )


def test_a_cached_block_is_found_by_another_job(tmp_path):
    cid, block = block_of(1)
    DiskCache(tmp_path, 1 << 20).put(cid, block)

    other = DiskCache(tmp_path, 1 << 20)

    assert other.has(cid)
    assert other.get(cid) == block
    assert other.get(block_of(2)[0]) is None


@pytest.mark.parametrize("damage", [lambda b: b"x" + b[1:], lambda b: b[:-1], lambda _: b""])
def test_a_damaged_block_is_never_returned_and_makes_room_for_a_good_one(tmp_path, damage, caplog):
    cid, block = block_of(1)
    cache = DiskCache(tmp_path, 1 << 20)
    cache.put(cid, block)
    path = cache._files.path(cid)
    path.write_bytes(damage(block))

    assert cache.get(cid) is None
    assert "damaged" in caplog.text

    cache.put(cid, block)
    assert cache.get(cid) == block


def test_the_folder_stays_within_its_size_and_the_least_recently_used_go_first(tmp_path):
    cache = DiskCache(tmp_path, 200 * KIB)
    kept, block = block_of(0)
    cache.put(kept, block)
    old = time.time() - 10_000
    for number in range(1, 100):
        cid, data = block_of(number)
        cache.put(cid, data)
        path = cache._files.path(cid)
        if path.exists():
            os.utime(path, (old + number, old + number))
        assert cache.get(kept) == block, f"used all the time, gone after {number} others"

    assert 50 * KIB < size_of(tmp_path) <= 220 * KIB


def test_the_size_holds_for_a_folder_that_another_job_filled(tmp_path):
    large = DiskCache(tmp_path, 1 << 20)
    for number in range(50):
        large.put(*block_of(number))
    assert size_of(tmp_path) == 500 * KIB

    small = DiskCache(tmp_path, 100 * KIB)
    small.put(*block_of(100))

    assert size_of(tmp_path) <= 100 * KIB


def test_a_block_larger_than_the_cache_is_not_kept(tmp_path):
    cid, block = block_of(1)
    cache = DiskCache(tmp_path, KIB)
    cache.put(cid, block)
    assert cache.get(cid) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_failing_disk_is_a_warning_and_pauses_writing(tmp_path, monkeypatch, caplog, number):
    calls = []

    def refuse(*_, **__):
        calls.append(1)
        raise OSError(number, os.strerror(number))

    cache = DiskCache(tmp_path, 1 << 20)
    cache.put(*block_of(99))
    monkeypatch.setattr("ipfs_dataset_core.toolkit.shared_folder.os.replace", refuse)
    with caplog.at_level(logging.WARNING):
        for at in range(5):
            cache.put(*block_of(at))

    assert len(calls) == 1
    assert "reading continues without it" in caplog.text

    monkeypatch.undo()
    cache._paused_until = 0.0
    cid, block = block_of(7)
    cache.put(cid, block)
    # As an error, the warning does not disturb reading: only `close` raises it.
    assert cache.get(cid) == block
    with pytest.raises(IPFSDatasetWarning, match=r"reading continues without it.*give cache_dir="):
        cache.close()


def test_a_warning_of_the_cache_is_shown_once(tmp_path):
    (tmp_path / "file").touch()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        cache = DiskCache(tmp_path / "file", 1 << 20)
        cache.put(*block_of(1))
        cache.get(block_of(1)[0])
        cache.close()
        DiskCache(tmp_path / "file", 1 << 20).close()  # of another dataset in this process
    assert [warning.category for warning in shown] == [IPFSDatasetWarning]


def test_a_failure_in_a_thread_of_the_library_is_shown_at_the_next_line_of_the_user(tmp_path):
    cache = DiskCache(tmp_path, 1 << 20)
    cid, block = block_of(1)
    cache.put(cid, block)
    (tmp_path / BLOCKS).rename(tmp_path / "moved")
    (tmp_path / BLOCKS).touch()  # where a directory belongs
    pool, ended = DaemonPool(1, "reader"), threading.Event()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        # No function of this file runs in the thread.
        pool.submit(partial(cache.put, *block_of(2)))
        pool.submit(partial(cache.get, cid))  # type: ignore[arg-type]
        pool.submit(ended.set)
        assert ended.wait(60)
        assert cache.failure is not None
        assert shown == []
        cache.get(cid)
        cache.close()
    pool.close()
    assert [warning.filename for warning in shown] == [__file__]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no permissions as on POSIX systems")
def test_a_folder_that_cannot_be_created_is_a_warning_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.warns(IPFSDatasetWarning, match="it is a file|Not a directory"):
        DiskCache(tmp_path / "file" / "cache", 1 << 20).close()
    # Permissions do not stop root, who may run these tests.
    monkeypatch.setattr("ipfs_dataset_core.toolkit.data_folders.os.access", lambda *_: False)
    with pytest.warns(IPFSDatasetWarning, match="cannot be written .*Permission denied.*new"):
        DiskCache(tmp_path / "new" / "cache", 1 << 20).close()
    assert not (tmp_path / "new").exists()


def test_evicting_blocks_of_the_same_job_is_a_failure(tmp_path):
    cache = DiskCache(tmp_path, 100_000)
    cache.put(*block_of(1))
    assert cache.failure is None
    for number in range(20):
        cache.put(*block_of(number))
    assert "it keeps at most 100.0 kB" in str(cache.failure)
    cache.close()


def test_evicting_blocks_that_the_job_has_read_is_a_failure(tmp_path):
    DiskCache(tmp_path, 100_000).put(*block_of(1))
    cache = DiskCache(tmp_path, 100_000)
    assert cache.get(block_of(1)[0]) is not None
    for number in range(2, 10):
        cache.put(*block_of(number))
    assert not cache.has(block_of(1)[0])
    assert "it keeps at most" in str(cache.failure)


@pytest.mark.parametrize("ahead", [-3600, 0, 3600])
def test_blocks_of_earlier_jobs_may_be_evicted_with_any_clock_of_the_disk(
    tmp_path, monkeypatch, ahead
):
    """The times of files on a remote disk are those of its server."""
    earlier = DiskCache(tmp_path, 1 << 20)
    for number in range(9):
        earlier.put(*block_of(number))
        path = earlier._files.path(block_of(number)[0])
        os.utime(path, (time.time() - 1000,) * 2)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - ahead)
    cache = DiskCache(tmp_path, 100_000)
    cache.put(*block_of(20))
    assert not all(earlier.has(block_of(number)[0]) for number in range(9))
    assert cache.failure is None
    for number in range(30, 50):
        cache.put(*block_of(number))
    assert "it keeps at most" in str(cache.failure)


def test_any_number_of_threads_use_one_cache(tmp_path):
    cache = DiskCache(tmp_path, 150 * KIB)
    wrong = []

    def work(seed):
        for turn in range(60):
            cid, block = block_of((turn * 7 + seed) % 40)
            found = cache.get(cid)
            if found is None:
                cache.put(cid, block)
            elif found != block:
                wrong.append(cid)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert size_of(tmp_path) <= 150 * KIB * (1 + 2 * disk_cache._SLACK)


def index_of(number: int) -> tuple[str, str, IndexKey]:
    """Returns the arguments that name an index."""
    cid = str(make_cid(b"%d" % number, RAW))
    return cid, f"{cid} of a test", SECRET


def test_indexes_are_kept_beside_the_blocks_and_count_with_them(tmp_path):
    cache = DiskCache(tmp_path, 200 * KIB)
    for number in range(30):
        cache.put_index_soon(*index_of(number), noise(30 * KIB, number))
        cache.put_soon(*block_of(number))
        cache.close()
        cache = DiskCache(tmp_path, 200 * KIB)
    assert size_of(tmp_path) <= 200 * KIB
    assert cache.get_index(*index_of(0)) is None
    assert cache.get_index(*index_of(29)) == noise(30 * KIB, 29)
    assert cache.get_index(*index_of(99)) is None


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_an_index_that_cannot_be_read_is_a_warning(tmp_path, caplog):
    cache = DiskCache(tmp_path, 1 << 20)
    cache.put_index_soon(*index_of(1), b"data")
    cache.close()
    [path] = [path for path in (tmp_path / "indexes").rglob("*") if path.is_file()]
    path.unlink()
    path.mkdir()
    cache = DiskCache(tmp_path, 1 << 20)
    assert cache.get_index(*index_of(1)) is None
    cache.put_index_soon(*index_of(1), b"data")
    cache.put_index_soon(*index_of(2), b"others")
    cache.close()
    assert "Cannot read index" in caplog.text
    assert "Cannot write to the cache" in caplog.text
    assert cache.get_index(*index_of(2)) == b"others", "the rest is not affected"


def test_an_index_larger_than_the_cache_is_not_kept(tmp_path):
    cache = DiskCache(tmp_path, 100)
    cache.put_index_soon(*index_of(1), bytes(101))
    cache.close()
    assert cache.get_index(*index_of(1)) is None


class SlowWriter:
    """Lets no block be written before it is released."""

    def __init__(self, cache, monkeypatch):
        self.release = threading.Event()
        self.threads: set[str] = set()
        write = cache._files.write

        def slow(cid, block):
            self.threads.add(threading.current_thread().name)
            assert self.release.wait(20)
            return write(cid, block)

        monkeypatch.setattr(cache._files, "write", slow)


def test_closing_waits_for_pending_writes(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path, 1 << 20)
    slow = SlowWriter(cache, monkeypatch)
    for number in range(10):
        cache.put_soon(*block_of(number))
    closing = threading.Thread(target=cache.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    slow.release.set()
    closing.join(20)
    assert not closing.is_alive()
    assert [cache.get(block_of(number)[0]) for number in range(10)] == [
        block_of(number)[1] for number in range(10)
    ]
    assert slow.threads == {"ipfs-dataset-cache-1"}


def test_where_writing_lags_behind_the_reader_writes_itself_and_nothing_is_lost(
    tmp_path, monkeypatch
):
    cache = DiskCache(tmp_path, 1 << 30)
    slow = SlowWriter(cache, monkeypatch)
    numbers = range(disk_cache._BACKLOG + 5)

    def put():
        for number in numbers:
            cache.put_soon(*block_of(number))

    reader = threading.Thread(target=put, name="reader")
    reader.start()
    reader.join(0.3)
    assert reader.is_alive(), "no more than the backlog waits in memory"
    slow.release.set()
    reader.join(20)
    cache.close()
    assert "ipfs-dataset-disk-1" in slow.threads
    assert all(cache.has(block_of(number)[0]) for number in numbers)


def test_blocks_put_after_closing_are_written_at_once(tmp_path):
    cache = DiskCache(tmp_path, 1 << 20)
    cache.close()
    cid, block = block_of(1)
    cache.put_soon(cid, block)
    assert cache.get(cid) == block
    cache.close()


def test_closing_ends_where_the_disk_does_not_answer(tmp_path, monkeypatch, caplog):
    cache = DiskCache(tmp_path, 1 << 20)
    slow = SlowWriter(cache, monkeypatch)
    for number in range(10):
        cache.put_soon(*block_of(number))
    with pytest.warns(IPFSDatasetWarning, match="10 blocks and indexes are not stored"):
        cache.close(0.05)
    assert not slow.release.is_set()
    assert "10 blocks and indexes are not stored" in caplog.text
    assert cache.get(block_of(0)[0]) is None
    slow.release.set()


def test_closing_waits_on_where_the_disk_is_only_slow(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path, 1 << 20)
    write = cache._files.write

    def slowly(cid, block):
        time.sleep(0.1)
        return write(cid, block)

    monkeypatch.setattr(cache._files, "write", slowly)
    for number in range(10):
        cache.put_soon(*block_of(number))
    cache.close(0.4)
    assert all(cache.has(block_of(number)[0]) for number in range(10))


class HangingDisk:
    """Lets no block be opened before it is released, as a mount whose server is gone."""

    def __init__(self, monkeypatch):
        self.release = threading.Event()
        open_block = BlockFiles.open

        def opened(files, cid):
            assert self.release.wait(60)
            return open_block(files, cid)

        monkeypatch.setattr(BlockFiles, "open", opened)


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_a_disk_that_hangs_is_not_used_until_it_answers(tmp_path, monkeypatch, caplog):
    cid, block = block_of(1)
    cache = DiskCache(tmp_path, 1 << 20, seconds=0.2)
    cache.put(cid, block)
    disk = HangingDisk(monkeypatch)
    assert cache.get(cid) is None
    assert f"The cache {tmp_path} has not answered for 0.2 s: it is not used until it does" in (
        caplog.text
    )
    caplog.clear()
    assert not cache.has(cid)
    assert cache.get(cid) is None
    assert not caplog.text, "one warning is enough"
    disk.release.set()
    end = time.monotonic() + 20
    while cache.get(cid) is None:
        assert time.monotonic() < end
    assert cache.has(cid)
    assert "answers again" in caplog.text


def test_no_read_waits_for_a_disk_that_hangs_longer_than_half_of_its_time(tmp_path, monkeypatch):
    cid, block = block_of(1)
    cache = DiskCache(tmp_path, 1 << 20)
    cache.put(cid, block)
    disk = HangingDisk(monkeypatch)
    with until(time.monotonic() + 1):
        assert cache.get(cid) is None
        assert time_left() > 0
    disk.release.set()


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_writing_to_a_hanging_disk_does_not_block_readers(tmp_path, monkeypatch, caplog):
    cache = DiskCache(tmp_path, 1 << 30, seconds=0.2)
    slow = SlowWriter(cache, monkeypatch)
    numbers = range(disk_cache._BACKLOG + 5)
    for number in numbers:
        cache.put_soon(*block_of(number))
    assert not slow.release.is_set()
    assert "has not answered" in caplog.text
    assert cache.failure is not None
    cache.close(0.2)
    slow.release.set()


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_a_dataset_is_read_whose_cache_is_on_a_disk_that_hangs(tmp_path, monkeypatch, kind):
    members = {f"{number:03}": noise(5000, number) for number in range(200)}
    root, blocks = one_file(zip_bytes(members), PROFILE)
    found: list[object] = []

    def read():
        dataset = kind(
            IPFSObject(str(root), "zip"), gateways=server.url, cache_dir=tmp_path, timeout=1
        )
        found.append(dict(dataset))

    with GatewayServer(blocks) as server:
        read()
        disk = HangingDisk(monkeypatch)
        again = threading.Thread(target=read, daemon=True)
        again.start()
        again.join(60)
        disk.release.set()
    assert found == [members, members]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("late", [False, True], ids=["opening", "closing"])
def test_a_warning_that_is_an_error_leaves_no_connection_open(tmp_path, monkeypatch, late):
    members = {f"{number:03}": noise(5000, number) for number in range(20)}
    root, blocks = one_file(zip_bytes(members), PROFILE)
    if not late:
        (tmp_path / "cache").touch()  # a file, so it cannot be used
    closed = []
    close = GatewayTransport.close

    def closing(transport):
        close(transport)
        closed.append(transport)

    monkeypatch.setattr(GatewayTransport, "close", closing)
    with GatewayServer(blocks) as server:
        dataset = IPFSDataset(f"ipfs://{root}", gateways=server.url, cache_dir=tmp_path / "cache")
        if late:
            monkeypatch.setattr(Shelves, "write", full_disk)
            assert dict(dataset) == members
        with pytest.raises(IPFSDatasetWarning, match="reading continues without it"):
            dataset.close() if late else len(dataset)
    assert len(closed) == 1
