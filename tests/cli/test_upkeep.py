"""``verify``, ``prefetch``, ``cache``, ``pin`` and ``store``: what keeps data whole and near."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.operations import verification
from ipfs_dataset.operations.prefetching import prefetch_dataset
from ipfs_dataset_core.errors import AddressError
from ipfs_dataset_core.ipld import CID
from tests.support.builders import noise, one_file, tree, zip_bytes
from tests.support.cli import run
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store, blocks_in, members

FILES = {f"{number:02}": noise(400_000, seed=number) for number in range(12)}


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A home in which no other test has left a record."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def path_of(store, data):
    cid, _ = one_file(data)
    return next(
        p for p in Path(store.address).rglob("*") if p.name == str(CID(1, 0x55, cid.multihash))
    )


@pytest.mark.parametrize("kind", ["folder", "file", "published"])
def test_verify_reads_everything_and_reports_it_intact(store, kind):
    cid = {
        "folder": lambda: store.tree({**FILES, "n/empty": b""}),
        "file": lambda: store.file(noise(3_000_000)),
        "published": lambda: IPFSDatasetExporter(store.address).export_to_ipfs([noise(1000)] * 9),
    }[kind]()
    done = run("verify", cid, "--from", store.address, "--json")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["verified"] is True
    assert found["cid"] == cid
    assert found["bytes"] == {"folder": 4_800_000, "file": 3_000_000}.get(kind, found["bytes"])
    assert "everything matches its CID" in run("verify", cid, "--from", store.address).out


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_verify_names_what_is_damaged_or_missing_and_reads_the_rest(store, damage):
    cid = store.tree(FILES)
    path = path_of(store, FILES["05"])
    path.write_bytes(b"other bytes") if damage == "changed" else path.unlink()
    for _ in range(2):  # the second run goes on behind what the first has verified
        done = run("verify", cid, "--from", store.address, "--json")
        assert done.status == 1
        found = json.loads(done.out)
        assert found["verified"] is False
        assert len(found["failures"]) == 1
        assert "05" in done.err
    first = run("verify", cid, "--again", "--from", store.address, "--json")
    assert json.loads(first.out)["bytes"] == 11 * 400_000
    store.tree(FILES)
    mended = json.loads(run("verify", cid, "--from", store.address, "--json").out)
    assert mended["verified"] is True
    assert mended["bytes"] + mended["resumed_bytes"] == 12 * 400_000
    # What was verified before the damage is not read again, what failed is.
    assert mended["bytes"] >= 400_000


def test_a_stopped_verification_is_resumed(monkeypatch):
    monkeypatch.setattr(verification, "_PIECE_BYTES", 100_000)
    monkeypatch.setattr(verification, "_SECONDS_BETWEEN_RECORDS", -1.0)
    root, blocks = tree(FILES)
    seen = 0

    def stop(size):
        nonlocal seen
        seen += size
        if seen > 2_000_000:
            raise KeyboardInterrupt

    with GatewayServer(blocks) as gateway:
        with pytest.raises(KeyboardInterrupt):
            verification.verify_object(str(root), gateways=gateway.url, progress=stop)
        again = verification.verify_object(str(root), gateways=gateway.url)
    assert again.failures == []
    assert 0 < again.resumed_bytes < 4_800_000
    assert again.bytes + again.resumed_bytes == 4_800_000


def test_verify_checks_bytes_that_the_cache_has(store):
    """A gateway that lies is found out."""
    root, blocks = one_file(noise(300_000))
    lying = {key: (data[:-1] + b"x" if len(data) > 1000 else data) for key, data in blocks.items()}
    with GatewayServer(lying) as gateway:
        done = run("verify", root, "--gateway", gateway.url)
    assert done.status == 1
    assert "not that block" in done.err or "does not match" in done.err or "not what" in done.err


def test_prefetch_fills_a_cache_that_works_offline(tmp_path):
    root, blocks = one_file(zip_bytes({f"{n}": noise(50_000, seed=n) for n in range(20)}))
    cache = tmp_path / "cache"
    with GatewayServer(blocks) as gateway:
        at = ("--gateway", gateway.url, "--cache", cache)
        done = run("prefetch", root, *at, "--json")
        assert (done.status, done.err) == (0, "")
        assert json.loads(done.out) == {"cid": str(root), "samples": 20, "of": 20}
        before = len(gateway.requests)
        assert run("prefetch", root, *at).status == 0
        assert len(gateway.requests) - before <= 1
    offline = ("--gateway", gateway.url, "--cache", cache, "--offline")
    assert run("cat", root, "7", *offline).raw == noise(50_000, seed=7)


def test_ranks_prefetch_their_shares(tmp_path, store):
    cid = store.file(zip_bytes(members(20)))
    counts = []
    for rank in range(3):
        at = ("--from", store.address, "--cache", tmp_path / f"cache{rank}")
        done = run("prefetch", cid, *at, "--rank", rank, "--world", 3, "--start", 5, "--json")
        counts.append(json.loads(done.out)["samples"])
    assert sum(counts) == 15
    assert max(counts) - min(counts) <= 1
    for wrong, option in (
        (("--rank", 3, "--world", 3), "--rank must be from 0 to 2"),
        (("--world", 0), "--world"),
        (("--start", -5), "--start"),
        (("--stop", -1), "--stop"),
        (("--start", 5, "--stop", 4), "--stop 4 is before --start 5"),
    ):
        refused = run("prefetch", cid, *at, *wrong)
        assert (refused.status, refused.out) == (2, "")
        assert option in refused.err
    with pytest.raises(AddressError, match="numbered from 0"):
        prefetch_dataset(cid, store.address, start=-5)
    assert "give --cache FOLDER" in run("prefetch", cid, "--from", store.address).err


@pytest.mark.filterwarnings("ignore::ipfs_dataset_core.errors.IPFSDatasetWarning")
def test_prefetch_reports_that_the_cache_could_not_keep_blocks(tmp_path, store):
    cid = store.file(zip_bytes(members(20)))
    (tmp_path / "file").write_bytes(b"mine")
    done = run("prefetch", cid, "--from", store.address, "--cache", tmp_path / "file")
    assert (done.status, done.out) == (1, "")
    assert "0 of 20 samples were read, but the cache could not keep all of them" in done.err
    assert (tmp_path / "file").read_bytes() == b"mine"
    # Reading alone continues without a cache.
    done = run("ls", cid, "--from", store.address, "--cache", tmp_path / "file")
    assert done.status == 0


def test_prefetch_reports_that_a_small_cache_has_removed_blocks_again(tmp_path, store, monkeypatch):
    monkeypatch.setenv("IPFS_DATASET_CACHE_SIZE", "2M")
    cid = store.file(zip_bytes({f"{n}": noise(100_000, seed=n) for n in range(90)}))
    done = run("prefetch", cid, "--from", store.address, "--cache", tmp_path / "cache")
    assert (done.status, done.out) == (1, "")
    assert "of 90 samples were read, but the cache could not keep all of them" in done.err
    assert "give a larger IPFS_DATASET_CACHE_SIZE=" in done.err


@pytest.mark.parametrize("name", ["bad\udcff", "a" * 256, "é" * 128])
def test_a_name_that_no_pin_can_have_is_refused_before_anything_is_published(tmp_path, store, name):
    cid = store.file(b"data")
    (tmp_path / "f").write_bytes(b"x")
    for command in (
        ("pin", "add", cid, "--at", store.address),
        ("publish", tmp_path / "f", "--to", tmp_path / "new"),
        ("publish", tmp_path / "f", "--as", "dataset", "--to", tmp_path / "new"),
    ):
        done = run(*command, "--name", name)
        assert (done.status, done.out) == (1, "")
        assert "cannot be the name of a pin" in done.err
    assert not (tmp_path / "new" / "blocks").exists()


def test_a_cache_is_listed_checked_and_emptied(tmp_path, store, monkeypatch):
    cid = store.file(zip_bytes({f"{n}": noise(90_000, seed=n) for n in range(9)}))
    cache = tmp_path / "cache"
    assert run("prefetch", cid, "--from", store.address, "--cache", cache).status == 0
    found = json.loads(run("cache", "ls", cache, "--json").out)
    assert found["blocks"] > 0
    assert found["block_bytes"] > 9 * 90_000
    sound = json.loads(run("cache", "verify", cache, "--json").out)
    assert (sound["blocks"], sound["damaged"]) == (found["blocks"], [])
    victim = next(path for path in (cache / "blocks").rglob("*") if path.is_file())
    victim.write_bytes(b"damaged")
    (cache / "mine.txt").write_text("not the cache's")
    monkeypatch.setenv("IPFS_DATASET_CACHE_DIR", str(cache))
    checked = run("cache", "verify")
    assert checked.status == 1
    assert victim.name in checked.err
    assert run("cache", "verify").status == 0
    assert run("cache", "clear").status == 0
    assert json.loads(run("cache", "ls", "--json").out)["blocks"] == 0
    assert list(blocks_in(cache)) == []
    assert (cache / "mine.txt").exists()


def test_a_folder_that_is_not_a_cache_is_left_alone(tmp_path, monkeypatch, store):
    monkeypatch.delenv("IPFS_DATASET_CACHE_DIR", raising=False)
    assert run("cache", "ls").status == 2
    assert "There is no cache" in run("cache", "ls", tmp_path / "none").err
    store.file(b"kept")
    for action in ("ls", "clear", "verify"):
        done = run("cache", action, store.address)
        assert (done.status, done.out) == (1, "")
    assert len(list(blocks_in(Path(store.address)))) == 1


def test_pins_are_added_listed_and_removed(tmp_path):
    folder = tmp_path / "store"
    for name in ("a", "b"):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    at = ("--at", folder)
    cid = run("publish", tmp_path / "source", "--to", folder).out.strip()
    assert run("pin", "ls", *at).out.split() == [cid]
    assert run("pin", "add", cid, "--name", "mine", *at).out.split() == [cid, "mine"]
    assert json.loads(run("pin", "ls", "--json", *at).out) == [
        {"cid": cid, "name": "mine", "kind": "recursive"}
    ]
    kept = run("store", "clean", folder, "--json")
    assert (kept.status, kept.err) == (0, "")
    assert json.loads(kept.out)["needed_blocks"] == 3
    assert run("pin", "rm", cid, *at).status == 0
    assert run("pin", "rm", cid, *at).status == 1
    assert "would remove 3 blocks" in run("store", "clean", folder, "--dry-run").out
    assert run("store", "clean", folder).status == 0
    assert list(blocks_in(folder)) == []


def test_wrong_arguments_of_pin_are_named(store, tmp_path):
    at = ("--at", store.address)
    assert run("pin", "add", *at).status == 2
    assert run("pin", "ls", "bafkqaaa", *at).status == 2
    assert run("pin", "ls", "--name", "x", *at).status == 2
    assert run("pin", "rm", "bafkqaaa", "--node", "/ip4/127.0.0.1/tcp/9", *at).status == 2
    refused = run("pin", "add", store.file(b"x"), "--node", "/ip4/127.0.0.1/tcp/9", *at)
    assert refused.status == 1
    assert "is not a pinning service" in refused.err
    assert run("pin", "add", "nonsense", *at).status == 1
    assert run("pin", "ls", "--at", "/ip4/127.0.0.1/tcp/9").status == 1
    assert run("pin", "ls", "--at", tmp_path / "none").status == 1
    assert run("store", "clean", tmp_path / "none").status == 1
