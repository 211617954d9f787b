import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from ipfs_dataset_core.ipld import CID, DAG_PB, RAW, make_cid
from ipfs_dataset_core.toolkit.block_files import BlockFiles, write_atomically
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


def test_a_failed_write_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"before")

    class NotBytes:
        """Nothing that a file takes."""

    with pytest.raises(TypeError):
        write_atomically(target, NotBytes())  # type: ignore[arg-type]

    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_listing_passes_over_what_is_being_written_and_clears_away_what_was_abandoned(files):
    files.write(NAME, BLOCK)
    shelf = files.path(NAME).parent
    (shelf / ".tmp-now").write_bytes(b"half")
    (shelf / ".tmp-old").write_bytes(b"half")
    os.utime(shelf / ".tmp-old", (time.time() - 7200, time.time() - 7200))

    assert [entry.name for entry in files.entries()] == [files.path(NAME).name]
    assert sorted(path.name for path in shelf.iterdir() if path.name.startswith(".tmp")) == [
        ".tmp-now"
    ]


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
        block = Path(entry.path).read_bytes()
        assert CID.parse(entry.name) == make_cid(block, RAW)
