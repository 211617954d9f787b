from __future__ import annotations

import errno
import gc
import io
import multiprocessing
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from ipfs_dataset_core import (
    CID,
    AddressError,
    FormatError,
    ObjectNotFoundError,
    Options,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.ipld import RAW, index_car, make_cid, read_car, verify
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.sources.failover import SourcePool
from ipfs_dataset_plugins.store import CarStore, CarWriter, FolderStore, open_store
from tests.support.builders import car_bytes, depth_first, noise, one_file, tree

DATA = noise(3 << 20)
ROOT, BLOCKS = one_file(DATA)
ALL = list(depth_first(ROOT, BLOCKS))
LEAF = ALL[-1][0]


@pytest.fixture
def folder(tmp_path):
    store = FolderStore(tmp_path / "store")
    store.put_blocks(ALL)
    return store


def read(*transports, cid=ROOT):
    fetcher = Fetcher(SourcePool(transports, Options(retries=0)), Options())
    try:
        return VerifiedFile(fetcher, cid, "object").read()
    finally:
        fetcher.close()


def block_file(folder, cid):
    return folder._files.path(cid)


def test_blocks_come_back_and_survive_the_process(folder, tmp_path):
    assert read(folder) == DATA
    assert read(open_store(str(tmp_path / "store"), Options())) == DATA
    assert read(open_store((tmp_path / "store").as_uri(), Options())) == DATA


def test_a_store_that_was_never_written_has_no_blocks(tmp_path):
    store = open_store(str(tmp_path / "new"), Options())
    with pytest.raises(ObjectNotFoundError, match=str(ROOT)):
        store.get_block(ROOT)
    assert not (tmp_path / "new").exists()


def test_what_is_neither_folder_nor_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AddressError, match="neither a folder nor"):
        open_store(str(tmp_path / "pipe"), Options())


def test_blocks_may_be_read_by_whom_the_umask_allows(folder):
    old = os.umask(0o022)
    os.umask(old)
    mode = stat.S_IMODE(block_file(folder, ROOT).stat().st_mode)
    assert mode == 0o666 & ~old


def test_a_damaged_block_is_noticed_and_another_source_takes_over_and_writing_heals(folder):
    path = block_file(folder, LEAF)
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:100] + b"\0" + whole[101:]):
        path.write_bytes(damaged)
        with pytest.raises(VerificationError, match=str(LEAF)):
            read(folder)
        assert read(folder, Honest()) == DATA
        folder.put_blocks([(LEAF, whole)])
        assert path.read_bytes() == whole
        assert read(folder) == DATA


class Honest(FolderStore):
    def __init__(self):
        super().__init__(Path("not/there"))
        self.name = "honest"

    def get_block(self, cid):
        return BLOCKS[cid.multihash]


def test_a_block_file_that_cannot_be_read_is_a_transport_error(folder):
    path = block_file(folder, LEAF)
    path.unlink()
    path.mkdir()
    with pytest.raises(TransportError, match="directory"):
        folder.get_block(LEAF)
    with pytest.raises(TransportError, match="cannot write"):
        folder.put_blocks([(LEAF, b"x")])


def test_a_block_that_cannot_be_written_is_named_among_many_and_no_writer_is_left(tmp_path):
    store = FolderStore(tmp_path / "store")
    bad, *others = [(make_cid(data, RAW), data) for data in (b"%d" % n for n in range(30))]
    block_file(store, bad[0]).mkdir(parents=True)
    with pytest.raises(TransportError, match=f"cannot write block {bad[0]}: .*directory"):
        store.put_blocks([*others, bad])
    assert {cid: store.get_block(cid) for cid, _ in others} == dict(others)
    assert not list((tmp_path / "store").glob("**/.tmp-*"))
    assert not [t for t in threading.enumerate() if t.name.startswith("ipfs-dataset-store")]


