"""Maintenance of a cache: nothing that is intact is removed, and every failure is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ipfs_dataset.operations import cache_upkeep
from ipfs_dataset.operations.cache_upkeep import clear_cache, inspect_cache, verify_cache
from ipfs_dataset_core.errors import AddressError, CacheFolderError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.toolkit.block_files import BlockFiles, block_name
from tests.support.builders import noise

MIB = 1 << 20


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def kept(cache, *blocks):
    disk = DiskCache(cache, 1 << 30, block_bytes=64 * MIB)
    cids = [make_cid(block, RAW) for block in blocks]
    for cid, block in zip(cids, blocks, strict=True):
        disk.put(cid, block)
    disk.close()
    return [block_name(cid) for cid in cids]


def path_of(cache, name):
    return cache / "blocks" / name[-2:] / name


def test_blocks_that_are_longer_than_the_usual_limit_are_intact(cache):
    """As they are where datasets were read with `limits=Limits(block_bytes=…)`."""
    names = kept(cache, noise(5 * MIB), noise(2 * MIB + 1), b"small")
    seen: list[int] = []
    found = verify_cache(cache, progress=seen.append)
    assert (found.blocks, found.bytes) == (3, 7 * MIB + 6)
    assert (found.damaged, found.unreadable) == ([], {})
    assert sum(seen) == found.bytes
    assert all(path_of(cache, name).exists() for name in names)


def test_a_long_block_that_is_damaged_is_removed(cache):
    (name,) = kept(cache, noise(5 * MIB))
    with path_of(cache, name).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff\x00")
    assert verify_cache(cache).damaged == [name]
    assert not path_of(cache, name).exists()


def test_files_whose_names_are_not_those_of_blocks_are_kept(cache):
    (name,) = kept(cache, b"block")
    other = path_of(cache, name).parent / f"bafkzz{name[-2:]}"
    other.write_bytes(b"of nobody")
    assert verify_cache(cache).blocks == 1
    assert other.exists()


@pytest.mark.parametrize("fails", ["open", "remove"])
def test_an_unreadable_file_is_named_and_the_others_are_checked(cache, fails, monkeypatch):
    bad, good = kept(cache, b"one", b"other")
    if fails == "remove":
        path_of(cache, bad).write_bytes(b"damaged")
    used = getattr(BlockFiles, fails)

    def failing(self, cid):
        if block_name(cid) == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return used(self, cid)

    monkeypatch.setattr(BlockFiles, fails, failing)
    found = verify_cache(cache)
    assert (found.blocks, found.damaged) == (1, [])
    assert list(found.unreadable) == [bad]
    assert "Input/output error" in found.unreadable[bad]
    assert path_of(cache, bad).exists()
    assert path_of(cache, good).exists()


@pytest.mark.parametrize("use", [inspect_cache, clear_cache, verify_cache])
def test_a_folder_that_cannot_be_a_cache_is_a_typed_error(tmp_path, use):
    file = tmp_path / "file"
    file.write_bytes(b"")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for place, kind in (
        (file, CacheFolderError),
        (loop, CacheFolderError),
        (file / "below", CacheFolderError),
        (tmp_path / "none", AddressError),
        (tmp_path / ("long" * 100), AddressError),
    ):
        with pytest.raises(kind, match=Path(place).name):
            use(place)
    assert file.exists()


def test_a_cache_emptied_by_another_job_is_no_failure(cache):
    names = kept(cache, *(bytes([number]) * 100 for number in range(20)))

    def remove_all(_):
        for name in names:
            path_of(cache, name).unlink(missing_ok=True)

    found = verify_cache(cache, progress=remove_all)
    assert found.blocks >= 1
    assert (found.damaged, found.unreadable) == ([], {})


def test_a_cache_whose_files_cannot_be_removed_is_not_reported_as_emptied(cache, monkeypatch):
    names = kept(cache, b"first", b"second")
    really_unlink = os.unlink

    def unlink(path, **named):
        if path == names[0]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        really_unlink(path, **named)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(
        AddressError, match=rf"Permission denied: '{names[0]}'.*Give this user access"
    ):
        clear_cache(cache)
    assert inspect_cache(cache).blocks == 1
    monkeypatch.undo()
    assert clear_cache(cache).blocks == 1


def test_blocks_are_hashed_in_pieces(cache, monkeypatch):
    monkeypatch.setattr(cache_upkeep, "_PIECE_BYTES", 1000)
    kept(cache, noise(10_500))
    assert verify_cache(cache).bytes == 10_500
