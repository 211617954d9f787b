"""Differences of folders that somebody made to be endless, deep, or unusual."""

from __future__ import annotations

import pytest

from ipfs_dataset.operations.difference import difference
from ipfs_dataset_core.errors import LimitError
from ipfs_dataset_core.ipld import (
    DAG_PB,
    RAW,
    NodeType,
    build_symlink,
    dag_pb,
    get_profile,
    make_cid,
)
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.reading.files import VerifiedFile
from tests.support.builders import noise
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store


class Made(dict[bytes, bytes]):
    """Blocks that no importer makes."""

    def leaf(self, data):
        cid = make_cid(data, RAW)
        self[cid.multihash] = data
        return cid

    def directory(self, links):
        rows = [(cid.to_bytes(), name.encode(), 1) for name, cid in sorted(links.items())]
        block = dag_pb.encode(UnixFS(NodeType.DIRECTORY).encode(), rows)
        cid = make_cid(block, DAG_PB)
        self[cid.multihash] = block
        return cid

    def symlink(self, target):
        def emit(cid, block):
            self[cid.multihash] = block

        return build_symlink(target, get_profile("kubo-cidv1"), emit).cid

    def tower(self, bottom, levels, width=1):
        cid = bottom
        for _ in range(levels):
            cid = self.directory({f"d{number}": cid for number in range(width)})
        return cid


def compared(made, one, two, **options):
    with GatewayServer(made) as gateway:
        return difference(str(one), str(two), gateways=gateway.url, **options)


@pytest.mark.parametrize("sides", ["both", "first"])
def test_folders_nested_deeper_than_the_recursion_limit_are_a_typed_error(sides):
    made = Made()
    one = made.tower(made.leaf(b"1"), 3000)
    two = made.tower(made.leaf(b"2"), 3000) if sides == "both" else made.directory({})
    with pytest.raises(LimitError, match="nested deeper than 64 directories"):
        compared(made, one, two)


def test_a_raised_limit_of_depth_is_used():
    made = Made()
    one, two = (made.tower(made.leaf(data), 1500) for data in (b"1", b"22"))
    found = compared(made, one, two, limits=Limits(directory_depth=2000))
    assert found.changed == ["/".join(["d0"] * 1500)]
    assert (found.new_bytes, found.gone_bytes) == (2, 1)


@pytest.mark.parametrize("end", [b"2", None])
def test_few_blocks_with_exponentially_many_paths_are_refused(end):
    made = Made()
    one = made.tower(made.leaf(b"1"), 40, width=2)
    two = made.directory({}) if end is None else made.tower(made.leaf(end), 40, width=2)
    with pytest.raises(LimitError, match="again and again"):
        compared(made, one, two, limits=Limits(repeated_entries=1000))


def test_symlinks_that_differ_are_named_and_not_read():
    made = Made()
    links = [made.symlink(target) for target in ("a", "elsewhere")]
    one = made.directory({"link": links[0], "file": made.leaf(b"1"), "gone": links[0]})
    two = made.directory({"link": links[1], "file": made.leaf(b"333"), "new": links[1]})
    found = compared(made, one, two)
    assert (found.changed, found.removed, found.added) == (["file", "link"], ["gone"], ["new"])
    assert (found.new_bytes, found.gone_bytes) == (3, 1)


def test_files_are_not_all_open_at_once(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    cids = [
        store.tree({f"{n:03}": noise(300_000 if n < 2 else 100, seed=n + start) for n in range(50)})
        for start in (0, 500)
    ]
    living: set[int] = set()
    most = 0
    opened, closed = VerifiedFile.__init__, VerifiedFile.close

    def init(self, *arguments, **named):
        nonlocal most
        opened(self, *arguments, **named)
        living.add(id(self))
        most = max(most, len(living))

    def close(self):
        living.discard(id(self))
        closed(self)

    monkeypatch.setattr(VerifiedFile, "__init__", init)
    monkeypatch.setattr(VerifiedFile, "close", close)
    found = difference(cids[0], cids[1], store.address)
    assert len(found.changed) == 50
    assert most < 10
    assert not living
