"""A cache deletes what is old: only in a folder of its own, and nothing there but its own files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset_core.errors import (
    AddressError,
    CacheFolderError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.ipld import CID, RAW, make_cid
from ipfs_dataset_core.sources import disk_cache
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.toolkit import shared_folder
from ipfs_dataset_core.toolkit.data_folders import MARK, check_apart
from ipfs_dataset_core.toolkit.index_cache import IndexKey
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import noise
from tests.support.stores import Store

KIB = 1024
SECRET = IndexKey(bytes(32))


def block_of(number: int) -> tuple[CID, bytes]:
    block = noise(10 * KIB, number)
    return make_cid(block, RAW), block


def fill(cache: DiskCache, count: int = 60) -> None:
    """Writes more than fits, so that what is old is deleted."""
    for number in range(count):
        cache.put(*block_of(number))
        cache.put_index_soon("bafkqaaa", f"bafkqaaa {number}", SECRET, noise(KIB, number))
    cache.close()


def tree_of(folder: Path) -> dict[str, object]:
    """Returns all that there is below a folder, links not followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if path.is_file() and not path.is_symlink()
        else str(path.readlink())
        if path.is_symlink()
        else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(params=["relative calls", "paths"], autouse=True)
def _either_way(request, monkeypatch):
    """Runs all tests also as on systems without calls relative to a directory, such as Windows."""
    if request.param == "paths":
        monkeypatch.setattr(shared_folder, "_RELATIVE", False)


def test_a_new_cache_is_marked_so_that_backups_leave_it_out(tmp_path):
    cache = DiskCache(tmp_path / "a" / "cache", 1 << 20)
    cache.put(*block_of(1))
    text = (tmp_path / "a" / "cache" / MARK).read_text()
    assert text.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert DiskCache(tmp_path / "a" / "cache", 1 << 20).get(block_of(1)[0]) == block_of(1)[1]


def test_no_folder_is_created_without_a_write(tmp_path):
    cache = DiskCache(tmp_path / "cache", 1 << 20)
    assert cache.get(block_of(1)[0]) is None
    assert not cache.has(block_of(1)[0])
    assert not (tmp_path / "cache").exists()


def test_a_folder_with_something_else_in_it_is_refused_and_left_as_it_is(tmp_path):
    name = str(make_cid(b"mine", RAW))
    places: list[Path] = []
    for number, what in enumerate(
        ["thesis.txt", ".hidden", f"blocks/{name[-2:]}/{name}", "blocks/AB/x.data", "indexes/ab/x"]
    ):
        places.append(tmp_path / str(number))
        (places[-1] / what).parent.mkdir(parents=True)
        (places[-1] / what).write_bytes(b"mine")
    for place in places:
        before = tree_of(place)
        with pytest.raises(AddressError, match=r"is not a cache of ipfs-dataset.*new or an empty"):
            DiskCache(place, KIB)
        assert tree_of(place) == before


@pytest.mark.parametrize("mark", ["link", "fifo", "other", "cut", "directory", "large"])
def test_only_a_valid_mark_is_accepted(tmp_path, mark):
    cache, path = tmp_path / "cache", tmp_path / "cache" / MARK
    DiskCache(cache, 1 << 20).put(*block_of(1))
    good = path.read_bytes()
    path.unlink()
    if mark == "link":
        (tmp_path / "mark").write_bytes(good)
        path.symlink_to(tmp_path / "mark")
    elif mark == "fifo":
        os.mkfifo(path)
    elif mark == "directory":
        path.mkdir()
    else:
        texts = {"other": good.splitlines(keepends=True)[0], "cut": good[:50], "large": good * 99}
        path.write_bytes(texts[mark])
    with pytest.raises(AddressError, match=MARK):
        DiskCache(cache, 1 << 20)


def test_a_published_dataset_is_no_cache(tmp_path):
    """As a job once destroyed one: cache_dir= on the folder of the store."""
    store = tmp_path / "store"
    cid = IPFSDatasetExporter(str(store)).export_to_ipfs([b"kept", b"for good"])
    before = tree_of(store)
    for place in (store, store / "blocks", store / "pins", store / "new", store / "new" / "deep"):
        with pytest.raises(AddressError, match=r"store|not a cache"):
            DiskCache(place, KIB)
        dataset = IPFSDataset(cid, str(store), cache_dir=place, cache_size="1k")
        with pytest.raises(AddressError, match=r"same place|store"):
            len(dataset)
    assert tree_of(store) == before
    imported = IPFSDatasetExporter(str(store)).import_from_ipfs(cid)
    assert list(imported) == [b"kept", b"for good"]