def test_pins_are_recorded_for_whole_dags_only(folder, tmp_path):
    folder.pin(ROOT)
    folder.pin(ROOT)
    assert [p.name for p in (tmp_path / "store" / "pins").iterdir()] == [str(ROOT)]
    for cid in (LEAF, ROOT):
        block_file(folder, cid).unlink()
        with pytest.raises(ObjectNotFoundError, match=f"lacks block {cid}"):
            folder.pin(ROOT)


def test_identity_cids_need_no_file_to_be_pinned(folder):
    folder.pin(CID.parse("bafkqaaa"))


def test_a_directory_with_repeated_files_is_pinned(tmp_path):
    root, blocks = tree({f"{n}.txt": b"same" for n in range(50)})
    store = FolderStore(tmp_path)
    store.put_blocks(depth_first(root, blocks))
    store.pin(root)


def write_all(path, offset):
    store = FolderStore(path)
    for turn in range(3):
        mixed = ALL[offset:] + ALL[:offset]
        store.put_blocks(mixed if turn else reversed(mixed))
    store.pin(ROOT)


def test_processes_write_the_same_blocks_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_all, args=(tmp_path / "s", n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert read(FolderStore(tmp_path / "s")) == DATA
    assert not [p for p in (tmp_path / "s").rglob(".tmp-*") if p.is_file()]


def write_forever(path):
    store = FolderStore(path)
    for number in range(1_000_000):
        block = b"%d " % number * 40_000
        store.put_blocks([(make_cid(block, RAW), block)])


def test_a_killed_writer_leaves_no_wrong_block(tmp_path):
    context = multiprocessing.get_context("fork")
    for pause in (0.05, 0.11, 0.17):
        writer = context.Process(target=write_forever, args=(tmp_path / "s",))
        writer.start()
        assert writer.pid is not None
        while not (tmp_path / "s").exists():
            time.sleep(0.01)
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    blocks = [p for p in (tmp_path / "s" / "blocks").rglob("*") if p.is_file() and p.name[0] != "."]
    assert blocks
    for path in blocks:
        verify(CID.parse(path.name), path.read_bytes())


def test_version_1_cars_are_read_in_place(tmp_path):
    path = tmp_path / "data.car"
    path.write_bytes(car_bytes(ROOT, BLOCKS))
    store = open_store(str(path), Options())
    assert not store.writable
    assert read(store) == DATA
    with pytest.raises(TransportError, match="closed"):
        store.get_block(ROOT)


def test_version_2_cars_are_read_in_place(tmp_path):
    inner = car_bytes(ROOT, BLOCKS)
    pragma = bytes.fromhex("0aa16776657273696f6e02")
    head = bytes(16) + (51).to_bytes(8, "little") + len(inner).to_bytes(8, "little") + bytes(8)
    (tmp_path / "v2.CAR").write_bytes(pragma + head + inner)
    assert read(open_store(str(tmp_path / "v2.CAR"), Options())) == DATA


def test_a_block_that_a_car_lacks_is_not_found(tmp_path):
    (tmp_path / "data.car").write_bytes(car_bytes(ROOT, BLOCKS))
    store = open_store(str(tmp_path / "data.car"), Options())
    with pytest.raises(ObjectNotFoundError, match="has no block"):
        store.get_block(make_cid(b"other", RAW))
    store.close()


@pytest.mark.parametrize(
    "data", [b"", b"junk" * 100, car_bytes(ROOT, BLOCKS)[:-1], b"\xff" * 30, b"\xff\xff\xff\x7f"]
)
def test_a_file_that_is_no_car_is_a_format_error_with_its_name(tmp_path, data):
    (tmp_path / "bad.car").write_bytes(data)
    with pytest.raises(FormatError, match=r"bad\.car"):
        open_store(str(tmp_path / "bad.car"), Options())


def test_a_car_that_is_damaged_inside_is_noticed_at_the_block(tmp_path):
    whole = bytearray(car_bytes(ROOT, BLOCKS))
    whole[-1] ^= 1
    (tmp_path / "data.car").write_bytes(whole)
    with pytest.raises(VerificationError, match=str(LEAF)):
        read(open_store(str(tmp_path / "data.car"), Options()))


def test_a_car_that_vanished_is_a_transport_error(tmp_path):
    with pytest.raises(TransportError, match=r"gone\.car"):
        CarStore(tmp_path / "gone.car")


def test_a_written_car_names_its_root_and_is_read_back(tmp_path):
    path = tmp_path / "new" / "out.car"
    writer = open_store(str(path), Options())
    assert isinstance(writer, CarWriter)
    for cid, block in reversed(ALL):
        writer.put_blocks([(cid, block), (cid, block)])
    assert not path.exists()
    writer.pin(ROOT)
    writer.close()
    assert [p.name for p in path.parent.iterdir()] == ["out.car"]
    with path.open("rb") as file:
        assert index_car(file).roots == [ROOT]
    assert list(read_car(io.BytesIO(path.read_bytes()))) == list(reversed(ALL))
    assert read(open_store(str(path), Options())) == DATA


def test_a_car_of_an_incomplete_dag_is_not_completed_and_leaves_nothing(tmp_path):
    writer = CarWriter(tmp_path / "out.car")
    writer.put_blocks(ALL[:-1])
    with pytest.raises(ObjectNotFoundError, match="1 of the blocks"):
        writer.pin(ROOT)
    with pytest.raises(ObjectNotFoundError):
        writer.pin(make_cid(b"other", RAW))
    with pytest.raises(ObjectNotFoundError, match="is being written"):
        writer.get_block(ROOT)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_car_that_does_not_exist_is_named_as_such(tmp_path):
    with pytest.raises(ObjectNotFoundError, match="the file does not exist"):
        open_store(str(tmp_path / "none.car"), Options()).get_block(ROOT)


def test_a_completed_car_is_not_written_again(tmp_path):
    writer = CarWriter(tmp_path / "out.car")
    writer.put_blocks(ALL)
    writer.pin(ROOT)
    with pytest.raises(TransportError, match="exists already"):
        writer.put_blocks(ALL)


def test_a_car_is_overwritten_at_once_and_only_when_that_is_asked_for(tmp_path):
    path = tmp_path / "out.car"
    for before in (car_bytes(ROOT, BLOCKS)[:-1000], b""):
        path.write_bytes(before)
        writer = open_store(str(path), Options(overwrite=True))
        writer.put_blocks(ALL[:-1])
        with pytest.raises(ObjectNotFoundError, match="is being written"):
            writer.get_block(ROOT)
        assert path.read_bytes() == before
        writer.put_blocks(ALL[-1:])
        writer.pin(ROOT)
        with pytest.raises(TransportError, match="exists already"):
            writer.put_blocks(ALL)
        writer.close()
        assert read(open_store(str(path), Options())) == DATA
    path.write_bytes(b"junk")
    with pytest.raises(FormatError, match=r"[^.]\. Was it cut off.*overwrite=True"):
        open_store(str(path), Options())


def test_a_car_that_another_writer_completed_meanwhile_is_kept(tmp_path):
    first, second = CarWriter(tmp_path / "out.car"), CarWriter(tmp_path / "out.car")
    for writer in (first, second):
        writer.put_blocks(ALL)
    first.pin(ROOT)
    with pytest.raises(TransportError, match="exists already"):
        second.pin(ROOT)
    second.close()
    assert [p.name for p in tmp_path.iterdir()] == ["out.car"]


def write_until_killed(path):
    CarWriter(path).put_blocks(ALL)
    signal.pause()


def test_what_a_killed_writer_left_is_removed_but_not_what_others_write(tmp_path, monkeypatch):
    monkeypatch.setattr("ipfs_dataset_plugins.store._SECONDS_TO_LOCK", -1)
    path = tmp_path / "out.car"
    other = tmp_path / "out.car.notes.part"
    other.write_bytes(b"")
    living = CarWriter(path)
    living.put_blocks(ALL)
    context = multiprocessing.get_context("fork")
    killed = context.Process(target=write_until_killed, args=(path,))
    killed.start()
    assert killed.pid is not None
    while len(list(tmp_path.iterdir())) < 3:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert not path.exists()
    writer = CarWriter(path)
    writer.put_blocks(ALL)
    assert len(list(tmp_path.iterdir())) == 3
    writer.pin(ROOT)
    living.close()
    assert sorted(tmp_path.iterdir()) == [path, other]
    assert read(CarStore(path)) == DATA


def test_a_root_of_version_0_is_written_as_version_1(tmp_path):
    root, blocks = one_file(DATA, "unixfs-v0-2015")
    writer = CarWriter(tmp_path / "old.car")
    writer.put_blocks(depth_first(root, blocks))
    writer.pin(root)
    assert read(CarStore(tmp_path / "old.car"), cid=root) == DATA


def test_a_car_that_cannot_be_written_is_a_transport_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    writer = CarWriter(tmp_path / "file" / "out.car")
    with pytest.raises(TransportError):
        writer.put_blocks(ALL)


@pytest.mark.parametrize("inside", [{}, {"readme.txt": b"text"}])
def test_a_folder_without_blocks_is_named(tmp_path, inside):
    for name, data in inside.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(
        ObjectNotFoundError, match=r"has no block .*, or any other.*a folder 'blocks'"
    ):
        FolderStore(tmp_path).get_block(ROOT)


def test_a_store_with_other_blocks_lacks_one(folder):
    with pytest.raises(ObjectNotFoundError) as caught:
        folder.get_block(make_cid(b"another", RAW))
    assert "or any other" not in str(caught.value)


def test_a_store_that_may_only_be_read_is_read_and_tells_what_to_do_where_it_is_written(
    folder, tmp_path
):
    path = tmp_path / "store"
    folders = [path, *(p for p in path.rglob("*") if p.is_dir())]
    for one in folders:
        one.chmod(0o555)
    try:
        if os.access(path, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert read(FolderStore(path)) == DATA
        with pytest.raises(
            TransportError, match=r"cannot write block .*give a folder in which you can"
        ):
            FolderStore(path).put_blocks([(make_cid(b"new", RAW), b"new")])
    finally:
        for one in folders:
            one.chmod(0o755)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC])
