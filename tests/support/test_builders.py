"""What the builders make is read back by readers that are not ours."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
import zipfile

import pytest

from ipfs_dataset_core.ipld import PROFILES, read_car
from tests.support.builders import car_bytes, folder, noise, one_file, tar_bytes, tree, zip_bytes

FILES = {"a/b.bin": noise(1000), "c.txt": b"text"}


def test_archives_hold_the_files_in_order():
    with zipfile.ZipFile(io.BytesIO(zip_bytes(FILES))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
    for mode in ("w", "w:gz", "w:xz"):
        with tarfile.open(fileobj=io.BytesIO(tar_bytes(FILES, mode))) as archive:
            assert archive.getnames() == list(FILES)


def test_the_same_arguments_make_the_same_bytes():
    assert zip_bytes(FILES) == zip_bytes(FILES)
    assert tar_bytes(FILES) == tar_bytes(FILES)
    assert noise(9, seed=1) == noise(9, seed=1) != noise(9, seed=2)


def test_a_car_has_each_block_once():
    root, blocks = tree({"one": FILES["c.txt"], "two": FILES["c.txt"]})
    found = [cid.multihash for cid, _ in read_car(io.BytesIO(car_bytes(root, blocks)))]
    assert found == list(dict.fromkeys(found))
    assert set(found) == set(blocks)


@pytest.mark.kubo
@pytest.mark.parametrize("profile", PROFILES)
def test_a_tree_has_the_cids_that_kubo_computes(kubo, tmp_path, profile):
    for path, data in FILES.items():
        (tmp_path / "t" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / path).write_bytes(data)
    options = {
        "unixfs-v0-2015": ["--cid-version=0"],
        "kubo-cidv1": ["--cid-version=1"],
        "unixfs-v1-2025": ["--cid-version=1", "--chunker=size-1048576", "--max-file-links=1024"],
    }[profile]
    assert kubo.add(tmp_path / "t", *options) == str(tree(FILES, profile)[0])


@pytest.mark.kubo
def test_kubo_imports_our_car_and_serves_the_folder(kubo):
    root, blocks = folder(FILES)
    kubo.cli("dag", "import", input=car_bytes(root, blocks))
    assert kubo.cli("cat", f"{root}/a/b.bin") == FILES["a/b.bin"]
    assert kubo.cli("cat", f"{root}/metadata.txt") == b"a/b.bin\nc.txt\n"


@pytest.mark.jsipfs
def test_jsipfs_imports_our_car_and_serves_the_file(jsipfs):
    root, blocks = one_file(noise(2_500_000))
    jsipfs.cli("dag", "import", input=car_bytes(root, blocks))
    with urllib.request.urlopen(f"{jsipfs.gateway}/ipfs/{root}", timeout=30) as response:
        served = response.read()
    assert hashlib.sha256(served).digest() == hashlib.sha256(noise(2_500_000)).digest()
