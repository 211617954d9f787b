"""``info``, ``ls``, ``head`` and ``cat``: what an object is, on good, bad and missing input."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from ipfs_dataset.exporter import IPFSDatasetExporter
from tests.support.builders import one_file, tar_bytes, tree, zip_bytes
from tests.support.cli import run
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store, members

MEMBERS = members(12)
NOWHERE = "bafkreidy3i4km7levq7akk7rrswy7xpqneomvpbov2sewpizkktrihwnle"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def objects(store):
    pictures = [(Image.new("RGB", (32, 24), (i, 0, 0)), i) for i in range(5)]
    return {
        "published": IPFSDatasetExporter(store.address).export_to_ipfs(pictures),
        "zip": store.file(zip_bytes(MEMBERS)),
        "tar": store.file(tar_bytes(MEMBERS)),
        "tar.gz": store.file(tar_bytes(MEMBERS, "w:gz")),
        "folder": store.tree({**MEMBERS, "n/a.zip": zip_bytes(MEMBERS)}),
        "file": store.file(b"plain bytes"),
    }


KINDS = ["published", "zip", "tar", "tar.gz", "folder", "file"]


@pytest.mark.parametrize(
    ("kind", "what", "count"),
    [
        ("published", "published dataset", 5),
        ("zip", "archive", 12),
        ("tar", "archive", None),
        ("tar.gz", "archive", None),
        ("folder", "folder", None),
        ("file", "file", 1),
    ],
)
def test_info_shows_kind_count_and_size(store, objects, kind, what, count):
    done = run("info", objects[kind], "--from", store.address, "--json")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["cid"], found["kind"], found.get("count")) == (objects[kind], what, count)
    assert found["size"] > 0
    shown = run("info", objects[kind], "--from", store.address)
    assert shown.status == 0
    assert f"cid        {objects[kind]}" in shown.out or f"cid   {objects[kind]}" in shown.out
    assert f"store {store.address}" in shown.out


def test_info_of_a_published_dataset_describes_a_sample(store, objects):
    done = run("info", objects["published"], "--from", store.address)
    assert "(image 32x24, int)" in done.out
    found = json.loads(run("info", objects["published"], "--from", store.address, "--json").out)
    assert found["schema"] == ["image", "int"]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "folder"])
def test_ls_lists_names_in_order(store, objects, kind):
    done = run("ls", objects[kind], "--from", store.address, "--names")
    expected = [*MEMBERS, *(["n/a.zip"] if kind == "folder" else [])]
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == expected
    some = run("ls", objects[kind], "--from", store.address, "--start", 3, "--count", 2)
    assert [line.split()[-1] for line in some.out.splitlines()] == expected[3:5]


def test_ls_of_samples_shows_their_numbers_and_sizes(store, objects):
    done = run("ls", objects["published"], "--from", store.address, "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [item["name"] for item in found] == ["0", "1", "2", "3", "4"]
    assert all(item["size"] % 512 == 0 and item["size"] > 0 for item in found)
    raw = run("ls", objects["published"], "--from", store.address, "--raw", "--names")
    assert "manifest.json" in raw.out.splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_head_shows_the_first_samples(store, objects, kind):
    done = run("head", objects[kind], "--from", store.address, "-n", 3)
    assert (done.status, done.err) == (0, "")
    assert len(done.out.splitlines()) == (1 if kind == "file" else 3)
    found = json.loads(run("head", objects[kind], "--from", store.address, "--json").out)
    assert found[0]["number"] == 0


def test_head_draws_a_contact_sheet(store, objects, tmp_path):
    picture = tmp_path / "out.png"
    done = run("head", objects["published"], "--from", store.address, "--picture", picture)
    assert done.status == 0
    with Image.open(picture) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 3 * 128
        colours = {colour for _, colour in sheet.getcolors(1 << 20)}
    assert {(i, 0, 0) for i in range(5)} <= colours


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
def test_head_says_which_picture_cannot_be_written(store, objects, tmp_path):
    picture = tmp_path / "fifo"
    os.mkfifo(picture)
    done = run("head", objects["published"], "--from", store.address, "--picture", picture)
    assert done.status == 1
    assert f"{str(picture)!r}: it is a FIFO" in done.err
    assert len(done.out.splitlines()) == 5


@pytest.mark.parametrize(
    "sample",
    [
        torch.rand(3, 8, 8),
        torch.rand(8),
        np.zeros((4, 5), np.uint8),
        np.full((2, 2), np.nan),
        np.zeros((0, 3)),
        torch.tensor(3),
        {"x": torch.rand(1, 5, 5), "label": "größe\n日本"},
        "text",
        b"no picture",
        torch.rand(2, 2, 7, 3, 9),
        np.array(["a", "b"]),
        None,
        torch.rand(4, 4, dtype=torch.bfloat16),
        torch.rand(4, 4, requires_grad=True),
        torch.rand(4, 4).to_sparse(),
    ],
    ids=range(15),
)
def test_any_sample_can_be_drawn_in_a_contact_sheet(sample):
    from ipfs_dataset.operations.contact_sheet import contact_sheet

    assert contact_sheet([sample]).size == (128 + 16, 128 + 30)


def test_cat_writes_a_file_an_archive_or_an_item(store, objects):
    at = ("--from", store.address)
    assert run("cat", objects["file"], *at).raw == b"plain bytes"
    assert run("cat", objects["zip"], *at).raw == zip_bytes(MEMBERS)
    for kind in ("zip", "tar", "tar.gz", "folder"):
        assert run("cat", objects[kind], "m003.txt", *at).raw == MEMBERS["m003.txt"]
        assert run("cat", objects[kind], "4", *at).raw == MEMBERS["m004.txt"]
    assert run("cat", objects["tar"], "--all", *at).raw == b"".join(MEMBERS.values())


def test_cat_writes_one_file_of_a_sample(store, objects):
    at = ("--from", store.address)
    done = run("cat", objects["published"], "2", *at)
    assert done.status == 1
    assert "choose one by --field" in done.err
    fields = done.err.partition(" has ")[2].partition(":")[0].split(", ")
    [png] = [field for field in fields if field.endswith(".png")]
    data = run("cat", objects["published"], "2", "--field", png, *at).raw
    assert Image.open(io.BytesIO(data)).getpixel((0, 0)) == (2, 0, 0)


@pytest.mark.parametrize("command", ["info", "ls", "head", "cat", "get"])
def test_a_missing_or_malformed_object_is_an_error_in_one_line(store, command, tmp_path):
    extra = ("-o", tmp_path / "out") if command == "get" else ()
    for url, reason in (
        (NOWHERE, "has no block"),
        ("bafynonsense", "CID"),
        (tmp_path, "local path"),
    ):
        done = run(command, url, "--from", store.address, *extra)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("ipfs-dataset: ")
        assert reason in done.err
        assert "Traceback" not in done.err
    assert run(command).status == 2
    gone = run(command, NOWHERE, "--from", "/ip4/127.0.0.1/tcp/9", *extra)
    assert gone.status == 1
    assert "no node is running at" in gone.err


@pytest.mark.parametrize("command", ["cat", "get"])
def test_a_missing_item_is_an_error(store, objects, command, tmp_path):
    extra = ("-o", tmp_path / "out") if command == "get" else ()
    for kind in KINDS:
        for item in ("no-such", "77", "9" * 30, "9" * 5000):
            done = run(command, objects[kind], item, "--from", store.address, *extra)
            assert (done.status, done.out) == (1, "")
            assert item in done.err
            assert list(tmp_path.iterdir()) == []


def test_cat_of_missing_fields_lists_those_that_exist(store, objects):
    assert (
        "leave out --field"
        in run("cat", objects["file"], "--field", "x", "--from", store.address).err
    )
    done = run("cat", objects["published"], 0, "--field", "zz", "--from", store.address)
    assert (done.status, done.out) == (1, "")
    assert "has 0.png, 1.cls: choose one by --field" in done.err


def test_cat_of_a_folder_gives_the_command_to_use(store, objects):
    done = run("cat", objects["folder"], "--from", store.address)
    assert done.status == 1
    assert "--all" in done.err
    assert run("cat", objects["folder"], "x", "--all", "--from", store.address).status == 2


@pytest.mark.parametrize("arguments", [("info",), ("ls",)])
def test_commands_that_show_an_object_take_few_requests(arguments):
    root, blocks = one_file(zip_bytes(members(3000)))
    with GatewayServer(blocks) as gateway:
        assert run(*arguments, root, "--gateway", gateway.url).status == 0
        assert len(gateway.requests) <= 4


def test_control_characters_in_names_do_not_reach_the_terminal(store):
    cid = store.file(zip_bytes({"\x1b[2J\u202egpj.exe\n1.0 MB  other": b"x"}))
    for command in ("ls", "head"):
        done = run(command, cid, "--from", store.address)
        assert "\x1b" not in done.out
        assert len(done.out.splitlines()) == 1
        assert "\\x1b[2J\\u202egpj.exe\\n1.0 MB  other" in done.out


@pytest.mark.parametrize("profile", ["unixfs-v1-2025", "unixfs-v0-2015"])
def test_ls_shows_the_sizes_of_files_without_requests_for_them(profile):
    files = {**{f"{n:03}.txt": b"x" * n for n in range(1, 40)}, "n/large.bin": bytes(600_000)}
    root, blocks = tree(files, profile)
    counts = []
    for more in ((), ("--names",)):
        with GatewayServer(blocks) as gateway:
            done = run("ls", root, "--gateway", gateway.url, "--json", *more)
            counts.append(len(gateway.requests))
        found = {item["name"]: item["size"] for item in map(json.loads, done.out.splitlines())}
    assert found == {name: len(data) for name, data in files.items()}
    assert counts[0] == counts[1]


def test_ls_raw_shows_the_sizes_of_the_files_of_a_published_dataset(store, objects):
    done = run("ls", objects["published"], "--from", store.address, "--raw", "--json")
    found = {item["name"]: item["size"] for item in map(json.loads, done.out.splitlines())}
    assert found["manifest.json"] == len(
        run("cat", f"{objects['published']}/manifest.json", "--from", store.address).raw
    )
    assert None not in found.values()


@pytest.fixture(scope="module")
def huge():
    """A folder in 300 blocks."""
    return tree({f"{number:05}-{'x' * 220}.txt": b"raw" for number in range(1300)})


def test_ls_unsorted_lists_the_same_names(huge, store):
    root, blocks = huge
    with GatewayServer(blocks) as gateway:
        listed = [
            run("ls", root, "--gateway", gateway.url, "--json", *more) for more in ((), ("-U",))
        ]
    assert [done.status for done in listed] == [0, 0]
    assert listed[0].out != listed[1].out
    assert sorted(listed[1].out.splitlines()) == listed[0].out.splitlines()
    for kind in (store.tree(MEMBERS), store.file(zip_bytes(MEMBERS)), store.file(b"bytes")):
        sorted_and_not = {run("ls", kind, "--from", store.address, *u).out for u in ((), ("-U",))}
        assert len(sorted_and_not) == 1


def test_ls_unsorted_of_a_few_names_takes_few_requests(huge):
    root, blocks = huge
    with GatewayServer(blocks, serve_car=False) as gateway:
        done = run("ls", root, "--gateway", gateway.url, "--unsorted", "--names", "--count", 3)
        assert len(gateway.requests) < 50
    assert len(done.out.splitlines()) == 3
