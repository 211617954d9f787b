"""Verification: each block is fetched once, however often it occurs; what fails is named."""

from __future__ import annotations

import pytest

from ipfs_dataset.operations import verification
from ipfs_dataset.operations.verification import verify_object
from ipfs_dataset_core.ipld import DAG_PB, RAW, NodeType, dag_pb, leaf_frame, make_cid
from ipfs_dataset_core.ipld.unixfs import UnixFS
from tests.support.builders import noise
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A home in which no other test has left a record."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Blocks(dict[bytes, bytes]):
    """Blocks by multihash, and files and directories made of them."""

    def put(self, block, codec):
        cid = make_cid(block, codec)
        self[cid.multihash] = block
        return cid

    def leaf(self, data):
        return self.put(data, RAW), len(data)

    def node(self, parts):
        sizes = [size for _, size in parts]
        links = [(cid.to_bytes(), b"", 1) for cid, _ in parts]
        message = UnixFS(NodeType.FILE, None, sum(sizes), sizes)
        return self.put(dag_pb.encode(message.encode(), links), DAG_PB), sum(sizes)

    def directory(self, files):
        links = [(cid.to_bytes(), name.encode(), size) for name, (cid, size) in files.items()]
        return self.put(dag_pb.encode(UnixFS(NodeType.DIRECTORY).encode(), links), DAG_PB)

    def nested(self, leaf, levels=5, width=100):
        """Returns a file of one block at each level."""
        for _ in range(levels):
            leaf = self.node([leaf] * width)
        return leaf


def test_an_intact_file_of_a_petabyte_that_is_six_blocks_is_verified_at_once():
    blocks = Blocks()
    root, size = blocks.nested(blocks.leaf(noise(100_000)))
    assert size == 10**15
    with GatewayServer(blocks) as gateway:
        found = verify_object(str(root), gateways=gateway.url)
        assert len(gateway.requests) < 100
    assert (found.files, found.bytes, found.failures) == (1, size, [])


def test_the_second_file_of_the_same_blocks_is_not_read_again():
    blocks = Blocks()
    leaves = [blocks.leaf(noise(250_000, seed=number)) for number in range(8)]
    one, two = blocks.node(leaves), blocks.node([*leaves, *leaves])
    root = blocks.directory({"one": one, "two": two})
    with GatewayServer(blocks) as gateway:
        found = verify_object(str(root), gateways=gateway.url, memory="4M")
        assert sum(request.path.startswith("/ipfs/bafk") for request in gateway.requests) <= 16
    assert (found.files, found.bytes, found.failures) == (2, 6_000_000, [])


def test_a_block_that_is_damaged_is_named_for_every_file_that_has_it(monkeypatch):
    monkeypatch.setattr(verification, "_PIECE_BYTES", 100_000)
    blocks = Blocks()
    good = [blocks.leaf(noise(50_000, seed=number)) for number in range(20)]
    bad = blocks.leaf(noise(50_000, seed=99))
    root = blocks.directory(
        {
            "a": blocks.node([*good[:10], bad]),
            "b": blocks.node(good),
            "c": blocks.node([bad, *good]),
            "d": bad,
        }
    )
    blocks[bad[0].multihash] = b"damaged"
    with GatewayServer(blocks) as gateway:
        found = verify_object(str(root), gateways=gateway.url, retries=0)
    assert [name in "".join(found.failures) for name in ("'a'", "'b'", "'c'", "'d'")] == [
        *(True, False, True, True)
    ]
    assert len(found.failures) == 3


def test_a_stopped_verification_resumes_in_the_middle_of_a_repeated_part(monkeypatch, tmp_path):
    monkeypatch.setattr(verification, "_PIECE_BYTES", 100_000)
    monkeypatch.setattr(verification, "_SECONDS_BETWEEN_RECORDS", -1.0)
    blocks = Blocks()
    first = [blocks.leaf(noise(100_000, seed=number)) for number in range(30)]
    root, size = blocks.node([*first, blocks.nested(blocks.leaf(noise(100_000, seed=40)))])
    left = 2_000_000

    def stop(done):
        nonlocal left
        left -= done
        if left < 0:
            raise KeyboardInterrupt

    store = Store(tmp_path / "store")
    store._put(root, blocks)
    with pytest.raises(KeyboardInterrupt):
        verify_object(str(root), store.address, progress=stop)
    again = verify_object(str(root), store.address)
    assert again.failures == []
    assert again.resumed_bytes > 0
    assert again.bytes + again.resumed_bytes == size


def test_results_after_a_failed_piece_take_no_memory(monkeypatch):
    monkeypatch.setattr(verification, "_PIECE_BYTES", 1000)
    runs, init = [], verification._Run.__init__

    def noted(self, *arguments):
        init(self, *arguments)
        runs.append(self)

    monkeypatch.setattr(verification._Run, "__init__", noted)
    blocks = Blocks()
    leaves = [blocks.leaf(noise(1000, seed=number)) for number in range(400)]
    root, _ = blocks.node(leaves)
    del blocks[leaves[3][0].multihash]
    with GatewayServer(blocks) as gateway:
        found = verify_object(str(root), gateways=gateway.url, retries=0)
    assert len(found.failures) == 1
    assert found.bytes == 399_000
    assert len(runs[0]._done) < 50


def test_a_node_that_is_mistaken_for_a_long_leaf_is_verified_at_once(tmp_path):
    """The size of the DAG below it, which no CID proves, is that of a leaf."""
    blocks = Blocks()
    cid, size = blocks.nested(blocks.leaf(noise(100_000)))
    framed = size + sum(map(len, leaf_frame(NodeType.FILE, size)))
    message = UnixFS(NodeType.FILE, None, 2 * size, [size] * 2)
    links = [(cid.to_bytes(), b"", framed)] * 2
    root = blocks.put(dag_pb.encode(message.encode(), links), DAG_PB)
    store = Store(tmp_path / "store")
    store._put(root, blocks)
    found = verify_object(str(root), store.address)
    assert (found.bytes, found.failures) == (2 * size, [])