def test_what_to_do_is_told_where_a_folder_may_not_be_written(tmp_path, number):
    error = OSError(number, os.strerror(number))
    remedy = FolderStore(tmp_path)._remedy(error)
    assert ("publish again" if number == errno.ENOSPC else "can write") in remedy


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("late", [False, True], ids=["at the start", "at the end"])
def test_a_car_that_cannot_be_written_leaves_nothing_and_tells_what_to_do(
    tmp_path, monkeypatch, number, late
):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    writer = CarWriter(tmp_path / "out.car")
    if late:
        writer.put_blocks(ALL)
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        monkeypatch.setattr(Path, "open", refuse)
    advice = "Free some space" if number == errno.EDQUOT else "folder in which you can write"
    with pytest.raises(TransportError, match=rf"out\.car: .*{advice}"):
        writer.pin(ROOT) if late else writer.put_blocks(ALL)
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    store = open_store("localhost:5001", Options())
    with pytest.raises(ObjectNotFoundError, match=r"localhost:5001: .* no such folder.*http://"):
        store.get_block(LEAF)


def test_a_car_file_that_is_forgotten_is_closed(tmp_path):
    path = tmp_path / "forgotten.car"
    path.write_bytes(car_bytes(ROOT, BLOCKS))
    store = CarStore(path)
    file = store._file
    del store
    gc.collect()
    assert file.closed