def test_a_store_that_nothing_was_pinned_in_is_one_too(tmp_path):
    FolderStore(tmp_path / "store").put_blocks([block_of(1)])
    with pytest.raises(AddressError, match="embedded store"):
        DiskCache(tmp_path / "store" / "cache", KIB)


def test_the_repository_of_a_node_is_no_cache_and_no_store(tmp_path):
    repository = tmp_path / "ipfs"
    for name in ("blocks/AB", "datastore"):
        (repository / name).mkdir(parents=True)
    (repository / "blocks" / "AB" / "CIQABC.data").write_bytes(b"block")
    (repository / "datastore_spec").write_text("{}")
    before = tree_of(repository)
    for place in (repository, repository / "blocks", repository / "blocks" / "AB"):
        with pytest.raises(AddressError, match=r"repository|not a cache"):
            DiskCache(place, KIB)
        with pytest.raises(AddressError, match=r"repository of an IPFS node.*API"):
            FolderStore(place)
    with pytest.raises(AddressError, match="repository"):
        DiskCache(repository / "new", KIB)
    assert tree_of(repository) == before


def test_a_cache_is_no_store_nor_is_one_made_in_it(tmp_path):
    DiskCache(tmp_path / "cache", 1 << 20).put(*block_of(1))
    for place in (
        tmp_path / "cache",
        tmp_path / "cache" / "blocks",
        tmp_path / "cache" / "x" / "y",
    ):
        with pytest.raises(AddressError, match=r"cache of ipfs-dataset.*another folder"):
            FolderStore(place)
    with pytest.raises(AddressError, match="cache"):
        IPFSDatasetExporter(str(tmp_path / "cache")).export_to_ipfs([b"1"])
    with pytest.raises(AddressError, match="lies in"):
        DiskCache(tmp_path / "cache" / "inner", 1 << 20)


@pytest.mark.parametrize(
    ("cache", "store", "apart"),
    [
        ("a", "a", False),
        ("a", "a/b", False),
        ("a/b", "a", False),
        ("a", "c/../a", False),
        ("a", "ab", True),
        ("a/b", "a/c", True),
        ("link/x", "a/x", False),
    ],
)
def test_cache_and_store_are_never_one_place_even_before_either_exists(
    tmp_path, cache, store, apart
):
    (tmp_path / "link").symlink_to("a")
    if apart:
        check_apart(tmp_path / cache, tmp_path / store)
        return
    with pytest.raises(AddressError, match="same place"):
        check_apart(tmp_path / cache, tmp_path / store)
    dataset = IPFSDataset(str(block_of(1)[0]), str(tmp_path / store), cache_dir=tmp_path / cache)
    with pytest.raises(AddressError, match="same place"):
        len(dataset)


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_a_store_made_in_a_cache_while_a_job_runs_is_safe(tmp_path):
    cache = DiskCache(tmp_path, 100 * KIB)
    cache.put(*block_of(1))
    (tmp_path / "pins").mkdir()
    before = tree_of(tmp_path / "blocks")
    cache._room = -1
    cache.put(*block_of(2))
    fill(cache)
    assert before.items() <= tree_of(tmp_path / "blocks").items()


def test_a_store_never_writes_into_a_cache_made_in_its_place_since(tmp_path):
    store = FolderStore(tmp_path / "x")
    DiskCache(tmp_path / "x", 1 << 20).put(*block_of(1))
    with pytest.raises(AddressError, match="cache"):
        store.put_blocks([block_of(2)])


@pytest.fixture
def home(tmp_path):
    """Returns a folder of files that a careless cache would take for its own."""
    home = tmp_path / "home"
    for number in range(30):
        cid, block = block_of(1000 + number)
        name = str(cid)
        for shelf in (home / name[-2:], home / "blocks" / name[-2:]):
            shelf.mkdir(parents=True, exist_ok=True)
            (shelf / name).write_bytes(block)
            os.utime(shelf / name, (0, 0))
    (home / "thesis.txt").write_bytes(b"years of work")
    os.utime(home / "thesis.txt", (0, 0))
    return home


