"""Archives of a few blocks, linked again and again, that claim terabytes: in order, by number, in ranges."""

from __future__ import annotations

import gzip
import struct
from functools import partial
from pathlib import Path

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core.ipld import DAG_PB, RAW, NodeType, dag_pb, make_cid
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_core.options import Limits
from ipfs_dataset_plugins.store import FolderStore
from tests.support import tar_headers
from tests.support.bounded import outcome, run_bounded
from tests.support.builders import tar_bytes

BLOCK = 1 << 20


def repeated(folder, head, block, times, tail=b""):
    """Stores a file of the same block again and again, between two others, and returns its CID."""
    store = FolderStore(Path(folder))

    def leaf(data):
        cid = make_cid(data, RAW)
        store.put_blocks([(cid, data)])
        return cid, len(data)

    def node(parts):
        sizes = [size for _, size in parts]
        message = UnixFS(NodeType.FILE, filesize=sum(sizes), blocksizes=sizes)
        made = dag_pb.encode(message.encode(), [(cid.to_bytes(), b"", 1) for cid, _ in parts])
        cid = make_cid(made, DAG_PB)
        store.put_blocks([(cid, made)])
        return cid, sum(sizes)

    thousand = node([leaf(block)] * 1000)
    parts = [leaf(head)] if head else []
    parts += [thousand] * (times // 1000)
    parts += [leaf(tail)] if tail else []
    return str(node(parts)[0])


def directories():
    """Returns a block of TAR headers of directories, which are no samples."""
    return tar_headers.member(b"d/", kind=b"5") * (BLOCK // 512)


def tars():
    one = tar_bytes({"a": b"a"})[:1024]
    yield "tar", one, directories(), b""
    yield "tar", one, tar_headers.member(b"._x", b"") * (BLOCK // 512), b""
    yield "tar", one, tar_headers.member(b"././@LongLink", b"n", b"L") * (BLOCK // 1024), b""
    yield "tar", one, tar_headers.pax(b"g", comment="c") * (BLOCK // 1024), b""
    yield "tar", one, tar_headers.member(b"h", b"", b"1", at157=b"a") * (BLOCK // 512), b""
    yield "tar", one, bytes(BLOCK), b""
    packed = gzip.compress(directories() * 10)
    yield "tar", gzip.compress(one), packed * (BLOCK // len(packed)), b""


def zips():
    entry = struct.pack(
        "<4s2B3H2H3L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 33, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0
    ) + b"n" * 17 + b"/"  # fmt: skip
    block = entry * (BLOCK // len(entry))
    size = len(block) * 1_000_000
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, 0)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    yield "zip", b"", block, record + struct.pack("<4sLQL", b"PK\6\7", 0, size, 1) + end


def _all_of(dataset):
    return sum(1 for _ in dataset)


def read_repeated(folder):
    found, limits = [], Limits(repeated_entries=100_000)
    for kind, head, block, tail in (*tars(), *zips()):
        cid = repeated(folder, head, block, 1_000_000, tail)
        obj = IPFSObject(f"ipfs://{cid}", kind)
        found.append(outcome(partial(len, IPFSDataset(obj, folder, limits=limits))))
        # Hard links are samples, each of them.
        if b"h" not in block[:1]:
            stream = IPFSIterableDataset(obj, folder, limits=limits)
            found.append(outcome(partial(_all_of, stream)))
    return found


def test_archives_of_few_blocks_that_claim_terabytes_are_refused(tmp_path):
    found = run_bounded(read_repeated, str(tmp_path), seconds=60, mib=600)
    assert len(found) == 15
    by_kind = [said.partition(":")[0] for said in found]
    # Extension headers in front of no member; a compressed archive cannot be read by number at all.
    assert (
        by_kind
        == ["LimitError"] * 4
        + ["FormatError"] * 4
        + ["LimitError"] * 3
        + ["FormatError"]
        + ["LimitError"] * 3
    )
    assert all("more than 100 in front" in said for said in found[4:8])
    assert all("limits=Limits(" in said for said in found if said.startswith("LimitError"))


def read_with_deadline(folder, cid):
    limits = Limits(repeated_entries=1 << 40)
    obj = IPFSObject(f"ipfs://{cid}", "tar")
    return outcome(partial(len, IPFSDataset(obj, folder, deadline=2, limits=limits)))


def test_indexing_repeated_blocks_ends_with_the_deadline(tmp_path):
    cid = repeated(str(tmp_path), b"", directories(), 1_000_000)
    found = run_bounded(read_with_deadline, str(tmp_path), cid, seconds=60, mib=400)
    assert found.startswith("TransportTimeoutError: ")
    assert "deadline=2" in found


def test_an_archive_with_many_equal_members_is_read(tmp_path):
    cid = repeated(str(tmp_path), b"", tar_headers.member(b"same", b"x" * 512) * 512, 1000)
    dataset = IPFSDataset(IPFSObject(f"ipfs://{cid}", "tar"), str(tmp_path))
    assert len(dataset) == 512 * 1000
    assert dataset[500_000] == ("same", b"x" * 512)
