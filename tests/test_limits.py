"""Every limit has a default, can be set, and is a LimitError that says how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.errors import IPFSDatasetError, LimitError
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.ipld import DAG_PB, RAW, NodeType, dag_pb, make_cid
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_core.options import Limits
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.stores import Store

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import CID

FILES = {f"{n}.bin": noise(3000 + n, n) for n in range(10)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def read(store, cid, filetype, limits):
    obj = IPFSObject(f"ipfs://{cid}", filetype)
    return list(IPFSIterableDataset(obj, store.address, limits=limits))


@pytest.mark.parametrize("field", attrs.fields(Limits), ids=lambda field: field.name)
def test_a_limit_is_at_least_one_and_named_in_its_error(field):
    with pytest.raises(ValueError, match=field.name):
        Limits(**{field.name: 0})
    limits = Limits(**{field.name: 5})
    limits.check(field.name, 5, "it")
    with pytest.raises(LimitError, match=rf"it has 6.*limit of 5.*Limits\({field.name}="):
        limits.check(field.name, 6, "it")


@pytest.mark.parametrize(
    ("filetype", "data"),
    [(RemoteFileType.TAR, tar_bytes(FILES)), (RemoteFileType.ZIP, zip_bytes(FILES))],
)
def test_archives_are_held_to_the_users_limits(store, filetype, data):
    cid = store.file(data)
    assert read(store, cid, filetype, Limits(members=10, member_bytes=3009)) == list(FILES.items())
    with pytest.raises(LimitError, match="member_bytes"):
        read(store, cid, filetype, Limits(member_bytes=3008))
    dataset = IPFSDataset(
        IPFSObject(f"ipfs://{cid}", filetype), store.address, limits=Limits(members=9)
    )
    with pytest.raises(LimitError, match="members"):
        len(dataset)


def test_a_plain_object_larger_than_one_read_is_refused_and_its_parts_are_not(store):
    cid = store.file(noise(100_000))
    with pytest.raises(LimitError, match="read_bytes"):
        read(store, cid, RemoteFileType.PLAIN, Limits(read_bytes=99_999))
    dataset = IPFSDataset(
        IPFSObject(f"ipfs://{cid}", RemoteFileType.PLAIN_STREAM),
        store.address,
        limits=Limits(read_bytes=1000),
    )
    file = dataset[0][1]
    file.seek(50_000)
    assert file.read(1000) == noise(100_000)[50_000:51_000]


def test_blocks_and_directories_are_held_to_the_users_limits(store):
    cid = store.file(noise(200_000))
    with pytest.raises(LimitError, match="block_bytes"):
        read(store, cid, RemoteFileType.PLAIN, Limits(block_bytes=100_000))
    deep = store.tree({"a/b/c/d/e.txt": b"x"})
    assert read(store, deep, RemoteFileType.FOLDER, Limits(directory_depth=4))
    with pytest.raises(LimitError, match="nested deeper than 3"):
        read(store, deep, RemoteFileType.FOLDER, Limits(directory_depth=3))
    wide = store.tree({f"{n}.txt": b"x" for n in range(20)})
    with pytest.raises(LimitError):
        read(store, wide, RemoteFileType.FOLDER, Limits(directory_entries=19))


def bomb(folder, levels=6, width=1000):
    """Stores a valid DAG in which every block links the same child many times, and returns its root."""
    store = FolderStore(folder)
    data = bytes(262_144)
    cid, size, tsize = make_cid(data, RAW), len(data), len(data)
    store.put_blocks([(cid, data)])
    for _ in range(levels):
        message = UnixFS(NodeType.FILE, filesize=size * width, blocksizes=[size] * width)
        block = dag_pb.encode(message.encode(), [(cid.to_bytes(), b"", tsize)] * width)
        cid, size = make_cid(block, DAG_PB), size * width
        tsize = tsize * width + len(block)
        store.put_blocks([(cid, block)])
    return cid, size


def test_of_a_file_bomb_the_last_bytes_can_be_read_and_the_whole_cannot(tmp_path):
    cid, size = bomb(tmp_path, levels=4)
    assert size > 1 << 54
    stream = IPFSObject(f"ipfs://{cid}", RemoteFileType.PLAIN_STREAM)
    file = IPFSDataset(stream, str(tmp_path))[0][1]
    assert file.size == size
    file.seek(-10, 2)
    assert file.read() == bytes(10)
    with pytest.raises(LimitError, match="read_bytes"):
        file.read_at(0, size)
    plain = IPFSObject(f"ipfs://{cid}", RemoteFileType.PLAIN)
    with pytest.raises(LimitError):
        IPFSDataset(plain, str(tmp_path))[0]


def test_a_directory_bomb_is_refused_in_bounded_time(tmp_path):
    store = FolderStore(tmp_path)
    leaf = make_cid(b"x", RAW)
    store.put_blocks([(leaf, b"x")])
    cid: CID = leaf
    for _ in range(8):
        links = [(cid.to_bytes(), b"%04d" % n, 1) for n in range(1000)]
        block = dag_pb.encode(UnixFS(NodeType.DIRECTORY).encode(), links)
        cid = make_cid(block, DAG_PB)
        store.put_blocks([(cid, block)])
    dataset = IPFSIterableDataset(
        IPFSObject(f"ipfs://{cid}", RemoteFileType.FOLDER),
        str(tmp_path),
        limits=Limits(members=5000),
    )
    with pytest.raises(LimitError, match="members"):
        next(iter(dataset))
    assert issubclass(LimitError, IPFSDatasetError)
