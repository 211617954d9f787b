"""Reading: open files, ranges, many files at once, and local copies."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import fsspec
import pytest
from fsspec.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_fsspec import IsDirectoryError
from ipfs_dataset_fsspec.ranges import FileRange, windows

from ipfs_dataset_core import ObjectNotFoundError, TransportError
from tests.support.builders import noise, zip_bytes
from tests.support.stores import SMALL_LEAVES, Store

DATA = noise(3_000_000)
LINES = b"".join(b"line %d\n" % number for number in range(5000))
bounds = st.none() | st.integers(-len(DATA) - 10, len(DATA) + 10)


@pytest.fixture
def path(store):
    return store.file(DATA, SMALL_LEAVES)


def test_an_open_file_is_a_seekable_buffered_file(fs, path):
    with fs.open(path, "rb") as file:
        assert isinstance(file, io.BufferedReader)
        assert (file.size, file.path, file.name, file.mode) == (len(DATA), path, path, "rb")
        assert file.info() == file.details == fs.info(path)
        assert file.read(10) == DATA[:10]
        assert file.seek(-5, io.SEEK_END) == len(DATA) - 5
        assert file.read() == DATA[-5:]
        file.seek(1_000_001)
        buffer = bytearray(600_000)
        assert file.readinto(buffer) == 600_000
        assert buffer == DATA[1_000_001:1_600_001]
        assert file.tell() == 1_600_001
        assert not file.writable()
    assert file.closed


def test_open_files_support_lines_text_and_compression(store, fs):
    plain, packed = store.file(LINES), store.tree({"lines.gz": gzip.compress(LINES)})
    with fs.open(plain, "rb") as file:
        assert list(file) == LINES.splitlines(keepends=True)
    with fs.open(plain, "r", encoding="ascii") as file:
        assert file.readline() == "line 0\n"
    with fs.open(f"{packed}/lines.gz", "rb", compression="infer") as file:
        assert file.read() == LINES
    assert fs.read_block(plain, 10, 20, delimiter=b"\n") == LINES[14:35]
    assert fs.head(plain, 6) + fs.tail(plain, 5) == b"line 04999\n"
    assert fs.read_text(plain) == LINES.decode()


@given(
    steps=st.lists(st.tuples(st.integers(0, len(DATA) + 9), st.integers(0, 400_000)), max_size=9)
)
@settings(deadline=None, max_examples=25)
def test_any_sequence_of_reads_returns_the_bytes_of_the_file(opened, steps):
    expected = io.BytesIO(DATA)
    for position, size in steps:
        assert opened.seek(position) == expected.seek(position)
        assert opened.read(size) == expected.read(size)
        assert opened.tell() == expected.tell()


@given(start=bounds, end=bounds)
@settings(deadline=None, max_examples=60)
def test_cat_file_returns_the_bytes_of_a_slice(opened, start, end):
    assert opened.fs.cat_file(opened.path, start, end) == DATA[start:end]


@given(ranges=st.lists(st.tuples(st.integers(0, 2), bounds, bounds), max_size=30))
@settings(deadline=None, max_examples=25)
def test_cat_ranges_returns_the_bytes_of_slices(opened, ranges):
    folder = opened.fs.info(opened.path)["name"]
    files = [DATA, LINES, b""]
    paths = [folder, *opened.others]
    found = opened.fs.cat_ranges(
        [paths[which] for which, _, _ in ranges],
        [start for _, start, _ in ranges],
        [end for _, _, end in ranges],
    )
    assert found == [files[which][start:end] for which, start, end in ranges]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("opened") / "store")
    fs = fsspec.filesystem(
        "ipfsdataset", ipfs_api_address=store.address, memory="2M", skip_instance_cache=True
    )
    with fs.open(store.file(DATA, SMALL_LEAVES)) as file:
        file.others = [store.file(LINES), store.file(b"")]
        yield file
    fs.close()


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_windows_keep_the_order_and_limit_the_number_of_files(numbers, files):
    items = [FileRange(str(number)) for number in numbers]
    found = list(windows(items, files))
    assert [item for window in found for item in window] == items
    assert all(1 <= len({item.path for item in window}) <= files for window in found)


def test_ranges_may_be_given_once_for_all_files(store, fs):
    paths = [store.file(b"first"), store.file(b"second")]
    assert fs.cat_ranges(paths, 1, -1) == [b"irs", b"econ"]
    assert fs.cat_ranges([], [], []) == []
    with pytest.raises(ValueError, match="2 paths, 1 starts and 2 ends"):
        fs.cat_ranges(paths, [0], [1, 2])
    with pytest.raises(TypeError, match="list"):
        fs.cat_ranges(paths[0], 0, 1)


def test_an_error_is_returned_in_place_of_the_bytes(store, fs):
    root = store.tree({"a": b"first", "d/b": b"second"})
    paths = [f"{root}/a", f"{root}/none", f"{root}/d", f"{root}/d/b"]
    found = fs.cat_ranges(paths, 0, None)
    assert found[0] == b"first"
    assert [type(one) for one in found[1:3]] == [ObjectNotFoundError, IsDirectoryError]
    assert found[3] == b"second"
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, None, on_error="raise")
    assert fs.cat(paths, on_error="omit") == {paths[0]: b"first", paths[3]: b"second"}
    assert isinstance(fs.cat(paths, on_error="return")[paths[1]], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat(paths[:2])


def test_cat_accepts_paths_patterns_and_directories(store, fs):
    files = {f"f{number:03}": b"file %d" % number for number in range(100)}
    root = store.tree({**files, "sub/x": b"below"})
    assert fs.cat(f"{root}/f007") == b"file 7"
    assert fs.cat(f"{root}/f007", start=2, end=4) == b"le"
    assert fs.cat([f"{root}/f007"]) == {f"{root}/f007": b"file 7"}
    assert fs.cat(f"{root}/f09*") == {f"{root}/f09{n}": b"file 9%d" % n for n in range(10)}
    everything = {**files, "sub/x": b"below"}
    assert fs.cat(root, recursive=True) == {f"{root}/{n}": data for n, data in everything.items()}


def test_a_mapper_distinguishes_missing_keys_from_directories(store, fs):
    mapper = fs.get_mapper(store.tree({"a": b"first", "d/b": b"second"}))
    assert dict(mapper) == {"a": b"first", "d/b": b"second"}
    assert "d" not in mapper
    assert mapper.get("d") is mapper.get("x") is mapper.get("a/b") is None
    assert mapper.getitems(["a", "x", "d/b"], on_error="omit") == {"a": b"first", "d/b": b"second"}


def test_get_copies_files(store, fs, tmp_path):
    root = store.tree({"a": DATA, "d/b": b"second"})
    told = Callback()
    fs.get_file(f"{root}/a", tmp_path / "new" / "a", callback=told)
    assert (tmp_path / "new" / "a").read_bytes() == DATA
    assert (told.size, told.value) == (len(DATA), len(DATA))
    fs.get(root, str(tmp_path / "all"), recursive=True)
    assert (tmp_path / "all" / "d" / "b").read_bytes() == b"second"
    fs.get_file(f"{root}/d/b", buffer := io.BytesIO())
    assert buffer.getvalue() == b"second"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_a_copy_has_the_default_permissions(store, fs, tmp_path):
    (tmp_path / "usual").touch()
    fs.get_file(store.file(b"data"), tmp_path / "got")
    assert (tmp_path / "got").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failed_copy_leaves_the_existing_file(store, fs, tmp_path):
    path = store.file(DATA, SMALL_LEAVES)
    (tmp_path / "got").write_bytes(b"the old one")
    removed = [file for file in Path(store.address).rglob("*") if file.is_file()]
    largest = max(removed, key=lambda file: file.stat().st_size)
    largest.unlink()
    with pytest.raises(TransportError):
        fs.get(path, str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == b"the old one"
    assert {entry.name for entry in tmp_path.iterdir()} <= {"got", "store", "home"}


def test_chained_urls_read_archives_and_caches(store, tmp_path):
    root = store.tree({"a.zip": zip_bytes({"names.txt": LINES})})
    options = {"ipfsdataset": {"ipfs_api_address": store.address}}
    url = f"ipfsdataset://{root}/a.zip"
    with fsspec.open(f"zip://names.txt::{url}", **options) as file:
        assert file.read() == LINES
    caching = {"cache_storage": str(tmp_path / "cache")}
    with fsspec.open(f"filecache::{url}", filecache=caching, **options) as file:
        assert zipfile.ZipFile(file).read("names.txt") == LINES


def test_a_pickled_open_file_keeps_its_position(fs, path):
    with fs.open(path) as file:
        file.seek(1234)
        file.read(10)
        with pickle.loads(pickle.dumps(file)) as again:
            assert again.tell() == 1244
            assert again.read(100) == file.read(100) == DATA[1244:1344]
            assert again.info() == file.info()
