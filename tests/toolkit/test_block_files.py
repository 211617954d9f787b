import errno
import multiprocessing
import os
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import LimitError
from ipfs_dataset_core.ipld import CID, DAG_PB, RAW, make_cid
from ipfs_dataset_core.toolkit import shared_folder
from ipfs_dataset_core.toolkit.block_files import BlockFiles, is_block_name
from tests.support.builders import noise

BLOCK = noise(100_000)
NAME = make_cid(BLOCK, RAW)


@pytest.fixture
def files(tmp_path):
    return BlockFiles(tmp_path / "blocks")


def test_a_block_that_was_written_is_read_back(files):
    assert files.read(NAME) is None
    assert not files.has(NAME)

    assert files.write(NAME, BLOCK)

    assert files.has(NAME)
    assert files.read(NAME) == BLOCK


def test_one_block_has_one_file_whatever_the_version_and_codec_of_its_cid(files):
    files.write(make_cid(BLOCK, DAG_PB, version=0), BLOCK)

    assert files.read(CID(1, RAW, NAME.multihash)) == BLOCK
    assert len(list(files.entries())) == 1


def test_writing_an_intact_block_again_does_nothing_and_a_damaged_one_is_healed(files):
    files.write(NAME, BLOCK)
    assert not files.write(NAME, BLOCK)

    files.path(NAME).write_bytes(b"x" + BLOCK[1:])
    assert files.write(NAME, BLOCK)

    assert files.read(NAME) == BLOCK


def test_removing_a_block_that_is_not_there_is_no_error(files):
    files.remove(NAME)
    files.write(NAME, BLOCK)
    files.remove(NAME)
    assert not files.has(NAME)


def test_listing_passes_over_what_is_being_written_and_clears_away_what_was_abandoned(files):
    files.write(NAME, BLOCK)
    shelf = files.path(NAME).parent
    now, old, others = ".tmp-0123456789abcdef", ".tmp-0123456789abcde0", ".tmp-of somebody else"
    for name in (now, old, others):
        (shelf / name).write_bytes(b"half")
        os.utime(shelf / name, (time.time() - 7200, time.time() - 7200 * (name != now)))

    assert [entry.name for entry in files.entries()] == [files.path(NAME).name]
    assert sorted(path.name for path in shelf.iterdir()) == [now, others, files.path(NAME).name]


def test_what_was_abandoned_is_cleared_away_by_the_next_who_writes(files):
    files.write(NAME, BLOCK)
    shelf = files.path(NAME).parent
    old = shelf / ".tmp-0123456789abcdef"
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    files.path(NAME).unlink()

    BlockFiles(files.folder).write(NAME, BLOCK)

    assert [path.name for path in shelf.iterdir()] == [files.path(NAME).name]


def test_only_names_that_a_block_can_have_are_taken_for_blocks(files):
    files.write(NAME, BLOCK)
    path = files.path(NAME)
    name, shelf = path.name, path.parent
    for other in (
        name.upper(),
        name + "\n",
        "x" + name[1:],
        name[:-4] + name[-2:],
        "bafk" + name[-2:],
    ):
        (shelf / other).write_bytes(b"somebody's")
    wrong = files.folder / "zz"
    wrong.mkdir()
    (wrong / name).write_bytes(b"on another shelf")

    ours = [entry.name for entry in files.entries() if is_block_name(entry.name)]

    assert ours == [name]


@given(st.integers(0, 3).map(lambda n: [RAW, DAG_PB][n % 2]), st.binary(max_size=64))
def test_every_block_has_a_name_of_our_form(codec, block):
    cid = make_cid(block, codec)
    name = BlockFiles(Path("blocks")).path(cid).name
    assert is_block_name(name)


@given(st.text(max_size=80) | st.from_regex(r"bafk[a-z2-7]{4,80}\n?", fullmatch=True))
def test_a_name_of_our_form_is_that_of_one_block(name):
    if is_block_name(name):
        assert BlockFiles(Path("blocks")).path(CID.parse(name)).name == name


def test_a_file_longer_than_a_block_may_be_is_not_read(files):
    files.write(NAME, BLOCK)
    os.truncate(files.path(NAME), 1 << 40)
    with pytest.raises(LimitError, match=str(1 << 40)):
        files.read(NAME)
    assert files.write(NAME, BLOCK)
    assert files.read(NAME) == BLOCK


