"""A few small blocks that span more paths than anybody can walk, and sound folders that resemble them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.errors import (
    IPFSDatasetError,
    LimitError,
)
from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    RAW,
    Built,
    NodeType,
    build_directory,
    dag_pb,
    entries,
    get_profile,
    make_cid,
    node_kind,
)
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.reading.objects import VerifiedDirectory
from ipfs_dataset_plugins.store import FolderStore
from tests.support.bounded import outcome, run_bounded
from tests.support.builders import tar_bytes, tree
from tests.support.fetching import Recorder, fetching

if TYPE_CHECKING:
    from tests.support.builders import Blocks

SHARDED = attrs.evolve(get_profile("kubo-cidv1"), hamt_threshold=0, hamt_fanout=8)


def directory(blocks, links):
    """Adds a directory with links of ``(name, CID)``, and returns its CID."""
    rows = [(cid.to_bytes(), name.encode(), 1) for name, cid in links]
    return _added(blocks, dag_pb.encode(UnixFS(NodeType.DIRECTORY).encode(), rows))


def sharded(blocks, links):
    """Adds a sharded directory with links of ``(name, CID)``, and returns its CID."""
    return build_directory(
        [(name, Built(cid, 1, 1)) for name, cid in links],
        SHARDED,
        lambda cid, block: blocks.update({cid.multihash: block}),
    ).cid


def symlink(blocks):
    return _added(blocks, dag_pb.encode(UnixFS(NodeType.SYMLINK, b"elsewhere").encode()))


def leaf(blocks, data=b"x"):
    cid = make_cid(data, RAW)
    blocks[cid.multihash] = data
    return cid


def _added(blocks, block):
    cid = make_cid(block, DAG_PB)
    blocks[cid.multihash] = block
    return cid


def tower(kind, bottom, *, levels=24, width=2):
    """Returns a root and blocks where each level links `width` times to the next, and what is at the end."""
    blocks: Blocks = {}
    make = {"directory": directory, "sharded": sharded}[kind]
    ends = {
        "nothing": lambda: directory(blocks, []),
        "hidden": lambda: directory(blocks, [("._x", leaf(blocks))]),
        "a file": lambda: directory(blocks, [("x", leaf(blocks))]),
        "a symlink": lambda: directory(blocks, [("x", symlink(blocks))]),
        "an identity": lambda: CID(1, RAW, b"\0\0"),
    }
    cid = ends[bottom]()
    for _ in range(levels):
        cid = make(blocks, [(f"{number}", cid) for number in range(width)])
    return cid, blocks


def stored(folder, cid, blocks):
    FolderStore(Path(folder)).put_blocks((CID(1, RAW, key), data) for key, data in blocks.items())
    return str(cid)


TOWERS = [
    *((kind, end) for kind in ("directory", "sharded") for end in ("nothing", "hidden", "a file")),
    ("directory", "a symlink"),
    ("directory", "an identity"),
]


def _first(dataset):
    return next(iter(dataset))


def read_towers(folder, unlimited, limited):
    """Returns how the ways to read some towers end."""
    datasets = [IPFSDataset(cid, folder) for cid in unlimited]
    found = [outcome(partial(len, dataset)) for dataset in datasets]
    limits = Limits(members=1000)
    for cid in limited:
        for make in (IPFSDataset, IPFSIterableDataset):
            dataset = make(cid, folder, limits=limits, deadline=5)
            found.append(outcome(partial(_first, dataset)))
    return found


def test_directories_with_exponentially_many_paths_are_refused_in_seconds(tmp_path):
    limited = [stored(tmp_path, *tower(kind, end)) for kind, end in TOWERS]
    wide = stored(tmp_path, *tower("directory", "a file", levels=7, width=1000))
    unlimited = [limited[0], limited[1], wide]
    found = run_bounded(read_towers, str(tmp_path), unlimited, [*limited, wide])
    assert len(found) == 3 + 2 * len(TOWERS) + 2
    assert {text.partition(":")[0] for text in found} == {"LimitError"}
    assert all("limits=Limits(" in text for text in found)
    assert all("again and again" in text for text in found[:3])


def paths(cid, blocks, **options):
    with fetching(Recorder(blocks), **options) as fetcher:
        return list(VerifiedDirectory(fetcher, cid, "here").walk())


def test_many_equal_folders_are_read():
    blocks: Blocks = {}
    small = directory(blocks, [(f"{n}.jpg", leaf(blocks, b"%d" % n)) for n in range(10)])
    labels = leaf(blocks, b"labels")
    links = [(f"a{n:05}", small) for n in range(3000)]
    links += [
        (f"b{n:05}", directory(blocks, [("labels.txt", labels), (f"{n}", labels)]))
        for n in range(3000)
    ]
    found = paths(directory(blocks, links), blocks)
    assert len(found) == len(set(found)) == 3000 * 12
    assert found[:2] == ["a00000/0.jpg", "a00000/1.jpg"]
    assert found[-1] == "b02999/labels.txt"


def test_an_equal_folder_inside_equal_folders_is_counted_once_for_each_path():
    cid, blocks = tower("directory", "a file", levels=10)
    assert len(paths(cid, blocks)) == 1 << 10
    # The second half of each level is repeated, with all that is below it.
    repeated = sum(1 << 10 >> n for n in range(11)) + (1 << 10) - 1 - 2 * 10 - 1
    few = Limits(repeated_entries=1000)
    with pytest.raises(LimitError, match="repeated_entries"):
        paths(cid, blocks, limits=few)
    assert len(paths(cid, blocks, limits=Limits(repeated_entries=repeated + 100))) == 1 << 10


def test_hidden_files_and_directories_count_and_a_few_are_free():
    blocks: Blocks = {}
    hidden = [(f"._{n:04}", leaf(blocks, b"%d" % n)) for n in range(1034)]
    cid = directory(blocks, hidden)
    assert len(paths(cid, blocks, limits=Limits(members=5))) == 1034
    with pytest.raises(LimitError, match="hidden files"):
        paths(cid, blocks, limits=Limits(members=4))


def test_names_whose_total_length_is_too_large_are_refused():
    blocks: Blocks = {}
    cid = leaf(blocks)
    for _ in range(60):
        cid = directory(blocks, [("n" * 1000, cid)])
    assert len(paths(cid, blocks)) == 1
    with pytest.raises(LimitError, match="name_bytes"):
        paths(cid, blocks, limits=Limits(name_bytes=100_000))


def test_warnings_about_many_symlinks_are_limited(caplog):
    blocks: Blocks = {}
    link = symlink(blocks)
    cid = directory(blocks, [(f"{n:04}", link) for n in range(500)] + [("z", leaf(blocks))])
    assert paths(cid, blocks) == ["z"]
    assert len(caplog.records) <= 25
    assert "500 symlinks are skipped" in caplog.text


def read_lists(folder, cids):
    datasets = [IPFSDataset(cid, folder) for cid in cids]
    return [outcome(partial(len, dataset)) for dataset in datasets]


def test_lists_of_many_lines_take_little_memory(tmp_path):
    count = 1 << 18
    lists = (b"a.tar\n" * count, b"".join(b"%d.tar\n" % n for n in range(count)), b"a\n" * count)
    cids = [stored(tmp_path, *tree({"a": b"x", "metadata.txt": lines})) for lines in lists]
    one, many, short = run_bounded(read_lists, str(tmp_path), cids, mib=200)
    assert one.startswith("LimitError: ")
    assert "Limits(archives=" in one
    assert many.startswith("LimitError: ")
    assert short == f"returned {count}"


def test_a_list_that_names_an_archive_twice_reads_it_twice(tmp_path):
    files = {"a.tar": tar_bytes({"1": b"one", "2": b"two"}), "metadata.txt": b"a.tar\na.tar\n"}
    cid = stored(tmp_path, *tree(files))
    dataset = IPFSDataset(f"ipfs://{cid}", str(tmp_path))
    assert [dataset[n] for n in range(4)] == [("1", b"one"), ("2", b"two")] * 2
    limited = IPFSDataset(f"ipfs://{cid}", str(tmp_path), limits=Limits(members=3))
    with pytest.raises(LimitError, match="members"):
        len(limited)


@st.composite
def graphs(draw):
    """Directories of all kinds whose links lead to others, again and again, to files and to symlinks."""
    blocks: Blocks = {}
    made = [leaf(blocks), leaf(blocks, b"y"), symlink(blocks), CID(1, RAW, b"\0\1z")]
    for _ in range(draw(st.integers(1, 30))):
        count = draw(st.integers(0, 6))
        # Mostly the last ones, or graphs are flat.
        chosen = [made[-1 - draw(st.integers(0, min(3, len(made) - 1)))] for _ in range(count)]
        make = draw(st.sampled_from([directory, directory, sharded]))
        names = draw(
            st.lists(
                st.text("ab._\udcff", min_size=1, max_size=3).filter(
                    lambda n: n not in (".", "..")
                ),
                min_size=count,
                max_size=count,
                unique=True,
            )
        )
        names = [name.replace("\udcff", "é") for name in sorted(set(names))]
        made.append(make(blocks, list(zip(names, chosen, strict=False))))
    return made[-1], blocks


def plainly(cid, blocks, prefix="", budget=None):
    """Yields the paths below a directory, by the simplest of all ways."""

    def load(which):
        return which.digest if which.is_identity else blocks[which.multihash]

    for entry in entries(cid, load):
        kind = node_kind(entry.cid, load(entry.cid))
        if kind == "file":
            yield prefix + entry.name
        elif kind != "symlink":
            yield from plainly(entry.cid, blocks, f"{prefix}{entry.name}/")


@settings(deadline=None, max_examples=60)
@given(graphs(), st.integers(1, 300))
def test_any_directories_give_their_paths_or_a_typed_error(made, repeated):
    cid, blocks = made
    try:
        found = paths(cid, blocks, limits=Limits(members=3000, repeated_entries=repeated))
    except IPFSDatasetError:
        return
    assert found == list(plainly(cid, blocks))
