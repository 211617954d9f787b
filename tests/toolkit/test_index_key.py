"""Indexes in a cache that others write: only what this user made is used."""

from __future__ import annotations

import gc
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset.ipfs_dataset import IPFSDataset
from ipfs_dataset_core import Limits, NameTable
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.toolkit.index_key import HEAD_BYTES, IndexKey, index_key
from ipfs_dataset_plugins.zip.index import ZipIndex
from tests.support.builders import zip_bytes
from tests.support.stores import Store, members

OURS, THEIRS = IndexKey(bytes(32)), IndexKey(bytes(31) + b"\1")


@given(st.text(), st.binary(max_size=100))
def test_what_was_sealed_is_known_again_by_its_maker_alone(key, payload):
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
    assert "Indexes are not kept on disk" in caplog.text


MEMBERS = members(30)


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
    cid = store.file(zip_bytes(MEMBERS))
    assert read_all(store, cid, tmp_path / "cache") == MEMBERS
    [path] = [path for path in (tmp_path / "cache" / "indexes").rglob("*") if path.is_file()]
    good = path.read_bytes()
    whole = ZipIndex.load(good[HEAD_BYTES:], Limits())
    names, columns = NameTable(), [column[1::2] for column in whole._columns]
    for number in range(1, len(whole), 2):
        names.append(whole.name(number))
    forged = ZipIndex(whole._directory_start, names, columns).dump()
    for data in (THEIRS.seal("any key", forged), good[:HEAD_BYTES] + forged, forged):
        path.write_bytes(data)
        assert read_all(store, cid, tmp_path / "cache") == MEMBERS
        assert path.read_bytes() == good


def test_without_a_place_for_the_key_indexes_are_made_anew(tmp_path):
    state = Path.home() / ".local"
    state.write_bytes(b"a file where the folder would be")
    store = Store(tmp_path / "store")
    cid = store.file(zip_bytes(MEMBERS))
    for _ in range(2):
        assert read_all(store, cid, tmp_path / "cache") == MEMBERS
    assert not (tmp_path / "cache" / "indexes").exists()


_LARGE = """
import os, resource, sys
from pathlib import Path
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.toolkit.index_key import IndexKey
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