def _write_for_ever(folder, ready):
    files = BlockFiles(folder)
    number = 0
    while True:
        block = number.to_bytes(8, "big") * 20_000
        files.write(make_cid(block, RAW), block)
        number += 1
        if number == 3:
            ready.set()


def test_a_writer_killed_in_the_middle_leaves_no_wrong_block(tmp_path):
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        ready = context.Event()
        writer = context.Process(target=_write_for_ever, args=(tmp_path / "blocks", ready))
        writer.start()
        assert ready.wait(60)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        writer.close()

    found = list(BlockFiles(tmp_path / "blocks").entries())
    assert len(found) >= 3
    for entry in found:
        block = (tmp_path / "blocks" / entry.name[-2:] / entry.name).read_bytes()
        assert CID.parse(entry.name) == make_cid(block, RAW)


def test_many_blocks_are_written_with_their_folder_opened_once(files, monkeypatch):
    opened = []
    open_directory = shared_folder._open_directory

    def noting(path, name, parent):
        opened.append(os.path.relpath(path, files.folder.parent))
        return open_directory(path, name, parent)

    monkeypatch.setattr(shared_folder, "_open_directory", noting)
    blocks = {make_cid(block, RAW): block for block in (b"%d" % n for n in range(20))}
    files.write(NAME, BLOCK)
    opened.clear()

    with files.opened() as write:
        assert [write(cid, block) for cid, block in blocks.items()] == [True] * 20
        assert not write(NAME, BLOCK)

    assert opened.count("blocks") == opened.count(".") == 1
    assert all(files.read(cid) == block for cid, block in blocks.items())


def test_sync_waits_for_each_directory_that_was_written_to_and_for_the_one_above(
    files, monkeypatch
):
    synced = []
    fsync = os.fsync

    def noting(descriptor):
        status = os.fstat(descriptor)
        synced.append((status.st_dev, status.st_ino))
        fsync(descriptor)

    blocks = [b"%d" % n for n in range(20)]
    for block in blocks:
        files.write(make_cid(block, RAW), block)
    monkeypatch.setattr(os, "fsync", noting)
    files.sync()

    directories = [files.folder, *{files.path(make_cid(block, RAW)).parent for block in blocks}]
    assert sorted(synced) == sorted((d.stat().st_dev, d.stat().st_ino) for d in directories)
    assert synced[-1] == (files.folder.stat().st_dev, files.folder.stat().st_ino)

    files.sync()
    assert len(synced) == len(directories)


def test_sync_reports_a_directory_that_is_gone(files):
    files.write(NAME, BLOCK)
    files.path(NAME).unlink()
    files.path(NAME).parent.rmdir()

    with pytest.raises(FileNotFoundError):
        files.sync()


def test_a_disk_that_refuses_to_keep_names_is_an_error_until_it_does(files, monkeypatch):
    answers, synced = [errno.EIO, errno.EINVAL], []
    fsync = os.fsync

    def refusing(descriptor):
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            fsync(descriptor)
        elif answers:
            number = answers.pop(0)
            raise OSError(number, os.strerror(number))
        else:
            synced.append(os.fstat(descriptor).st_ino)

    files.write(NAME, BLOCK)
    monkeypatch.setattr(os, "fsync", refusing)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.sync()
    # The second answer is that of a file system that cannot do so for a directory by itself.
    files.sync()
    assert synced == [files.folder.stat().st_ino]
    assert not answers
    files.sync()
    assert len(synced) == 1, "there is nothing new"
    files.write(make_cid(b"another", RAW), b"another")
    files.sync()
    shelf = files.path(make_cid(b"another", RAW)).parent
    assert synced[1:] == [shelf.stat().st_ino, files.folder.stat().st_ino]


def test_no_name_is_missed_by_a_sync_while_others_write(files, monkeypatch):
    names = {make_cid(data, RAW): data for data in (b"%d" % number for number in range(300))}
    synced = set()
    sync = shared_folder.Directory.sync

    def seen(directory):
        synced.add(directory.path)
        sync(directory)

    monkeypatch.setattr(shared_folder.Directory, "sync", seen)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(files.write, cid, data) for cid, data in names.items()]
        while not all(write.done() for write in writes):
            files.sync()
    files.sync()
    assert {str(files.path(cid).parent) for cid in names} <= synced
