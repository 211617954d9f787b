"""Indexes are made once per CID; what is kept of them may be damaged, never wrong, and is never needed."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset_core import (
    FolderReader,
    LimitError,
    Limits,
    MemberIndex,
    NameTable,
    Reader,
    index_of,
    pack_columns,
    unpack_columns,
)
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from ipfs_dataset_core.toolkit.index_cache import (
    HEAD_BYTES,
    IndexCache,
    IndexKey,
    index_key,
    members_of,
)
from ipfs_dataset_plugins.zip import reader as zip_module
from ipfs_dataset_plugins.zip.central_directory import ZipIndex, build_index
from ipfs_dataset_plugins.zip.reader import ZipReader
from tests.support.builders import noise, zip_bytes
from tests.support.stores import Store, members

DATA = b"one\ntwo\nthree\n"
LINES = DATA.splitlines()


class LinesIndex(MemberIndex):
    def __init__(self, starts):
        self.starts = starts

    def __len__(self):
        return len(self.starts)

    def name(self, position):
        return str(position)

    def span(self, position):
        return self.starts[position], self.starts[position] + len(LINES[position])

    def dump(self):
        return pack_columns(NameTable(map(str, range(len(self)))), [self.starts])


class Lines(Reader):
    """Every line is a sample; counts how often it looks where they are."""

    index_form = "lines 1"

    def __init__(self):
        self.made = 0
        self.loaded = 0

    def samples(self, source):
        return iter(())

    def index(self, source):
        self.made += 1
        starts, at = array("Q"), 0
        for line in LINES:
            starts.append(at)
            at += len(line) + 1
        return LinesIndex(starts)

    def load_index(self, source, data):
        self.loaded += 1
        return LinesIndex(unpack_columns(data, "Q", source.limits)[1][0])


def get(reader, file) -> MemberIndex:
    """Returns the index that there is."""
    index = index_of(reader, file)
    assert index is not None
    return index


def source(disk=None, data=DATA, limits=None):
    file = MemoryFile(data, limits=limits or Limits())
    file.cid, file.index_cache = make_cid(data, RAW), IndexCache(disk)
    return file


@pytest.fixture
def kept(tmp_path):
    """Makes the caches of different jobs in one folder."""
    caches: list[DiskCache] = []

    def cache():
        for earlier in caches:
            earlier.close()
        caches.append(DiskCache(tmp_path, 1 << 20))
        return caches[-1]

    yield cache
    for each in caches:
        each.close()


def files(tmp_path):
    return sorted(path for path in (tmp_path / "indexes").rglob("*") if path.is_file())


def test_an_index_is_made_once_while_somebody_uses_it():
    reader = Lines()
    first = index_of(reader, source())
    assert index_of(reader, source()) is first
    assert reader.made == 1
    del first
    gc.collect()
    index_of(reader, source())
    assert reader.made == 2


def test_another_job_finds_it_on_disk(kept, tmp_path):
    first, second = Lines(), Lines()
    index_of(first, source(kept()))
    gc.collect()
    found = get(second, source(kept()))
    assert [found.span(number) for number in range(len(found))] == [(0, 3), (4, 7), (8, 13)]
    assert (first.made, second.made, second.loaded) == (1, 0, 1)
    [path] = files(tmp_path)
    assert path.name.startswith(str(make_cid(DATA, RAW)))


def test_other_bytes_limits_or_forms_have_indexes_of_their_own(kept):
    class Others(Lines):
        index_form = "lines 2"

    reader, others = Lines(), Others()
    held = [index_of(reader, source(kept()))]
    held.append(index_of(reader, source(kept(), data=DATA + b"x")))
    held.append(index_of(reader, source(kept(), limits=Limits(members=7))))
    held.append(index_of(others, source(kept())))
    assert (reader.made, reader.loaded, others.made, others.loaded) == (3, 0, 1, 0)


def test_a_form_that_names_options_keeps_them_apart(kept):
    class Every(Lines):
        def __init__(self, step):
            super().__init__()
            self.step = step

        @property
        def index_form(self):  # type: ignore[override]
            return f"every {self.step}"

        def index(self, source):
            return LinesIndex(super().index(source).starts[:: self.step])

    assert [len(get(Every(step), source(kept()))) for step in (1, 2, 1, 2)] == [3, 2, 3, 2]


def test_an_index_of_a_subclass_without_its_own_form_is_not_kept(kept, tmp_path):
    class First(Lines):
        def index(self, source):
            return LinesIndex(super().index(source).starts[:1])

    assert len(get(Lines(), source(kept()))) == 3
    for _ in range(2):
        assert len(get(First(), source(kept()))) == 1
    kept()
    assert len(files(tmp_path)) == 1


def test_no_index_is_kept_without_a_form_or_for_unverified_objects(kept, tmp_path):
    class Formless(Lines):
        index_form = ""

    reader = Formless()
    held = [index_of(reader, source(kept())) for _ in range(2)]
    unverified, unnamed = MemoryFile(DATA), source(kept())
    unnamed.cid = None
    held += [index_of(Lines(), file) for file in (unverified, unnamed, unnamed)]
    kept()
    assert len({id(index) for index in held}) == 5
    assert reader.made == 2
    assert files(tmp_path) == []


def test_a_missing_index_of_an_object_is_not_cached(kept, tmp_path):
    class Streamed(Lines):
        index_form = "none"

        def index(self, source):
            self.made += 1

    reader = Streamed()
    assert [index_of(reader, source(kept())) for _ in range(2)] == [None, None]
    assert reader.made == 2


def test_an_index_that_cannot_be_dumped_is_kept_in_memory_alone(kept, tmp_path, caplog):
    class Solid(LinesIndex):
        dump = MemberIndex.dump

    class Solids(Lines):
        index_form = "solid"

        def index(self, source):
            return Solid(super().index(source).starts)

    reader = Solids()
    held = [index_of(reader, source(kept())) for _ in range(2)]
    assert held[0] is held[1]
    kept()
    assert files(tmp_path) == []
    assert caplog.text == ""


@pytest.mark.parametrize(
    "error", [ValueError, LimitError, MemoryError, RecursionError, UnicodeEncodeError, None]
)
def test_an_index_that_fails_to_be_dumped_does_not_fail_the_read(kept, tmp_path, caplog, error):
    class Fails(LinesIndex):
        def dump(self):
            if error is None:
                return "text"
            raise error(*(("ascii", "x", 0, 1, "no") if error is UnicodeEncodeError else ("no",)))

    class Failing(Lines):
        index_form = "failing"

        def index(self, source):
            return Fails(super().index(source).starts)

    assert len(get(Failing(), source(kept()))) == 3
    kept()
    assert files(tmp_path) == []
    assert "Failing" in caplog.text
    assert str(source().cid) in caplog.text
    assert "so each job builds it again" in caplog.text


@pytest.mark.parametrize("fails", ["get_index", "put_index_soon"])
def test_a_cache_that_fails_in_any_way_does_not_fail_the_read(kept, fails, caplog):
    disk = kept()

    def failing(*_):
        raise RuntimeError("cannot start a thread")

    setattr(disk, fails, failing)
    assert len(get(Lines(), source(disk))) == 3
    assert "cannot start a thread" in caplog.text


def test_a_write_that_fails_does_not_keep_the_cache_from_being_closed(
    tmp_path, caplog, monkeypatch
):
    disk = DiskCache(tmp_path / "cache", 1 << 20)

    def failing(*_):
        raise MemoryError

    monkeypatch.setattr(disk._files, "write", failing)
    for number in range(50):
        block = bytes([number])
        disk.put_soon(make_cid(block, RAW), block)
    disk.close()
    assert "Cannot write to the cache" in caplog.text


def test_an_index_of_a_class_that_cannot_be_referred_to_weakly_is_used(kept):
    class Slots:
        __slots__ = ("starts",)

        def __len__(self):
            return 3

        def dump(self):
            return b"data"

    class Slotted(Lines):
        index_form = "slotted"

        def index(self, source):
            return Slots()

    assert len(get(Slotted(), source(kept()))) == 3


DAMAGES = {
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda _: b"",
    "other file": lambda _: noise(100),
    "other version": lambda data: data.replace(b"index 2", b"index 3"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_detected_and_created_again(kept, tmp_path, damage, caplog):
    index_of(Lines(), source(kept()))
    gc.collect()
    kept()
    [path] = files(tmp_path)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    reader = Lines()
    assert len(get(reader, source(kept()))) == 3
    assert (reader.made, reader.loaded) == (1, 0)
    assert "damaged" in caplog.text
    kept()
    assert path.read_bytes() == good


def test_a_file_under_another_name_is_not_taken_for_the_one_that_it_replaces(kept, tmp_path):
    index_of(Lines(), source(kept()))
    held = index_of(Lines(), source(kept(), data=DATA * 2))
    kept()
    one, other = files(tmp_path)
    assert held is not None
    del held
    gc.collect()
    content = one.read_bytes(), other.read_bytes()
    other.write_bytes(content[0])
    one.write_bytes(content[1])
    reader = Lines()
    index_of(reader, source(kept()))
    assert (reader.made, reader.loaded) == (1, 0)


@pytest.mark.parametrize("error", [ValueError, KeyError, MemoryError, LimitError])
def test_an_index_that_cannot_be_loaded_is_created_again(kept, error):
    class Refuses(Lines):
        def load_index(self, source, data):
            raise error("of another version")

    index_of(Refuses(), source(kept()))
    gc.collect()
    reader = Refuses()
    assert len(get(reader, source(kept()))) == 3
    assert reader.made == 1


@given(
    st.lists(st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))),
    st.lists(st.integers(0, (1 << 64) - 1), max_size=5),
)
def test_columns_are_equal_after_unpacking(names, numbers):
    wide, narrow = array("Q", range(len(names))), array("H", [7] * len(names))
    data = pack_columns(NameTable(names), [wide, narrow], numbers)
    found, columns, others = unpack_columns(data, "QH", Limits())
    assert (list(found), columns, list(others)) == (names, [wide, narrow], numbers)


@given(
    st.binary(max_size=200)
    | st.integers(0, 120).map(lambda size: pack_columns(NameTable("abc"))[:size])
)
def test_other_bytes_are_no_columns(data):
    try:
        names, columns, _ = unpack_columns(data, "QH", Limits())
    except ValueError:
        return
    assert len(names) == len(columns[0]) == len(columns[1])


def test_columns_of_more_names_than_allowed_are_refused():
    data = pack_columns(NameTable("abc"))
    with pytest.raises(LimitError, match="members"):
        unpack_columns(data, "", Limits(members=2))


class Folder(FolderReader):
    index_form = "folder of tests"

    def __init__(self):
        self.made = 0

    def members(self, directory):
        self.made += 1
        return list(directory.walk())


def test_the_members_of_a_folder_are_looked_up_once(kept):
    def folder():
        directory = MemoryDirectory({"a": b"1", "b/ü": b"2"})
        directory.cid, directory.index_cache = make_cid(b"folder", RAW), IndexCache(kept())
        return directory

    first, second = Folder(), Folder()
    assert list(members_of(first, folder())) == ["a", "b/ü"]
    gc.collect()
    assert list(members_of(second, folder())) == ["a", "b/ü"]
    assert (first.made, second.made) == (1, 0)


MEMBERS = members(60)


@pytest.fixture
def built(monkeypatch):
    """Every archive whose directory is read."""
    found = []

    def noted(file, encoding=""):
        found.append(file)
        return build_index(file, encoding)

    monkeypatch.setattr(zip_module, "build_index", noted)
    return found


@pytest.mark.parametrize(("verify", "times"), [(True, 1), (False, 4)])
def test_a_second_job_reads_an_archive_without_its_directory(tmp_path, built, verify, times):
    store = Store(tmp_path / "store")
    url = f"ipfs://{store.file(zip_bytes(MEMBERS))}"
    for _ in range(2):
        dataset = IPFSDataset(url, store.address, cache_dir=tmp_path / "cache", verify=verify)
        assert dict(dataset[number] for number in range(60)) == MEMBERS
        dataset.close()
        del dataset
        gc.collect()
        stream = IPFSIterableDataset(
            url, store.address, cache_dir=tmp_path / "cache", verify=verify
        )
        assert dict(stream) == MEMBERS
        stream.close()
        del stream
        gc.collect()
    assert len(built) == times
    assert len(files(tmp_path / "cache")) == verify


def test_an_index_of_a_zip_takes_at_most_40_bytes_a_member_and_its_name():
    names = {f"{number:08}": b"" for number in range(5000)}
    index = ZipReader().index(MemoryFile(zip_bytes(names)))
    dumped = index.dump()
    assert len(dumped) <= 5000 * (40 + 8) + 100
    assert len(pickle.dumps(index)) <= len(dumped) * 1.2
    again = ZipIndex.load(dumped, Limits())
    assert [again.name(n) for n in range(5000)] == list(names)
    assert list(again.members_at([0, 4999])) == list(index.members_at([0, 4999]))
    assert [again.span(n) for n in (0, 4999)] == [index.span(n) for n in (0, 4999)]


OURS, THEIRS = IndexKey(bytes(32)), IndexKey(bytes(31) + b"\1")


@given(st.text(), st.binary(max_size=100))
def test_sealed_bytes_are_only_accepted_with_the_same_key(key, payload):
    data = OURS.seal(key, payload)
    head, rest = data[:HEAD_BYTES], data[HEAD_BYTES:]
    assert OURS.payload_bytes(key, head) == len(payload)
    assert rest == payload
    assert OURS.is_payload(key, head, payload)
    assert THEIRS.payload_bytes(key, head) is None
    assert OURS.payload_bytes(key + "x", head) is None
    assert not OURS.is_payload(key, head, payload + b"\0")


@given(st.data(), st.binary(max_size=40))
def test_no_byte_can_be_changed(data, payload):
    sealed = bytearray(OURS.seal("key", payload))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    head, rest = bytes(sealed[:HEAD_BYTES]), bytes(sealed[HEAD_BYTES:])
    assert OURS.payload_bytes("key", head) is None or not OURS.is_payload("key", head, rest)


@given(st.binary(max_size=2 * HEAD_BYTES))
def test_other_bytes_are_no_head(data):
    assert OURS.payload_bytes("key", data[:HEAD_BYTES]) is None


def test_a_user_has_one_key_that_nobody_else_can_read():
    key = index_key()
    assert key is not None
    path = Path.home() / ".local" / "state" / "ipfs-dataset" / "index-key"
    assert path.read_bytes() == key.secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert index_key() == key
    assert key.secret.hex() not in repr(key)


def _secret(_):
    key = index_key()
    return None if key is None else key.secret


def test_processes_that_make_it_at_once_agree():
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert len(set(pool.map(_secret, range(16), chunksize=1))) == 1


@pytest.mark.parametrize("trouble", ["readable", "short", "link", "fifo", "no folder"])
def test_a_key_that_is_not_private_is_not_used(trouble, caplog):
    folder = Path.home() / ".local" / "state" / "ipfs-dataset"
    folder.mkdir(parents=True)
    path = folder / "index-key"
    if trouble == "link":
        (folder / "elsewhere").write_bytes(bytes(32))
        path.symlink_to("elsewhere")
    elif trouble == "fifo":
        os.mkfifo(path)
    elif trouble == "no folder":
        folder.rmdir()
        folder.write_bytes(b"")
    else:
        path.write_bytes(bytes(32 if trouble == "readable" else 31))
        path.chmod(0o644 if trouble == "readable" else 0o600)
    assert index_key() is None
    assert "Indexes are not stored on disk" in caplog.text


THIRTY = members(30)


def read_all(store, cid, cache):
    dataset = IPFSDataset(f"ipfs://{cid}", store.address, cache_dir=cache)
    try:
        return dict(dataset[number] for number in range(len(dataset)))
    finally:
        dataset.close()
        del dataset
        gc.collect()


def test_a_forged_index_cannot_leave_out_members_of_an_archive(tmp_path):
    store = Store(tmp_path / "store")
    cid = store.file(zip_bytes(THIRTY))
    assert read_all(store, cid, tmp_path / "cache") == THIRTY
    [path] = [path for path in (tmp_path / "cache" / "indexes").rglob("*") if path.is_file()]
    good = path.read_bytes()
    whole = ZipIndex.load(good[HEAD_BYTES:], Limits())
    names, columns = NameTable(), [column[1::2] for column in whole._columns]
    for number in range(1, len(whole), 2):
        names.append(whole.name(number))
    forged = ZipIndex(whole._directory_start, names, columns).dump()
    for data in (THEIRS.seal("any key", forged), good[:HEAD_BYTES] + forged, forged):
        path.write_bytes(data)
        assert read_all(store, cid, tmp_path / "cache") == THIRTY
        assert path.read_bytes() == good


def test_without_a_place_for_the_key_indexes_are_made_anew(tmp_path):
    state = Path.home() / ".local"
    state.write_bytes(b"a file where the folder would be")
    store = Store(tmp_path / "store")
    cid = store.file(zip_bytes(THIRTY))
    for _ in range(2):
        assert read_all(store, cid, tmp_path / "cache") == THIRTY
    assert not (tmp_path / "cache" / "indexes").exists()


_LARGE = """
import os, resource, sys
from pathlib import Path
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.toolkit.index_cache import IndexKey
from tests.support.peak import peak_kib
before = peak_kib()
cache = DiskCache(Path(sys.argv[1]), 1 << 20)
assert cache.get_index("bafkqaaa", "bafkqaaa", IndexKey(bytes(32))) is None
print(peak_kib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory in /proc")
def test_an_index_made_as_large_as_the_disk_is_not_read(tmp_path):
    cache = DiskCache(tmp_path, 1 << 20)
    cache.put_index_soon("bafkqaaa", "bafkqaaa", OURS, b"payload")
    cache.close()
    [path] = [path for path in (tmp_path / "indexes").rglob("*") if path.is_file()]
    os.truncate(path, 1 << 40)
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) < 20_000
