"""A Kubo node: a directory that it shards, mutable names, and a file that is larger than the memory limit."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import fsspec
import pytest

from tests.support.builders import noise

pytestmark = pytest.mark.kubo

FILES = 5000
LARGE_BYTES = 400 << 20
ROOT = Path(__file__).parents[3]


def name(number):
    return f"chunk-{number:05}-" + "x" * 50


@pytest.fixture(scope="module")
def sharded(kubo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    for number in range(FILES):
        (folder / name(number)).write_bytes(b"%d" % number)
    return kubo.add(folder, "--cid-version=1")


@pytest.fixture(params=["api", "gateway"])
def node(request, kubo):
    """A filesystem over the node."""
    source = {"ipfs_api_address": kubo.api} if request.param == "api" else {}
    return fsspec.filesystem("ipfsdataset", gateways=[kubo.gateway][: not source], **source)


def test_a_sharded_directory_is_a_directory(kubo, node, sharded):
    root = kubo.cli("dag", "get", sharded)
    assert root.count(b'"Hash"') <= 256  # shards below, not the entries themselves
    assert [i["size"] for i in node.ls(sharded)] == [len(str(number)) for number in range(FILES)]
    assert node.ls(sharded, detail=False) == [f"{sharded}/{name(n)}" for n in range(FILES)]
    assert node.cat_file(f"{sharded}/{name(4321)}") == b"4321"
    assert node.exists(f"{sharded}/{name(0)}")
    assert not node.exists(f"{sharded}/{name(FILES)}")
    some = node.glob(f"{sharded}/chunk-0012*")
    assert node.cat(some) == {f"{sharded}/{name(n)}": b"%d" % n for n in range(120, 130)}


def test_trees_of_both_versions_of_cids_are_listed_with_their_sizes(kubo, node, tmp_path):
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "large").write_bytes(data := noise(700_000))
    (tmp_path / "tree" / "sub" / "small").write_bytes(b"text")
    (tmp_path / "tree" / "link").symlink_to("large")
    for options in ((), ("--cid-version=1",), ("--trickle",)):
        root = kubo.add(tmp_path / "tree", *options)
        kinds = {i["name"].rpartition("/")[2]: (i["type"], i["size"]) for i in node.ls(root)}
        assert kinds == {"large": ("file", 700_000), "link": ("link", 0), "sub": ("directory", 0)}
        assert node.cat_file(f"{root}/large", -9) == data[-9:]
        assert node.find(root) == [f"{root}/large", f"{root}/sub/small"]


def test_a_mutable_name_is_resolved(kubo, sharded):
    kubo.cli("name", "publish", "--allow-offline", "--ttl=0s", f"/ipfs/{sharded}")
    key = kubo.cli("key", "list", "-l").split()[0].decode()
    fs = fsspec.filesystem("ipfsdataset", ipfs_api_address=kubo.api)
    assert fs.cat_file(f"ipns://{key}/{name(7)}") == b"7"
    assert fs.info(f"ipns://{key}")["CID"] == sharded


# A new process takes the memory of the one that forked it for its own peak: a small one stands between.
BETWEEN = (
    "import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)"
)
READ = """
    import resource, sys
    import fsspec

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

    fs = fsspec.filesystem("ipfsdataset", gateways=[sys.argv[1]], memory="16M")
    file = fs.open(sys.argv[2])
    file.read(1)
    before, size = peak(), 1
    while piece := file.read(1 << 20):
        size += len(piece)
    fs.get(sys.argv[2], sys.argv[3])
    print(size, peak() - before)
"""


@pytest.mark.slow
def test_a_file_larger_than_the_memory_limit_is_streamed(kubo, tmp_path):
    base = noise(1 << 20)
    large = tmp_path / "large"
    with large.open("wb") as file:
        for number in range(LARGE_BYTES >> 20):
            file.write(number.to_bytes(8, "big") + base[8:])
    cid = kubo.add(large, "--cid-version=1")
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            BETWEEN,
            "-c",
            textwrap.dedent(READ),
            kubo.gateway,
            cid,
            tmp_path / "got",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stderr
    size, grown = map(int, ran.stdout.split())
    assert size == LARGE_BYTES
    assert subprocess.run(["cmp", large, tmp_path / "got"], check=False).returncode == 0
    # The budget, what is under way before it gets there, and the allocator's slack.
    assert grown < 120
