"""``diff``: what differs between two versions, and that what is equal is not fetched."""

from __future__ import annotations

import json

import attrs
import pytest

from ipfs_dataset import DatasetCard
from ipfs_dataset.exporter import IPFSDatasetExporter
from tests.support import builders
from tests.support.builders import noise, tar_bytes, tree, zip_bytes
from tests.support.cli import run
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store, blocks_in, members


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def diff(store, before, after):
    done = run("diff", before, after, "--from", store.address, "--json")
    assert done.err == ""
    found = json.loads(done.out)
    assert done.status == (0 if found["identical"] else 1)
    return found


FILES = {f"d{n // 10}/{n:02}.bin": noise(20_000, seed=n) for n in range(40)}


def test_folders_differ_by_their_files(store):
    after = {**FILES, "new/x": b"x", "d0/01.bin": b"changed"}
    del after["d3/35.bin"]
    found = diff(store, store.tree(FILES), store.tree(after))
    assert found["added"] == ["new/x"]
    assert found["removed"] == ["d3/35.bin"]
    assert found["changed"] == ["d0/01.bin"]
    assert found["new_bytes"] == 8
    assert found["gone_bytes"] == 40_000


def test_a_file_in_place_of_a_folder(store):
    found = diff(store, store.tree({"a": b"1", "b": b"2"}), store.tree({"a/x": b"1", "b": b"2"}))
    assert (found["added"], found["removed"], found["changed"]) == (["a/x"], ["a"], [])


def test_equal_cids_are_identical_without_reading(store):
    cid = store.tree(FILES)
    assert diff(store, cid, f"ipfs://{cid}")["identical"] is True
    done = run("diff", cid, cid, "--from", store.address)
    assert (done.status, done.out.split(";")[0]) == (0, "0 added, 0 removed, 0 changed")


def test_equal_folders_and_parts_of_large_ones_are_not_fetched():
    many = {f"big/{n:05}": b"%d" % n for n in range(9000)}
    blocks: builders.Blocks = {}
    roots = []
    for version in (FILES | many, FILES | many | {"big/04321": b"other"}):
        root, made = tree(version)
        roots.append(str(root))
        blocks |= made
    with GatewayServer(blocks) as gateway:
        done = run("diff", *roots, "--gateway", gateway.url, "--json")
        assert json.loads(done.out)["changed"] == ["big/04321"]
        assert len(gateway.requests) < 20


@pytest.mark.parametrize("make", [zip_bytes, tar_bytes])
def test_archives_differ_by_their_members(store, make):
    before = members(30)
    after = {"first.txt": b"new", **before, "m003.txt": b"changed"}
    del after["m007.txt"]
    found = diff(store, store.file(make(before)), store.file(make(after)))
    assert found["added"] == ["first.txt"]
    assert found["removed"] == ["m007.txt"]
    assert found["changed"] == ["m003.txt"]
    assert found["same"] == 28


def published(store, samples, card=None):
    exporter = IPFSDatasetExporter(store.address, shard_bytes=300_000)
    return exporter.export_to_ipfs(samples, card=card)


SAMPLES = [(noise(10_000, seed=n), n) for n in range(100)]


@pytest.mark.parametrize(
    ("change", "added", "removed", "changed"),
    [
        (lambda s: [*s, (b"new", 1)], ["100"], [], []),
        (lambda s: [(noise(10_000, seed=778), 1), *s], ["0"], [], []),
        (lambda s: s[:50] + s[51:], [], ["50"], []),
        (lambda s: [*s[:30], (noise(10_000, seed=777), 0), *s[31:]], [], [], ["30 -> 30"]),
        (
            lambda s: [
                (noise(10_000, seed=778), 1),
                *s[:30],
                (noise(10_000, seed=777), 0),
                *s[31:],
            ],
            ["0"],
            [],
            ["30 -> 31"],
        ),
        (lambda s: [(noise(10_000, seed=777), 0), *s[1:]], [], [], ["0 -> 0"]),
        (lambda s: s[50:] + s[:50], [], [], []),
        (lambda s: [*s, s[0]], ["100"], [], []),
        (lambda s: [(b"x", n) for n in range(3)], ["3"] * 0, None, ["0 -> 0"]),
    ],
    ids=range(9),
)
def test_datasets_differ_by_their_samples(store, change, added, removed, changed):
    found = diff(store, published(store, SAMPLES), published(store, change(SAMPLES)))
    assert found["changed"][: len(changed)] == changed
    if removed is not None:
        assert (found["added"], found["removed"], found["changed"]) == (added, removed, changed)
        assert found["same"] == 100 - len(removed) - len(changed)
    else:
        assert len(found["removed"]) + len(found["changed"]) == 100