@pytest.mark.parametrize("level", ["blocks", "indexes", "shelves", "files", "root"])
@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_links_are_never_followed(tmp_path, home, level):
    """What somebody who may write the folder does, while the job runs and before the next one."""
    folder = tmp_path / "cache"
    cache = DiskCache(folder, 200 * KIB)
    fill(cache, 5)
    before = tree_of(home)
    if level in ("blocks", "indexes"):
        (folder / level).rename(tmp_path / "away")
        (folder / level).symlink_to(home)
    elif level == "root":
        folder.rename(tmp_path / "away")
        folder.symlink_to(home)
    else:
        elsewhere = min((home / "blocks").iterdir())
        for shelf in list((folder / "blocks").iterdir()):
            if level == "shelves":
                shelf.rename(tmp_path / shelf.name)
                shelf.symlink_to(elsewhere)
            else:
                for file in list(shelf.iterdir()):
                    file.unlink()
                    file.symlink_to(home / "thesis.txt")
    for number in range(60):
        cid, block = block_of(number)
        assert cache.get(cid) in (None, block)
        cache.put(cid, block)
        # As a job that does not give the cache up at the first sign.
        cache._paused_until, cache._lost = 0.0, False
    assert tree_of(home) == before
    if level in ("blocks", "indexes", "root"):
        with pytest.raises(AddressError, match=r"link"):
            DiskCache(folder, 200 * KIB)
        assert tree_of(home) == before


def test_files_of_others_in_the_folder_are_never_deleted(tmp_path):
    folder = tmp_path / "cache"
    cache = DiskCache(folder, 200 * KIB)
    cache.put(*block_of(1))
    name = str(block_of(500)[0])
    shelf = name[-2:]
    others = [
        "notes.txt",
        "blocks/notes.txt",
        f"blocks/{shelf}/notes{shelf}",
        f"blocks/{shelf}/{name}\n",
        f"blocks/{shelf}/{name.upper()}",
        f"blocks/{shelf}/{name}{shelf}",
        f"blocks/{'zz' if shelf != 'zz' else 'yy'}/{name}",
        f"blocks/{shelf}/.tmp-mine",
        f"blocks/{shelf}/deep/{name}",
        f"blocks/long/{name}",
        f"blocks/{shelf.upper()}/{name}",
        f"blocks/日本/{name}日本",
        f"indexes/{shelf}/{name}",
        f"other/{shelf}/{name}",
    ]
    for other in others:
        path = folder / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"somebody's")
        os.utime(path, (0, 0))
    fill(cache)
    for other in others:
        assert (folder / other).read_bytes() == b"somebody's"


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # its own path may be too long for the address of a socket
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def put_sparse_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


STRANGE = {
    "a FIFO": put_fifo,
    "a socket": put_socket,
    "a link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a directory": lambda path: path.mkdir(),
    "a terabyte": put_sparse_file,
}


@pytest.mark.parametrize("put", STRANGE.values(), ids=STRANGE)
@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_entries_with_the_name_of_a_block_that_are_no_files_are_skipped(tmp_path, put):
    cache = DiskCache(tmp_path / "cache", 200 * KIB)
    cid, block = block_of(1)
    cache.put(cid, block)
    path = cache._files.path(cid)
    path.unlink()
    put(path)
    answers: list[bytes | None] = []

    def read() -> None:
        answers.append(cache.get(cid))
        cache.put(cid, block)
        fill(cache)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert not reader.is_alive(), "it waits for somebody who never writes"
    assert answers == [None]
    assert put is put_sparse_file or not cache.has(cid)


@pytest.mark.parametrize("put", STRANGE.values(), ids=STRANGE)
def test_such_entries_of_a_store_are_an_error_that_names_them(tmp_path, put):
    store = FolderStore(tmp_path / "store")
    cid, block = block_of(1)
    store.put_blocks([(cid, block)])
    path = store._files.path(cid)
    path.unlink()
    put(path)
    with pytest.raises(Exception, match=r"it is a|more than the limit") as caught:
        store.get_block(cid)
    assert type(caught.value).__name__ in ("TransportError", "LimitError")
    assert str(cid) in str(caught.value)


