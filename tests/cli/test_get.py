"""``get``: whole files, where they belong, and no byte twice."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.operations.contents import open_contents
from ipfs_dataset.operations.download import SCRATCH, download, relative_path
from ipfs_dataset_core.errors import AddressError, FormatError
from tests.support.builders import noise, one_file, tar_bytes, tree, zip_bytes
from tests.support.cli import run
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store, members

MEMBERS = {"a/b/c.txt": b"deep", "größe/ä b.txt": b"wide", **members(70)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda store: store.file(zip_bytes(MEMBERS)),
        lambda store: store.file(tar_bytes(MEMBERS)),
        lambda store: store.file(tar_bytes(MEMBERS, "w:gz")),
        lambda store: store.tree(MEMBERS),
    ],
    ids=["zip", "tar", "tar.gz", "folder"],
)
def test_files_are_written_once_and_kept_by_the_second_run(store, tmp_path, make):
    arguments = ("get", make(store), "--from", store.address, "-o", tmp_path / "out", "--json")
    done = run(*arguments)
    assert (done.status, done.err) == (0, "")
    size = sum(map(len, MEMBERS.values()))
    assert json.loads(done.out) == {
        "path": str(tmp_path / "out"), "written": 72, "kept": 0, "bytes": size, "refused": [],
    }  # fmt: skip
    assert files_in(tmp_path / "out") == MEMBERS
    again = json.loads(run(*arguments).out)
    assert (again["written"], again["kept"]) == (0, 72)
    (tmp_path / "out" / "m001.txt").write_bytes(b"mine")
    refused = run(*arguments)
    assert refused.status == 1
    assert "m001.txt' exists with other content" in refused.err
    assert run(*arguments, "--overwrite").status == 0
    assert files_in(tmp_path / "out") == MEMBERS


def test_samples_are_written_as_their_files(store, tmp_path):
    pictures = [(Image.new("RGB", (4, 4), (i, 0, 0)), i) for i in range(12)]
    cid = IPFSDatasetExporter(store.address).export_to_ipfs(pictures)
    assert run("get", cid, "--from", store.address, "-o", tmp_path / "out").status == 0
    found = files_in(tmp_path / "out")
    assert len(found) == 24
    for number in range(12):
        [png, label] = sorted(
            (n for n in found if n.startswith(f"{number:02}.")), key=lambda n: n.endswith(".cls")
        )
        assert Image.open(tmp_path / "out" / png).getpixel((0, 0)) == (number, 0, 0)
        assert found[label] == str(number).encode()
    one = run("get", cid, "7", "--from", store.address, "-o", tmp_path / "seven")
    assert one.status == 0
    assert len(files_in(tmp_path / "seven")) == 2
    raw = run("get", cid, "--raw", "--from", store.address, "-o", tmp_path / "raw")
    assert raw.status == 0
    assert "manifest.json" in files_in(tmp_path / "raw")


def test_one_item_is_one_file(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cid = store.file(zip_bytes(MEMBERS))
    assert run("get", cid, "a/b/c.txt", "--from", store.address).status == 0
    assert files_in(tmp_path) == {"c.txt": b"deep"}
    assert run("get", cid, "a/b/c.txt", "--from", store.address, "-o", "x/y").status == 0
    assert (tmp_path / "x" / "y").read_bytes() == b"deep"
    plain = store.file(b"plain")
    assert run("get", plain, "--from", store.address).status == 0
    assert (tmp_path / plain).read_bytes() == b"plain"
    done = run("get", plain, "--from", store.address, "-o", "x")
    assert done.status == 0
    assert (tmp_path / "x" / plain).read_bytes() == b"plain"


def test_a_file_may_have_a_name_of_as_many_bytes_as_a_system_allows(store, tmp_path):
    out = tmp_path / ("日" * 85)
    assert run("get", store.file(b"plain"), "--from", store.address, "-o", out).status == 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b"plain"


def test_bytes_are_printed_as_json(store):
    cid = store.file(zip_bytes({"a.txt": "größe".encode(), "b.bin": b"\xff\x00"}))
    done = run("cat", cid, "--all", "--json", "--from", store.address)
    assert done.status == 0
    assert list(map(json.loads, done.out.splitlines())) == [
        {"name": "a.txt", "size": 7, "text": "größe"},
        {"name": "b.bin", "size": 2, "base64": "/wA="},
    ]
    one = json.loads(run("cat", cid, "b.bin", "--json", "--from", store.address).out)
    assert one["name"] == "b.bin"
    assert run("cat", cid, "b.bin", "--json", "-o", "x", "--from", store.address).status == 2


HOSTILE = [
    "../up.txt",
    "/etc/absolute.txt",
    "a/../../up.txt",
    "..",
    "a//b",
    "C:\\windows.txt",
    "C:drive.txt",
    "..\\up.txt",
    "nul",
    "com1.txt",
    "a/LPT9",
    "aux.tar.gz",
    "dot.",
    "space ",
    "stream.txt:hidden",
    "line\nfeed",
    "x" * 256,
    f"{SCRATCH}/progress.json",
    "what?",
    f"{SCRATCH.upper()}/progress.json",
    "lone surrogate \ud800",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(FormatError):
        relative_path(name)


@pytest.mark.parametrize(
    "name", ["a.txt", "./a.txt", "größe/ä b.txt", ".hidden", "a..b", "~x", "-n"]
)
def test_names_inside_the_folder_are_accepted(name):
    assert relative_path(name).as_posix() == name.removeprefix("./")


def test_names_that_some_systems_cannot_store_are_left_out_and_the_others_are_written(
    store, tmp_path
):
    names = ["nul", "a/com1.txt", "a:b", "good.txt"]
    cid = store.file(tar_bytes({name: name.encode() for name in names}))
    done = run("get", cid, "--from", store.address, "-o", tmp_path / "out", "--json")
    assert done.status == 1
    assert len(json.loads(done.out)["refused"]) == 3
    assert done.err.count("not written") == 3
    assert files_in(tmp_path) == {"out/good.txt": b"good.txt"}


@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
@pytest.mark.parametrize("name", ["../up.txt", "{}/absolute.txt", "a/../../up.txt"])
def test_hostile_archives_write_nothing_outside(store, tmp_path, make, name):
    name = name.format(tmp_path)
    cid = store.file(make({name: b"evil", "good.txt": b"good"}))
    out = tmp_path / "in" / "out"
    assert run("get", cid, "--from", store.address, "-o", out).status == 1
    assert not (tmp_path / "absolute.txt").exists()
    assert not (tmp_path / "in" / "up.txt").exists()
    allowed = {"good.txt", f"{SCRATCH}/object.json", f"{SCRATCH}/written.jsonl"}
    assert set(files_in(tmp_path)) <= {f"in/out/{name}" for name in allowed}


def test_a_path_that_is_too_long_for_the_system_is_left_out(store, tmp_path):
    long = "/".join(["x" * 200] * 30)
    cid = store.file(tar_bytes({f"{long}/a": b"1", "good.txt": b"good"}))
    done = run("get", cid, "--from", store.address, "-o", tmp_path / "out", "--json")
    assert done.status == 1
    [reason] = json.loads(done.out)["refused"]
    assert "not a path that this system allows" in reason
    assert (tmp_path / "out" / "good.txt").read_bytes() == b"good"


def test_a_symlink_in_the_output_folder_is_not_followed(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").symlink_to(outside)
    (out / "m000.txt").symlink_to(outside / "m000.txt")
    cid = store.file(zip_bytes(MEMBERS))
    done = run("get", cid, "--from", store.address, "-o", out)
    assert done.status == 1
    assert done.err.count("not written") == 2
    assert list(outside.iterdir()) == []


def test_the_download_of_a_large_file_is_resumed(tmp_path):
    data = noise(3_000_000)
    root, blocks = one_file(data, "unixfs-v0-2015")
    part = tmp_path / "out.ipfs-part"
    # A whole leaf, and then what a disk made of the next.
    part.write_bytes(data[: 9 * 262_144] + b"\0" * 5000)
    with GatewayServer(blocks) as gateway:
        done = run("get", root, "--gateway", gateway.url, "-o", tmp_path / "out", "--json")
        assert done.status == 0
        assert json.loads(done.out)["bytes"] == 3_000_000 - 9 * 262_144
    assert (tmp_path / "out").read_bytes() == data
    assert not part.exists()


def test_a_folder_that_holds_another_download_is_refused(store, tmp_path):
    one, two = store.file(zip_bytes(MEMBERS)), store.file(zip_bytes(members(5)))
    stop = iter(range(9))

    def progress(files, size):
        if next(stop) == 8:
            raise KeyboardInterrupt

    with open_contents(one, store.address) as contents, pytest.raises(KeyboardInterrupt):
        download(contents, tmp_path, progress=progress)
    assert (tmp_path / SCRATCH).is_dir()
    done = run("get", two, "--from", store.address, "-o", tmp_path)
    assert done.status == 1
    assert "holds part of another download" in done.err
    resumed = run("get", one, "--from", store.address, "-o", tmp_path, "--json")
    counts = json.loads(resumed.out)
    assert (counts["written"], counts["kept"]) == (72 - 9, 9)
    assert files_in(tmp_path) == MEMBERS


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks on Windows")
def test_two_downloads_do_not_write_to_one_place(store, tmp_path):
    import fcntl

    cid = store.file(zip_bytes(MEMBERS))
    folder, one = tmp_path / "out", tmp_path / "one"
    (folder / SCRATCH).mkdir(parents=True)
    places = [(folder / SCRATCH / "lock", folder), (tmp_path / "one.ipfs-part", one)]
    for lock, place in places:
        item = [] if place is folder else ["m001.txt"]
        arguments = ("get", cid, *item, "--from", store.address, "-o", place)
        with lock.open("wb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            refused = run(*arguments)
            assert refused.status == 1
            assert f"{str(place)!r} is being written by another process" in refused.err
        assert run(*arguments).status == 0
    assert files_in(tmp_path) == {
        "one": MEMBERS["m001.txt"],
        **{f"out/{name}": data for name, data in MEMBERS.items()},
    }


def test_downloads_at_the_same_time_write_whole_files(store, tmp_path):
    """Each writes all files, or is refused: what they write is never mixed."""
    cid = store.file(zip_bytes({f"{n:02}": noise(200_000, seed=n) for n in range(20)}))
    refused = []

    def one():
        try:
            with open_contents(cid, store.address) as contents:
                download(contents, tmp_path / "out")
        except AddressError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) < 4
    assert all("being written by another process" in reason for reason in refused)
    assert files_in(tmp_path / "out") == {f"{n:02}": noise(200_000, seed=n) for n in range(20)}


def test_a_dash_is_standard_output_for_cat_and_refused_by_get(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cid = store.file(zip_bytes(MEMBERS))
    shown = run("cat", cid, "a/b/c.txt", "--from", store.address, "-o", "-")
    assert (shown.status, shown.out) == (0, "deep")
    refused = run("get", cid, "a/b/c.txt", "--from", store.address, "-o", "-")
    assert (refused.status, refused.out) == (2, "")
    assert list(tmp_path.iterdir()) == []


def stopped(contents, folder, after):
    """Begins a download, and stops it behind some files."""
    left = iter(range(after))

    def progress(files, size):
        if next(left) == after - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(contents, folder, progress=progress)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("change", ["removed", "longer", "as long", "another folder"])
def test_a_file_changed_after_an_interrupted_download_is_detected(store, tmp_path, kind, change):
    cid = store.tree(MEMBERS) if kind == "folder" else store.file(zip_bytes(MEMBERS))
    with open_contents(cid, store.address) as contents:
        stopped(contents, tmp_path, 9)
    names = sorted(MEMBERS)[:6]
    path = tmp_path / names[2]
    if change == "removed":
        path.unlink()
    elif change == "longer":
        path.write_bytes(MEMBERS[names[2]] + b"!")
    elif change == "as long":
        path.write_bytes(b"?" * len(MEMBERS[names[2]]))
        os.utime(path, (1, 1))  # the clock of files may stand still for some milliseconds
    else:
        path.rename(tmp_path.parent / "elsewhere")
        path.parent.mkdir(exist_ok=True)
    resumed = run("get", cid, "--from", store.address, "-o", tmp_path)
    if change in ("longer", "as long"):
        assert resumed.status == 1
        assert f"{str(path)!r} exists with other content" in resumed.err
        assert path.read_bytes() != MEMBERS[names[2]]
        resumed = run("get", cid, "--from", store.address, "-o", tmp_path, "--overwrite")
    assert (resumed.status, resumed.err) == (0, "")
    assert files_in(tmp_path) == MEMBERS


def test_names_left_out_before_an_interruption_are_reported_again(store, tmp_path):
    cid = store.file(zip_bytes({"a:b": b"x", **MEMBERS}))
    with open_contents(cid, store.address) as contents:
        stopped(contents, tmp_path, 9)
    resumed = run("get", cid, "--from", store.address, "-o", tmp_path, "--json")
    assert resumed.status == 1
    assert "some systems do not allow" in resumed.err
    assert len(json.loads(resumed.out)["refused"]) == 1
    assert files_in(tmp_path) == MEMBERS


def test_a_truncated_or_damaged_progress_record_is_no_error(store, tmp_path):
    cid = store.file(zip_bytes(MEMBERS))
    for damage in (b"", b"[[", b"null\n", b"[[[1]],[]]\n", b"\xff\n", b"[[],[]]"):
        folder = tmp_path / str(len(damage)) / damage.hex()
        with open_contents(cid, store.address) as contents:
            stopped(contents, folder, 9)
        log = folder / SCRATCH / "written.jsonl"
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[:4]) + damage)
        assert run("get", cid, "--from", store.address, "-o", folder).status == 0
        assert files_in(folder) == MEMBERS


def test_a_killed_download_is_resumed(tmp_path):
    files = {f"{number:03}": noise(40_000, seed=number) for number in range(100)}
    root, blocks = tree(files)
    out = tmp_path / "out"
    with GatewayServer(blocks) as gateway:
        command = [
            *(sys.executable, "-m", "ipfs_dataset", "get", str(root)),
            *("--gateway", gateway.url, "-o", str(out)),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not (out / "010").exists() and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        there = {name: data for name, data in files_in(out).items() if "/" not in name}
        assert all(files[name] == data for name, data in there.items())
        done = run("get", root, "--gateway", gateway.url, "-o", out)
        assert done.status == 0
    assert files_in(out) == files


def test_only_regular_files_are_replaced(store, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    cid = store.file(b"data")
    for more in ((), ("--overwrite",)):
        done = run("get", cid, "--from", store.address, "-o", tmp_path / "fifo", *more)
        assert (done.status, done.out) == (1, "")
        assert "is not a regular file" in done.err
    assert (tmp_path / "fifo").is_fifo()


def test_an_output_that_ends_in_a_slash_is_a_folder(store, tmp_path):
    for url, item, name in (
        (store.file(b"data"), (), None),
        (store.tree(MEMBERS), ("a/b/c.txt",), "c.txt"),
    ):
        folder = tmp_path / url
        assert run("get", url, *item, "--from", store.address, "-o", f"{folder}/").status == 0
        assert list(files_in(folder)) == [name or url]


def test_a_download_that_writes_nothing_leaves_no_folder(store, tmp_path):
    cid = store.file(tar_bytes(MEMBERS)[:700])
    assert run("get", cid, "--from", store.address, "-o", tmp_path / "out").status == 1
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    assert run("get", cid, "--from", store.address, "-o", tmp_path / "out").status == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


@pytest.mark.parametrize("file", ["object.json.new", "written.jsonl"])
def test_a_full_disk_is_an_error_with_the_name_of_the_folder_and_a_rerun_continues(
    store, tmp_path, monkeypatch, file
):
    """The record of the download is the first file that does not fit."""
    out = tmp_path / "out"
    arguments = ("get", store.tree(members(3)), "--from", store.address, "-o", out)
    really_open = io.open

    class Full(io.FileIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path, mode="r", *more, **named):
        if "b" not in mode and os.fspath(path).endswith(file):
            return io.TextIOWrapper(io.BufferedWriter(Full(path, "w")))
        return really_open(path, mode, *more, **named)

    with monkeypatch.context() as full:
        full.setattr(io, "open", opened)
        done = run(*arguments)
    assert (done.status, done.out) == (1, "")
    assert f"{str(out)!r}: No space left on device. Free some space there" in done.err
    assert out.exists() == (file == "written.jsonl")
    assert run(*arguments).status == 0
    assert files_in(out) == members(3)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("v1.0", "v1.0"),
        ("x.tar.gz", "x"),
        ("d.ZIP", "d"),
        ("50%25.zip", "50%25"),
        ("a b", "a b"),
        (".zip", ".zip"),
    ],
)
def test_the_output_folder_is_named_after_the_object(store, tmp_path, monkeypatch, name, folder):
    monkeypatch.chdir(tmp_path)
    archive = tar_bytes(MEMBERS, "w:gz") if "tar" in name else zip_bytes(MEMBERS)
    is_archive = name.lower().endswith((".zip", ".gz"))
    root = store.tree({name: archive} if is_archive else {f"{name}/f": b"x"})
    quoted = name.replace("%", "%25").replace(" ", "%20")
    assert run("get", f"ipfs://{root}/{quoted}", "--from", store.address).status == 0
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_the_error_of_an_item_that_is_a_folder_gives_its_url(store, tmp_path):
    cid = store.tree(MEMBERS)
    for command in ("get", "cat"):
        done = run(command, cid, "a/b", "--from", store.address)
        assert (done.status, done.out) == (1, "")
        assert f"by its own URL, '{cid}/a/b'" in done.err
    assert run("get", f"{cid}/a/b", "--from", store.address, "-o", tmp_path / "o").status == 0


def test_a_file_at_the_path_of_the_output_folder_is_an_error(store, tmp_path):
    (tmp_path / "out").write_bytes(b"")
    done = run("get", store.tree(MEMBERS), "--from", store.address, "-o", tmp_path / "out")
    assert done.status == 1
    assert "is a file: name a folder" in done.err
