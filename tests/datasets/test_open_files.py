"""Files of objects are closed again, also where something fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfs_dataset.operations import verification
from ipfs_dataset.operations.contents import open_contents
from ipfs_dataset.operations.download import download, download_file
from ipfs_dataset.operations.verification import verify_object
from ipfs_dataset_core.errors import AddressError, LimitError
from ipfs_dataset_core.ipld import DAG_PB, RAW, NodeType, dag_pb, make_cid
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_core.reading.files import VerifiedFile
from tests.support.builders import noise
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store

FILES = {f"{number:02}": noise(300_000, seed=number) for number in range(30)}


@pytest.fixture
def living(monkeypatch):
    """The files that are open, in a list."""
    found: list[VerifiedFile] = []
    opened, closed = VerifiedFile.__init__, VerifiedFile.close

    def init(self, *arguments, **named):
        opened(self, *arguments, **named)
        found.append(self)

    def close(self):
        found[:] = [file for file in found if file is not self]
        closed(self)

    monkeypatch.setattr(VerifiedFile, "__init__", init)
    monkeypatch.setattr(VerifiedFile, "close", close)
    return found


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Store(tmp_path / "store")


def damage(store, data):
    for path in Path(store.address).rglob("bafk*"):
        if path.read_bytes() == data:
            path.write_bytes(b"damaged")


class Stop:
    """Ends a run after so many bytes, as Ctrl-C does."""

    def __init__(self, limit):
        self.left = limit

    def __call__(self, size):
        self.left -= size
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("fails", ["nothing", "a file", "progress", "a thread"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_verifying_closes_what_it_opened(store, living, monkeypatch, kind, fails):
    monkeypatch.setattr(verification, "_PIECE_BYTES", 100_000)
    cid = store.tree(FILES) if kind == "folder" else store.file(b"".join(FILES.values()))
    if fails == "a file":
        damage(store, FILES["07"])
    if fails == "a thread":
        read = VerifiedFile.read_at

        def read_at(self, start, size):
            if start:
                raise MemoryError
            return read(self, start, size)

        monkeypatch.setattr(VerifiedFile, "read_at", read_at)
    progress = Stop(1_000_000 if fails == "progress" else 1 << 40)
    error = {"progress": KeyboardInterrupt, "a thread": MemoryError}.get(fails)
    if error is None:
        found = verify_object(cid, store.address, progress=progress)
        assert bool(found.failures) == (fails == "a file" and kind == "folder")
    else:
        with pytest.raises(error):
            verify_object(cid, store.address, progress=progress)
    assert living == []


def test_a_resumed_verification_closes_what_it_opened(store, living, monkeypatch):
    monkeypatch.setattr(verification, "_PIECE_BYTES", 100_000)
    monkeypatch.setattr(verification, "_SECONDS_BETWEEN_RECORDS", -1.0)
    cid = store.tree(FILES)
    with pytest.raises(KeyboardInterrupt):
        verify_object(cid, store.address, progress=Stop(3_000_000))
    found = verify_object(cid, store.address)
    assert found.resumed_bytes > 0
    assert found.bytes + found.resumed_bytes == 30 * 300_000
    assert living == []


def test_verification_of_a_small_file_that_states_a_huge_size_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data, lacking = noise(1000), make_cid(b"nobody has this", RAW)
    sizes = [len(data), 1 << 60]
    links = [(make_cid(data, RAW).to_bytes(), b"", 1), (lacking.to_bytes(), b"", 1)]
    block = dag_pb.encode(UnixFS(NodeType.FILE, None, sum(sizes), sizes).encode(), links)
    root = make_cid(block, DAG_PB)
    blocks = {root.multihash: block, make_cid(data, RAW).multihash: data}
    with GatewayServer(blocks) as gateway:
        found = verify_object(str(root), gateways=gateway.url, retries=0)
        assert len(gateway.requests) < 200
    assert len(found.failures) == 1
    assert str(lacking) in found.failures[0]


def test_a_file_larger_than_the_free_space_is_refused_before_it_is_written(store, tmp_path):
    """Eight blocks of 400 bytes may be a file of a petabyte."""
    blocks = {}

    def put(block, codec):
        cid = make_cid(block, codec)
        blocks[cid.multihash] = block
        return cid

    size, cid = 1000, put(noise(1000), RAW)
    for _ in range(7):
        links = [(cid.to_bytes(), b"", size)] * 100
        node = UnixFS(NodeType.FILE, None, size * 100, [size] * 100)
        size, cid = size * 100, put(dag_pb.encode(node.encode(), links), DAG_PB)
    root = put(
        dag_pb.encode(UnixFS(NodeType.DIRECTORY).encode(), [(cid.to_bytes(), b"f", 1)]), DAG_PB
    )
    words = r"would take .* its disk has .* free"
    with GatewayServer(blocks) as gateway:
        with open_contents(f"{root}/f", gateways=gateway.url) as contents:
            [(_, file)] = contents.find("0")
            with pytest.raises(LimitError, match=words):
                download_file(file, tmp_path / "file")
        with open_contents(str(root), gateways=gateway.url) as contents:
            with pytest.raises(LimitError, match=words):
                download(contents, tmp_path / "folder")
    assert not (tmp_path / "file").exists()


def test_a_download_that_fails_closes_what_it_opened(store, living, tmp_path):
    cid = store.tree(FILES)
    out = tmp_path / "out"
    out.mkdir()
    (out / "03").write_bytes(b"mine")
    with open_contents(cid, store.address) as contents, pytest.raises(AddressError, match="03"):
        download(contents, out)
    assert living == []
    with open_contents(f"{cid}/05", store.address) as contents:
        [(_, file)] = contents.find("0")
        with pytest.raises(AddressError, match="is a folder"):
            download_file(file, out)
    assert living == []