@pytest.mark.parametrize("name", ["blocks", "pins"])
def test_pins_and_blocks_of_a_store_are_written_through_no_link(tmp_path, home, name):
    before = tree_of(home)
    store = FolderStore(tmp_path / "store")
    store.put_blocks([block_of(1)])
    (tmp_path / "store" / name).rename(tmp_path / "away")
    (tmp_path / "store" / name).symlink_to(home)
    for again in (store, FolderStore(tmp_path / "store")):
        with pytest.raises(TransportError, match=r"link|lacks"):
            again.pin(block_of(1)[0])
    with pytest.raises(TransportError, match="link"):
        FolderStore(tmp_path / "store").put_blocks([block_of(2)])
    assert tree_of(home) == before


def test_a_pin_is_written_through_no_link_and_waits_for_no_fifo(tmp_path, home):
    before = tree_of(home)
    store = FolderStore(tmp_path / "store")
    store.put_blocks([block_of(1)])
    pin = tmp_path / "store" / "pins" / str(block_of(1)[0])
    for put in (lambda path: path.symlink_to(home / "new"), put_fifo):
        put(pin)
        with pytest.raises(TransportError, match="cannot pin"):
            store.pin(block_of(1)[0])
        pin.unlink()
    store.pin(block_of(1)[0])
    assert tree_of(home) == before


def test_a_folder_removed_while_a_job_runs_is_made_again(tmp_path):
    folder = tmp_path / "cache"
    cache = DiskCache(folder, 1 << 20)
    cache.put(*block_of(1))
    folder.rename(tmp_path / "away")
    assert cache.get(block_of(1)[0]) is None
    cache.put(*block_of(2))
    assert cache.get(block_of(2)[0]) == block_of(2)[1]
    assert (folder / MARK).exists()


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_a_folder_swapped_while_a_job_runs_is_not_touched(tmp_path, home, caplog):
    folder = tmp_path / "cache"
    cache = DiskCache(folder, 100 * KIB)
    cache.put(*block_of(1))
    folder.rename(tmp_path / "away")
    home.rename(folder)
    before = tree_of(folder)
    fill(cache)
    assert cache.get(block_of(1)[0]) is None
    assert tree_of(folder) == before
    assert caplog.text.count("reading continues without it") == 1


def test_a_hard_link_to_somebodys_file_leaves_that_file_as_it_is(tmp_path):
    mine = tmp_path / "thesis.txt"
    mine.write_bytes(b"years of work")
    os.utime(mine, (5, 5))
    cache = DiskCache(tmp_path / "cache", 100 * KIB)
    cid, block = block_of(1)
    cache.put(cid, block)
    path = cache._files.path(cid)
    path.unlink()
    path.hardlink_to(mine)
    assert cache.get(cid) is None
    cache.put(cid, block)
    fill(cache)
    assert (mine.read_bytes(), mine.stat().st_mtime) == (b"years of work", 5)


def test_a_hard_link_to_an_intact_block_does_not_change_its_times(tmp_path):
    cid, block = block_of(1)
    mine = tmp_path / "mine"
    mine.write_bytes(block)
    os.utime(mine, (5, 5))
    cache = DiskCache(tmp_path / "cache", 1 << 20)
    cache.put(cid, block)
    path = cache._files.path(cid)
    path.unlink()
    path.hardlink_to(mine)
    assert cache.get(cid) == block
    assert mine.stat().st_mtime == 5


def test_many_jobs_make_the_same_cache_at_once(tmp_path):
    for turn in range(15):
        folder = tmp_path / str(turn)
        failures: list[str] = []
        start = threading.Barrier(6)

        def work(number, folder=folder, failures=failures, start=start):
            start.wait()
            try:
                cache = DiskCache(folder, 1 << 20)
                cache.put(*block_of(number))
                if cache.get(block_of(number)[0]) is None:
                    failures.append("lost")
            except Exception as error:
                failures.append(repr(error))

        jobs = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert failures == []


def test_files_of_a_job_that_was_killed_while_marking_are_ignored(tmp_path):
    (tmp_path / ".tmp-0123456789abcdef").write_bytes(b"Sig")
    (tmp_path / "lost+found").mkdir()
    cache = DiskCache(tmp_path, 1 << 20)
    cache.put(*block_of(1))
    assert cache.get(block_of(1)[0]) is not None


def test_more_temporary_files_than_jobs_leave_are_not_looked_through(tmp_path):
    for number in range(1100):
        (tmp_path / f".tmp-{number:016x}").touch()
    with pytest.raises(CacheFolderError, match=r"holds '\.tmp-"):
        DiskCache(tmp_path, 1 << 20)