@pytest.mark.parametrize("change", [lambda s: s[50:] + s[:50], lambda s: s[::-1]], ids=range(2))
def test_the_same_samples_in_another_order_differ(store, change):
    cids = [published(store, version) for version in (SAMPLES, change(SAMPLES))]
    done = run("diff", *cids, "--from", store.address)
    assert done.status == 1
    assert "0 changed, 100 equal, in another order; " in done.out
    assert diff(store, *cids)["reordered"]
    assert not diff(store, cids[0], published(store, SAMPLES[1:]))["reordered"]


CARD = DatasetCard(name="n", description="d", licence="MIT", classes=("cat", "dog"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"classes": ("cat", "wolf")}, ["classes"]),
        ({"name": "m", "description": "e"}, ["description", "name"]),
        ({"licence": ""}, ["licence"]),
    ],
    ids=["class renamed", "texts", "licence removed"],
)
def test_datasets_with_the_same_samples_differ_by_their_cards(store, change, expected):
    samples = [(noise(100, seed=n), n % 2) for n in range(10)]
    cids = [published(store, samples, card=card) for card in (CARD, attrs.evolve(CARD, **change))]
    done = run("diff", *cids, "--from", store.address, "--summary")
    assert done.status == 1
    assert done.out.startswith(f"~ card: {', '.join(expected)}\n0 added, 0 removed, 0 changed")
    found = diff(store, *cids)
    assert (found["card"], found["identical"], found["same"]) == (expected, False, 10)
    assert diff(store, cids[0], published(store, samples))["card"] == [
        "classes",
        "description",
        "licence",
        "name",
        "version",
    ]


def test_little_is_fetched_of_two_versions(tmp_path):
    samples = [(noise(50_000, seed=n), n) for n in range(120)]
    store = Store(tmp_path / "store")
    cids = [
        published(store, version) for version in (samples, [*samples, (noise(50_000, seed=999), 0)])
    ]
    blocks = {cid.multihash: data for cid, data in blocks_in(tmp_path / "store")}
    with GatewayServer(blocks) as gateway:
        done = run("diff", *cids, "--gateway", gateway.url, "--json")
        found = json.loads(done.out)
        assert (found["added"], found["removed"], found["changed"]) == (["120"], [], [])
        assert found["new_bytes"] < 1_000_000


def test_different_kinds_and_missing_objects_are_errors(store):
    one = store.file(zip_bytes(members(3)))
    done = run("diff", one, store.tree(FILES), "--from", store.address)
    # 1 is for what differs, as of diff(1) and git.
    assert (done.status, done.out) == (2, "")
    assert "objects of one kind" in done.err
    nowhere = str(builders.one_file(b"nowhere")[0])
    for wrong in (("diff", one, nowhere), ("diff", one, "no CID"), ("diff", nowhere, nowhere)):
        assert run(*wrong, "--from", store.address).status == 2
    assert run("diff", one, one, "--from", f"{store.address}/nowhere").status == 2
    assert run("diff", one).status == 2
    both = run("diff", *[store.file(text) for text in (b"one", b"two")], "--from", store.address)
    assert both.status == 1
    assert "1 changed" in both.out


def test_a_defect_has_another_status_than_a_difference(store, monkeypatch):
    def broken(*_, **__):
        raise KeyError("a defect")

    monkeypatch.setattr("ipfs_dataset.cli.diff.run", broken)
    done = run("diff", "a", "b", "--from", store.address)
    assert (done.status, "a defect" in done.err) == (2, True)
