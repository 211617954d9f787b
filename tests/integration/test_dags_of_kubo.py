"""Whatever a real node stores can be read here, however it was cut and laid out."""

from __future__ import annotations

import hashlib

import pytest

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    NodeType,
    entries,
    is_directory,
    leaf_frame,
    lookup,
    node_kind,
    parse_file,
)
from tests.integration.offline_kubo import OfflineKubo
from tests.ipld.blocks import child, pattern, read_file

pytestmark = pytest.mark.kubo

SIZE = 150_001
LAYOUTS = {
    "one leaf": ["--cid-version=1"],
    "one wrapped leaf": ["--cid-version=0"],
    "deep": ["--cid-version=1", "--chunker=size-1000", "--max-file-links=3"],
    "deep and wrapped": ["--cid-version=0", "--chunker=size-1000", "--max-file-links=3"],
    "trickle": ["--cid-version=1", "--chunker=size-1000", "--trickle", "--raw-leaves=false"],
    "trickle with raw leaves": ["--cid-version=1", "--chunker=size-1000", "--trickle"],
    "rabin": ["--cid-version=1", "--chunker=rabin-512-1024-4096"],
    "inline": ["--cid-version=1", "--chunker=size-100", "--inline", "--inline-limit=128"],
    "mode and time": ["--cid-version=1", "--chunker=size-9999", "--mode=0600", "--mtime=-5"],
    "sha2-512": ["--cid-version=1", "--chunker=size-9999", "--hash=sha2-512"],
    "blake2b": ["--cid-version=1", "--chunker=size-9999", "--hash=blake2b-256"],
}
RANGES = [(0, 1), (0, SIZE), (999, 1001), (70_000, 80_000), (SIZE - 1, SIZE), (SIZE, SIZE + 9)]


@pytest.fixture(scope="module")
def kubo_repo(tmp_path_factory):
    repo = OfflineKubo(tmp_path_factory.mktemp("reading") / "repo")
    repo.run("config", "Import.UnixFSHAMTDirectorySizeThreshold", "1KiB")
    return repo


def mixed(size: int) -> bytes:
    """Returns bytes without a period, so that content-defined chunking cuts them."""
    return b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(size // 32 + 1))[:size]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_of_every_layout(layout, kubo_repo, tmp_path):
    data = mixed(SIZE)
    (tmp_path / "file").write_bytes(data)
    cid = CID.parse(kubo_repo.add(tmp_path / "file", *LAYOUTS[layout]))
    blocks = kubo_repo.export(str(cid))
    for start, stop in RANGES:
        assert read_file(cid, blocks.load, start, stop) == data[start:stop]


@pytest.mark.parametrize(
    ("layout", "kind"), [("deep and wrapped", NodeType.FILE), ("trickle", NodeType.RAW)]
)
def test_leaves_are_their_payload_in_a_frame(layout, kind, kubo_repo, tmp_path):
    (tmp_path / "file").write_bytes(mixed(SIZE))
    blocks = kubo_repo.export(kubo_repo.add(tmp_path / "file", *LAYOUTS[layout]))
    leaves = 0
    for cid, block in blocks.items():
        node = parse_file(cid, block)
        if not node.links:
            prefix, suffix = leaf_frame(kind, node.size)
            assert cid.codec == DAG_PB
            assert block == prefix + node.data + suffix
            leaves += 1
    assert leaves == -(-SIZE // 1000)


def test_inline_blocks_are_contained_in_their_cids(kubo_repo, tmp_path):
    (tmp_path / "file").write_bytes(b"tiny")
    cid = CID.parse(kubo_repo.add(tmp_path / "file", "--cid-version=1", "--inline"))
    assert cid.is_identity
    assert parse_file(cid, cid.digest).data == b"tiny"


@pytest.mark.parametrize("version", [0, 1])
def test_names_in_sharded_directories_are_proven_present_or_absent(version, kubo_repo, tmp_path):
    folder = tmp_path / "wide"
    folder.mkdir()
    files = {f"{i}-ü-" + i % 40 * "n": b"%d" % i for i in range(400)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    root = CID.parse(kubo_repo.add(folder, f"--cid-version={version}"))
    blocks = kubo_repo.export(str(root))
    assert node_kind(root, blocks[root]) == "hamt"
    assert [entry.name for entry in entries(root, blocks.load)] == sorted(files, key=str.encode)
    for name, data in files.items():
        assert read_file(child(root, name, blocks.load), blocks.load) == data
        assert lookup(root, name + "x", blocks.load) is None


def test_nested_directories_and_symlinks(kubo_repo, tmp_path):
    folder = tmp_path / "root"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(pattern(10))
    (folder / "link").symlink_to("../../etc/passwd")
    root = CID.parse(kubo_repo.add(folder))
    blocks = kubo_repo.export(str(root))
    assert is_directory(root, blocks[root])
    cid = root
    for name in ("a", "b", "file"):
        cid = child(cid, name, blocks.load)
    assert read_file(cid, blocks.load) == pattern(10)
    link = child(root, "link", blocks.load)
    with pytest.raises(FormatError, match=r"symlink to '\.\./\.\./etc/passwd'"):
        parse_file(link, blocks[link])
