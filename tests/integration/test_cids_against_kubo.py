"""Whatever is built here has the CID that a real node gives it."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.ipld import (
    PROFILES,
    build_directory,
    build_symlink,
    build_tree,
    car_header,
    car_section,
)
from tests.integration.offline_kubo import OfflineKubo
from tests.ipld.blocks import Blocks, pattern

pytestmark = pytest.mark.kubo

FLAGS = {
    "unixfs-v0-2015": ["--cid-version=0"],
    "kubo-cidv1": ["--cid-version=1"],
    "unixfs-v1-2025": [],
}
SIZES = [0, 1, 262143, 262144, 262145, 1048576, 1048577, 2500000]

names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))
contents = st.one_of(st.binary(max_size=50), st.sampled_from(SIZES).map(pattern))
links = st.text("abc./", min_size=1, max_size=20)
trees = st.dictionaries(
    names,
    st.recursive(
        st.one_of(contents, links),
        lambda inner: st.dictionaries(names, inner, max_size=5),
        max_leaves=12,
    ),
    max_size=8,
)
in_a_shared_repository = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repositories")
    plain = OfflineKubo(folder / "plain")
    newest = OfflineKubo(folder / "newest", "unixfs-v1-2025")
    return {"unixfs-v0-2015": plain, "kubo-cidv1": plain, "unixfs-v1-2025": newest}


def write(folder, tree):
    folder.mkdir()
    for name, item in tree.items():
        if isinstance(item, dict):
            write(folder / name, item)
        elif isinstance(item, str):
            (folder / name).symlink_to(item)
        else:
            (folder / name).write_bytes(item)


def build(tree, profile, blocks):
    def made():
        for name, item in tree.items():
            if isinstance(item, dict):
                yield name, build(item, profile, blocks)
            elif isinstance(item, str):
                yield name, build_symlink(item, profile, blocks.emit)
            else:
                yield name, blocks.add(item, profile)

    return build_tree(made(), profile, blocks.emit)


@pytest.mark.parametrize("profile", PROFILES)
def test_random_trees(profile, repositories, tmp_path_factory):
    @in_a_shared_repository
    @given(trees)
    def compare(tree):
        folder = tmp_path_factory.mktemp("tree") / "root"
        write(folder, tree)
        expected = repositories[profile].add(folder, "--only-hash", *FLAGS[profile])
        assert str(build(tree, PROFILES[profile], Blocks()).cid) == expected

    compare()


@pytest.mark.parametrize("profile", PROFILES)
def test_directories_around_the_threshold(profile, repositories, tmp_path_factory):
    @settings(in_a_shared_repository, max_examples=4)
    @given(st.integers(800, 1100), st.integers(180, 250))
    def compare(count, length):
        folder = tmp_path_factory.mktemp("wide") / "root"
        tree = {f"{i:05d}".ljust(length, "n"): b"%d" % (i % 7) for i in range(count)}
        write(folder, tree)
        expected = repositories[profile].add(folder, "--only-hash", *FLAGS[profile])
        assert str(build(tree, PROFILES[profile], Blocks()).cid) == expected

    compare()


@pytest.mark.parametrize("fanout", [8, 64, 1024])
def test_other_fanouts_and_thresholds(fanout, tmp_path):
    kubo = OfflineKubo(tmp_path / "repo", "unixfs-v1-2025")
    kubo.run("config", "Import.UnixFSHAMTDirectorySizeThreshold", "1KiB")
    profile = attrs.evolve(PROFILES["unixfs-v1-2025"], hamt_threshold=1024, hamt_fanout=fanout)
    tree = {f"{i}-ü": b"%d" % i for i in range(300)}
    write(tmp_path / "root", tree)
    # With --only-hash the node would go by the threshold that it was built with.
    expected = kubo.add(tmp_path / "root", f"--max-hamt-fanout={fanout}")
    blocks = Blocks()
    files = [(name, blocks.add(data, profile)) for name, data in tree.items()]
    assert str(build_directory(files, profile, blocks.emit).cid) == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_a_node_imports_and_reads_what_is_built(profile, repositories, tmp_path):
    data, blocks = pattern(1_500_000), Blocks()
    tree = {"folder": {"file": data}, **{f"{i:0200d}": b"x" for i in range(1200)}}
    root = build(tree, PROFILES[profile], blocks).cid
    sections = [car_section(cid, block) for cid, block in blocks.items()]
    (tmp_path / "all.car").write_bytes(car_header([root]) + b"".join(sections))
    kubo = repositories[profile]
    kubo.run("dag", "import", str(tmp_path / "all.car"))
    assert kubo.run("cat", f"/ipfs/{root}/folder/file") == data


def test_deep_files(repositories, tmp_path):
    data = pattern(1_000_003)
    (tmp_path / "file").write_bytes(data)
    flags = ["--only-hash", "--cid-version=1", "--chunker=size-1000", "--max-file-links=3"]
    profile = attrs.evolve(PROFILES["kubo-cidv1"], chunk_size=1000, file_links=3)
    expected = repositories["kubo-cidv1"].add(tmp_path / "file", *flags)
    assert str(Blocks().add(data, profile).cid) == expected