def test_the_error_for_a_cache_that_is_a_link_names_its_target(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to("real")
    with pytest.raises(AddressError, match=r"is a link.*real"):
        DiskCache(tmp_path / "cache", 1 << 20)


def test_a_folder_without_a_mark_is_a_cache_if_the_user_adds_the_mark(tmp_path):
    """As those of earlier versions, which look like a store."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        DiskCache(folder, 1 << 20).put(*block_of(1))
    mark = (old / MARK).read_bytes()
    (old / MARK).unlink()
    with pytest.raises(AddressError, match=r"no CACHEDIR\.TAG of this library"):
        DiskCache(old, 1 << 20)
    assert mark == (new / MARK).read_bytes()
    (old / MARK).write_bytes(mark)
    assert DiskCache(old, 1 << 20).get(block_of(1)[0]) == block_of(1)[1]


def test_a_cache_stays_where_it_is_when_the_program_changes_its_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    cache = DiskCache(Path("cache"), 1 << 20)
    monkeypatch.chdir(tmp_path / "b")
    cache.put(*block_of(1))
    assert (tmp_path / "a" / "cache" / MARK).exists()
    assert not (tmp_path / "b" / "cache").exists()


def test_a_flood_of_files_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "_MOST_CONSIDERED", 10)
    cache = DiskCache(tmp_path, 1 << 30)
    for number in range(40):
        cache.put(*block_of(number))
    small = DiskCache(tmp_path, 200 * KIB)
    for number in range(40, 60):
        small.put(*block_of(number))
        small._room = -1
    sizes = [path.stat().st_size for path in (tmp_path / "blocks").rglob("bafk*")]
    assert sum(sizes) <= 200 * KIB


@pytest.mark.parametrize("handler", ["raise", "warn", "skip"])
def test_no_handler_hides_that_the_cache_is_refused(tmp_path, handler):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_bytes(b"years of work")
    store = Store(tmp_path / "store")
    options = {"cache_dir": tmp_path / "mine", "handler": handler}
    urls = [store.file(b"%d" % number) for number in range(3)]
    with pytest.raises(CacheFolderError, match="not a cache"):
        list(IPFSIterableDataset(urls, store.address, **options))
    with pytest.raises(CacheFolderError, match="not a cache"):
        len(IPFSDataset(urls, store.address, **options))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_whatever_somebody_does_to_the_folder_nothing_outside_changes(tmp_path_factory, data):
    """A random neighbour: between any two steps of a job, anything is replaced by anything."""
    base = tmp_path_factory.mktemp("hostile")
    folder, home = base / "cache", base / "home"
    name = str(block_of(0)[0])
    for place in (home, home / name[-2:], home / "blocks" / name[-2:]):
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"mine")
        (place / ".tmp-0123456789abcdef").write_bytes(b"mine")
        for file in place.iterdir():
            os.utime(file, (1, 1))
    before = {path: path.lstat().st_mtime for path in home.rglob("*")}
    contents = tree_of(home)
    targets = ["", "blocks", "indexes", f"blocks/{name[-2:]}", f"blocks/{name[-2:]}/{name}", MARK]
    cache = DiskCache(folder, 30 * KIB)
    for _ in range(data.draw(st.integers(1, 8))):
        step = data.draw(st.sampled_from(["put", "get", "evict", "reopen", "hostile", "hostile"]))
        if step == "hostile":
            path = folder / data.draw(st.sampled_from(targets))
            if path.parent.resolve() != path.parent:
                continue  # the neighbour may not write there
            if path.exists() or path.is_symlink():
                path.rename(base / f"away {time.monotonic_ns()}")
            if path.parent.is_dir():
                kind = data.draw(st.sampled_from([*KINDS]))
                KINDS[kind](path, home)
        elif step == "put":
            cache.put(*block_of(data.draw(st.integers(0, 5))))
        elif step == "evict":
            cache._room = -1
            cache.put(*block_of(data.draw(st.integers(6, 9))))
        elif step == "get":
            cid, block = block_of(data.draw(st.integers(0, 5)))
            assert cache.get(cid) in (None, block)
        else:
            try:
                cache = DiskCache(folder, 30 * KIB)
            except AddressError:
                continue
        cache._paused_until = 0.0
    assert tree_of(home) == contents
    assert {path: path.lstat().st_mtime for path in home.rglob("*")} == before


KINDS = {
    "nothing": lambda _path, _home: None,
    "link": lambda path, home: path.symlink_to(home),
    "link into": lambda path, home: path.symlink_to(home / "blocks"),
    "link to file": lambda path, home: path.symlink_to(next(home.rglob("bafk*"))),
    "hard link": lambda path, home: path.hardlink_to(next(home.rglob("bafk*"))),
    "fifo": lambda path, _home: os.mkfifo(path),
    "directory": lambda path, _home: path.mkdir(),
    "file": lambda path, _home: path.write_bytes(b"x"),
    "sparse": lambda path, _home: put_sparse_file(path),
}


_FULL = """
import os, resource, signal, sys, logging
from pathlib import Path
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.sources import disk_cache
from ipfs_dataset_core.sources.disk_cache import DiskCache
logging.basicConfig(level=logging.WARNING)
cache = DiskCache(Path(sys.argv[1]), 1 << 20)
small = b"small"
cache.put(make_cid(small, RAW), small)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
large = bytes(100_000)
cache.put(make_cid(large, RAW), large)
assert cache.get(make_cid(large, RAW)) is None
assert cache.get(make_cid(small, RAW)) == small
print([name for _, _, names in os.walk(sys.argv[1]) for name in names if name.startswith(".tmp")])
"""


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert "cannot be written" in done.stderr


_READ_ONLY = """
import os, sys, logging
from pathlib import Path
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.sources import disk_cache
from ipfs_dataset_core.sources.disk_cache import DiskCache
if os.geteuid() == 0:
    os.setuid(65534)
block = b"block"
for name in ("cache", "empty", "closed"):
    cache = DiskCache(Path(sys.argv[1]) / name, 1 << 20)
    print(cache.get(make_cid(block, RAW)))
    cache.put(make_cid(b"other", RAW), b"other")
    print(cache.get(make_cid(b"other", RAW)))
"""


def test_a_cache_that_may_only_be_read_is_read(tmp_path_factory):
    base = Path("/tmp") / f"read-only-{os.getpid()}-{time.monotonic_ns()}"
    base.mkdir(mode=0o755)
    try:
        DiskCache(base / "cache", 1 << 20).put(make_cid(b"block", RAW), b"block")
        (base / "empty").mkdir()
        (base / "closed").mkdir()
        for folder in [*base.rglob("*"), base]:
            if folder.is_dir():
                folder.chmod(0 if folder.name == "closed" else 0o555)
        done = subprocess.run(
            [sys.executable, "-c", _READ_ONLY, str(base)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (
            0,
            "b'block'\nNone\nNone\nNone\nNone\nNone\n",
        ), done.stderr
    finally:
        for folder in [base, *base.rglob("*")]:
            if folder.is_dir():
                folder.chmod(0o755)
        subprocess.run(["rm", "-r", str(base)], check=True)


_WRITER = """
import sys
from pathlib import Path
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.sources import disk_cache
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.toolkit.index_cache import IndexKey
number = 0
while True:
    cache = DiskCache(Path(sys.argv[1]) / str(number % 3), 3 << 20)
    for _ in range(20):
        block = number.to_bytes(8, "big") * 20_000
        cache.put_soon(make_cid(block, RAW), block)
        cache.put_index_soon("bafkqaaa", f"bafkqaaa {number}", IndexKey(bytes(32)), block)
        number += 1
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3, 6])
def test_a_writer_killed_at_any_moment_leaves_caches_that_work(tmp_path, lines):
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(lines):
            writer.stdout.readline()
        time.sleep(0.013 * lines)
        writer.kill()
    for folder in tmp_path.iterdir():
        cache = DiskCache(folder, 3 << 20)
        for number in range(60):
            block = number.to_bytes(8, "big") * 20_000
            assert cache.get(make_cid(block, RAW)) in (None, block)
            found = cache.get_index("bafkqaaa", f"bafkqaaa {number}", SECRET)
            assert found in (None, block)
        cache.put(*block_of(1))
        assert cache.get(block_of(1)[0]) == block_of(1)[1]


def test_a_store_whose_folder_is_gone_reports_missing_blocks(tmp_path):
    store = Store(tmp_path / "store")
    cid = store.file(b"data")
    subprocess.run(["rm", "-r", str(tmp_path / "store")], check=True)
    with pytest.raises(ObjectNotFoundError):
        FolderStore(tmp_path / "store").get_block(CID.parse(cid))
