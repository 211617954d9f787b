"""Paths, listings and information about files, from the embedded store."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import fsspec
import pytest
from fsspec.core import url_to_fs
from ipfs_dataset_fsspec import IPFSDatasetFileSystem, IsDirectoryError, ReadOnlyError
from ipfs_dataset_fsspec.paths import canonical

from ipfs_dataset_core import (
    AddressError,
    FormatError,
    IPFSDatasetError,
    LimitError,
    Limits,
    ObjectNotFoundError,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    RAW,
    NodeType,
    build_symlink,
    dag_pb,
    get_profile,
    make_cid,
)
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import noise

FILES = {
    "a.txt": b"some text",
    "big/noise.bin": noise(3_000_000),
    "big/deep/empty": b"",
    "odd/100%25 of it? #1 [x].csv": b"1,2\n",
    "odd/ends with a space ": b"here",
    "odd/\udcff\udcfe": b"a name that is not UTF-8",
}


@pytest.fixture
def root(store):
    return store.tree(FILES)


def put(store, *blocks):
    """Stores blocks and returns the CID of the last."""
    with_cids = [(make_cid(block, codec), block) for block, codec in blocks]
    FolderStore(Path(store.address)).put_blocks(with_cids)
    return with_cids[-1][0]


def directory(*links):
    """Returns the block of a directory; a link is a name, a CID and the size that is claimed."""
    named = [
        (cid.to_bytes(), name.encode(errors="surrogateescape"), tsize) for name, cid, tsize in links
    ]
    return dag_pb.encode(UnixFS(NodeType.DIRECTORY).encode(), named), DAG_PB


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ipfsdataset://CID/a/b", "CID/a/b"),
        ("ipfs://CID/a/", "CID/a"),
        ("IPFS://CID", "CID"),
        ("/ipfs/CID/a", "CID/a"),
        ("ipfsdataset:///ipfs/CID", "CID"),
        ("CID", "CID"),
        ("ipns://name/a", "ipns/name/a"),
        ("ipfsdataset://ipns/name/a", "ipns/name/a"),
        ("/ipns/name", "ipns/name"),
        ("ipfs://CID/ipfs/a%20b?c", "CID/ipfs/a%20b?c"),
        ("", ""),
        ("ipfsdataset://", ""),
    ],
)
def test_urls_and_paths_have_one_canonical_form(written, meant):
    assert canonical(written) == meant
    assert canonical(meant) == meant
    assert IPFSDatasetFileSystem._strip_protocol([written]) == [meant]


def test_a_url_is_resolved_to_a_filesystem_and_a_path(store, root):
    options = {"ipfs_api_address": store.address}
    fs, path = url_to_fs(f"ipfsdataset://{root}/big/deep/", **options)
    assert isinstance(fs, IPFSDatasetFileSystem)
    assert path == f"{root}/big/deep"
    assert url_to_fs(fs.unstrip_protocol(path), **options) == (fs, path)


def test_info_describes_files_and_directories(fs, root):
    about = fs.info(f"ipfsdataset://{root}/a.txt")
    cid = str(make_cid(b"some text", RAW))
    assert about == {"name": f"{root}/a.txt", "size": 9, "type": "file", "CID": cid}
    assert fs.info(cid) == {**about, "name": cid}
    assert fs.info(root) == {"name": root, "size": 0, "type": "directory", "CID": root}
    assert fs.size(f"{root}/big/noise.bin") == 3_000_000
    assert fs.ukey(f"{root}/a.txt") == fs.ukey(f"/ipfs/{root}/a.txt")


def test_listings_agree_with_info(fs, root):
    found = fs.find(root, withdirs=True, detail=True)
    assert {name: fs.info(name) for name in found} == found
    assert [i["name"] for i in fs.ls(root)] == [
        f"{root}/{name}" for name in ("a.txt", "big", "odd")
    ]
    assert fs.ls(f"{root}/big", detail=False) == [f"{root}/big/deep", f"{root}/big/noise.bin"]
    assert fs.ls(f"{root}/a.txt") == [fs.info(f"{root}/a.txt")]
    assert fs.ls(f"{root}/a.txt", detail=False) == [f"{root}/a.txt"]


def test_find_and_glob_return_all_files(fs, root):
    assert fs.find(root) == sorted(f"{root}/{name}" for name in FILES)
    assert fs.find(f"{root}/a.txt") == [f"{root}/a.txt"]
    assert fs.find(root, maxdepth=1) == [f"{root}/a.txt"]
    assert fs.glob(f"{root}/**/*.bin") == [f"{root}/big/noise.bin"]
    assert fs.glob(f"{root}/b*") == [f"{root}/big"]
    assert fs.glob(f"{root}/none*") == fs.find(f"{root}/none") == []
    assert fs.du(root) == sum(map(len, FILES.values()))
    assert fs.du(f"{root}/big", total=False) == {
        f"{root}/big/deep/empty": 0,
        f"{root}/big/noise.bin": 3_000_000,
    }


def test_walk_goes_top_down_or_bottom_up_and_can_be_pruned(fs, root):
    down = list(fs.walk(root))
    assert down[0] == (root, ["big", "odd"], ["a.txt"])
    assert [level[0] for level in down] == [root, f"{root}/big", f"{root}/big/deep", f"{root}/odd"]
    up = [level[0] for level in fs.walk(root, topdown=False)]
    assert up == [f"{root}/big/deep", f"{root}/big", f"{root}/odd", root]
    entered = []
    for path, dirs, _ in fs.walk(root):
        entered.append(path)
        if "odd" in dirs:
            dirs.remove("odd")
            dirs.append("not there")
        dirs.sort(reverse=True)
    assert entered == [root, f"{root}/big", f"{root}/big/deep"]
    assert list(fs.walk(f"{root}/a.txt")) == [(f"{root}/a.txt", [], [""])]


@pytest.mark.parametrize("name", FILES)
def test_names_with_special_characters_are_not_decoded(fs, root, name):
    assert fs.cat_file(f"ipfsdataset://{root}/{name}") == FILES[name]


def test_exists_isdir_and_isfile(fs, root):
    assert fs.exists(root)
    assert fs.exists(f"{root}/big/deep")
    assert fs.isdir(f"{root}/big")
    assert fs.isfile(f"{root}/a.txt")
    assert not fs.isfile(f"{root}/big")
    for path in (f"{root}/b", f"{root}/a.txt/below", f"{root}/big/../a.txt", "no CID", ""):
        assert not fs.exists(path)
        assert not fs.isdir(path)
        assert not fs.isfile(path)


@pytest.mark.parametrize("path", ["nowhere", "big/nowhere/a", "a.txt/below", "big/noise.bin/x/y"])
def test_a_missing_path_raises_file_not_found(fs, root, path):
    for ask in (fs.info, fs.ls, fs.open, fs.cat_file):
        with pytest.raises(ObjectNotFoundError) as caught:
            ask(f"{root}/{path}")
        assert isinstance(caught.value, FileNotFoundError)
        assert path.split("/")[-1] in str(caught.value) or path.split("/")[1] in str(caught.value)


def test_a_path_below_a_file_does_not_exist(fs, root):
    with pytest.raises(FileNotFoundError):
        fs.info(f"{root}/a.txt" + "/x" * 10_000)


def test_a_missing_block_does_not_make_a_file_missing(fs, root):
    lost = make_cid(b"nobody has this", RAW)
    for ask in (fs.info, fs.ls, fs.open, fs.exists, fs.isfile, fs.isdir):
        with pytest.raises(TransportError) as caught:
            ask(str(lost))
        assert not isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize(
    "path", ["", "no CID", "bafynonsense/a", "ROOT/a//b", "ROOT/..", "ROOT/\ud800"]
)
def test_an_invalid_path_raises_an_error_that_names_it(fs, root, path):
    with pytest.raises(AddressError, match=r"bafy|CID|no name"):
        fs.info(path.replace("ROOT", root))


def test_reading_a_directory_raises_an_error(fs, root):
    for ask in (fs.open, fs.cat_file, fs.object_file):
        with pytest.raises(IsADirectoryError, match="big' is a directory") as caught:
            ask(f"{root}/big")
        assert isinstance(caught.value, IsDirectoryError)
        assert isinstance(caught.value, FormatError)


@pytest.mark.parametrize("mode", ["wb", "ab", "xb", "r+b", "w"])
def test_opening_for_writing_raises_an_error(fs, root, mode):
    for kind in (NotImplementedError, OSError, IPFSDatasetError):
        with pytest.raises(kind, match="read-only"):
            fs.open(f"{root}/a.txt", mode)


@pytest.mark.parametrize(
    "write",
    [
        lambda fs, path: fs.mkdir(path),
        lambda fs, path: fs.makedirs(path, exist_ok=True),
        lambda fs, path: fs.mkdirs(path),
        lambda fs, path: fs.rmdir(path),
        lambda fs, path: fs.rm(path, recursive=True),
        lambda fs, path: fs.rm_file(path),
        lambda fs, path: fs.delete(path),
        lambda fs, path: fs.mv(path, f"{path}2"),
        lambda fs, path: fs.cp(path, f"{path}2"),
        lambda fs, path: fs.cp_file(path, f"{path}2"),
        lambda fs, path: fs.put(__file__, path),
        lambda fs, path: fs.put_file(__file__, path),
        lambda fs, path: fs.pipe(path, b"data"),
        lambda fs, path: fs.pipe({path: b"data"}),
        lambda fs, path: fs.pipe_file(path, b"data"),
        lambda fs, path: fs.write_text(path, "text"),
        lambda fs, path: fs.touch(path),
        lambda fs, path: fs.touch(path, truncate=False),
        lambda fs, path: fs.get_mapper(path).__setitem__("key", b"data"),
    ],
)
def test_methods_that_write_raise_an_error(fs, root, write):
    with pytest.raises(ReadOnlyError, match="read-only"):
        write(fs, root)


def test_symlinks_are_listed_and_never_followed(store, fs, caplog):
    blocks = []
    emit = lambda cid, block: blocks.append((block, cid.codec))  # noqa: E731
    target = build_symlink("a.txt", get_profile("kubo-cidv1"), emit).cid
    file = make_cid(b"text", RAW)
    root = put(store, (b"text", RAW), *blocks, directory(("a.txt", file, 4), ("link", target, 0)))
    assert {i["name"][-5:]: i["type"] for i in fs.ls(str(root))} == {
        "a.txt": "file",
        "/link": "link",
    }
    assert fs.info(f"{root}/link") == fs.ls(str(root))[1]
    with caplog.at_level(logging.WARNING):
        assert fs.find(str(root)) == [f"{root}/a.txt"]
        for _ in range(2):
            assert fs.find(str(root), detail=True).keys() == {f"{root}/a.txt"}
    assert caplog.text.count("link' is a link, left out") == 1
    for path in (f"{root}/link", str(target)):
        with pytest.raises(FormatError, match="never followed"):
            fs.open(path)
    with pytest.raises(FormatError, match="symlink"):
        fs.info(f"{root}/link/below")
    assert not fs.exists(f"{root}/link/below")


def test_a_name_cannot_write_to_the_log(store, fs, caplog):
    blocks = []
    emit = lambda cid, block: blocks.append((block, cid.codec))  # noqa: E731
    target = build_symlink("a.txt", get_profile("kubo-cidv1"), emit).cid
    root = put(store, *blocks, directory(("\x1b[2J\nERROR forged\u202e\udcff", target, 0)))
    with caplog.at_level(logging.DEBUG):
        assert fs.find(str(root)) == fs.glob(f"{root}/*/**") == []
    assert "left out" in caplog.text
    assert all(len(record.getMessage().splitlines()) == 1 for record in caplog.records)
    assert not any(sign in caplog.text for sign in ("\x1b", "\u202e", "\udcff"))


def test_a_size_that_the_directory_does_not_declare_is_read_from_the_file(store, fs):
    identity = CID(1, RAW, b"\0\x04four")
    file = make_cid(b"text", RAW)
    foreign = make_cid(b"\xa0", 0x71)
    links = [("dag", foreign, 1), ("file", file, 0), ("identity", identity, 4)]
    root = put(store, (b"text", RAW), (b"\xa0", 0x71), directory(*links))
    sizes = {i["name"].rpartition("/")[2]: (i["type"], i["size"]) for i in fs.ls(str(root))}
    assert sizes == {"dag": ("other", None), "file": ("file", 4), "identity": ("file", 4)}
    assert fs.du(str(root)) == 8
    with pytest.raises(FormatError):
        fs.info(f"{root}/dag")


def test_a_wrong_size_in_a_directory_does_not_change_the_bytes_read(store, fs):
    file = make_cid(b"text", RAW)
    root = put(store, (b"text", RAW), directory(("file", file, 999)))
    assert fs.ls(str(root))[0]["size"] == 999
    assert fs.info(f"{root}/file")["size"] == 4
    assert fs.cat_file(f"{root}/file") == b"text"


def test_a_damaged_directory_does_not_make_a_file_missing(store, fs):
    file = make_cid(b"text", RAW)
    root = put(store, (b"text", RAW), directory(("file", file, 4), ("file", file, 4)))
    for ask in (fs.ls, fs.find, fs.du):
        with pytest.raises(VerificationError, match="twice"):
            ask(str(root))


def test_a_small_tree_with_too_many_paths_raises_an_error(store, reading):
    blocks = [directory(("file", CID(1, RAW, b"\0\x04four"), 4))]
    for _ in range(40):
        below = make_cid(*blocks[-1])
        blocks.append(directory(*((name, below, 1) for name in "abcdefgh")))
    root = str(put(store, *blocks))
    with pytest.raises(LimitError, match="deeper than 30"):
        next(reading(limits={"directory_depth": 30}).walk(root, topdown=False))
    with pytest.raises(LimitError, match="members"):
        reading(limits=Limits(members=5000)).find(root)


def test_changing_a_returned_listing_does_not_change_the_cache(fs, root):
    first = fs.ls(root)
    assert fs.ls(root) == first
    first[0]["name"] = "changed"
    assert fs.ls(root)[0]["name"] == f"{root}/a.txt"


def test_a_closed_filesystem_can_be_used_again(fs, root):
    assert fs.exists(root)
    fs.close()
    assert fs.cat_file(f"{root}/a.txt") == b"some text"


def test_an_unknown_option_raises_an_error_that_names_it(reading):
    with pytest.raises(TypeError, match="unknown option time_out"):
        reading(time_out=3)
    with pytest.raises(ValueError, match="timeout must be finite, from above 0"):
        reading(timeout=0)


def test_the_environment_configures_the_source(store, root, monkeypatch):
    monkeypatch.setenv("IPFS_DATASET_STORE", store.address)
    with fsspec.open(f"ipfsdataset://{root}/a.txt", "rt") as file:
        assert isinstance(file, io.TextIOWrapper)
        assert file.read() == "some text"


def test_without_a_source_the_error_names_what_to_set():
    with pytest.raises(AddressError, match="IPFS_GATEWAY"):
        fsspec.filesystem("ipfsdataset").info("bafkqaaa")
