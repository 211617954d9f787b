"""Dataset objects: what users may give, when an object is looked up, and which shards it becomes."""

from __future__ import annotations

import os
import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.datasets.objects import DatasetObject, as_objects
from ipfs_dataset_core.datasets.shards import FolderShard, ObjectShard
from ipfs_dataset_core.errors import (
    AddressError,
    FormatError,
    LimitError,
    TransportError,
)
from ipfs_dataset_core.interfaces import Reader
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.options import Limits, Options
from ipfs_dataset_core.reading.connections import Connections
from tests.support.builders import noise, tar_bytes, tree, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.stores import Store

MEMBERS = {f"{number}.txt": str(number).encode() for number in range(3)}
ABSENT = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
CID = f"ipfs://{ABSENT}"


class Number(Reader):
    """A number a file."""

    suffixes = (".num",)

    def decode(self, data, index, position):
        return int(data)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def found(store):
    """Returns a function that makes the object of a URL in the store."""
    opened = []

    def find(url, filetype=None, *, decoders=None, **options):
        connections = Connections(store.address, Options(**options))
        opened.append(connections)
        decoding = Decoders(decoders) if decoders else Decoders()
        return DatasetObject(IPFSObject(url, filetype), connections, decoding)

    yield find
    for connections in opened:
        connections.close()


def all_samples(obj):
    return [sample for shard in obj.shards() for sample in shard.samples()]


@pytest.mark.parametrize("given", [CID, IPFSObject(CID), [CID], (IPFSObject(CID),), iter([CID])])
def test_one_object_or_several_may_be_given(given):
    assert as_objects(given) == [IPFSObject(CID)]


def test_no_object_is_an_empty_dataset():
    assert as_objects([]) == []


@pytest.mark.parametrize("given", [3, None, object()])
def test_other_values_are_refused_by_type(given):
    with pytest.raises(TypeError, match="an IPFSObject, a URL, or several, not"):
        as_objects(given)
    with pytest.raises(TypeError, match="must contain IPFSObject values"):
        as_objects([CID, given])


@pytest.mark.parametrize("wrap", [lambda path: path, lambda path: [path]])
def test_a_local_path_is_refused_with_what_to_do(wrap):
    with pytest.raises(AddressError, match=r"data\.zip"):
        as_objects(wrap(Path("data.zip")))


def test_nothing_is_fetched_before_the_shards_are_asked_for():
    root, blocks = tree(MEMBERS)
    with GatewayServer(blocks) as server:
        connections = Connections(f"gateway+{server.url}", Options())
        with closing(connections):
            obj = DatasetObject(IPFSObject(f"ipfs://{root}"), connections)
            assert sum(server.served.values()) == 0
            first = obj.shards()
            assert sum(server.served.values()) > 0
            before = sum(server.served.values())
            assert obj.shards() is first
            assert sum(server.served.values()) == before, "an object is looked up once"


def test_an_archive_or_a_plain_object_is_one_shard(found, store):
    archive = found(store.file(zip_bytes(MEMBERS)), RemoteFileType.ZIP)
    plain = found(store.file(b"alone"), RemoteFileType.PLAIN)
    assert [type(shard) for shard in (*archive.shards(), *plain.shards())] == [ObjectShard] * 2
    assert all_samples(archive) == list(MEMBERS.items())
    assert [value for _, value in all_samples(plain)] == [b"alone"]


def test_plain_members_of_a_folder_form_runs_between_its_archives(found, store):
    files = {
        "a.txt": b"a",
        "b.txt": b"b",
        "c.tar": tar_bytes(MEMBERS),
        "d.txt": b"d",
        "e.zip": zip_bytes(MEMBERS),
    }
    obj = found(store.tree(files))
    kinds = [(type(shard), len(shard)) for shard in obj.shards()]
    assert kinds == [(FolderShard, 2), (ObjectShard, 3), (FolderShard, 1), (ObjectShard, 3)]
    expected = [
        ("a.txt", b"a"),
        ("b.txt", b"b"),
        *MEMBERS.items(),
        ("d.txt", b"d"),
        *MEMBERS.items(),
    ]
    assert all_samples(obj) == expected
    assert [len(shard) for shard in obj.counted_shards()] == [2, 3, 1, 3]


def test_an_archive_that_a_list_names_twice_is_one_shard_twice(found, store):
    listing = b"a.zip\nx.txt\na.zip\n"
    files = {"a.zip": zip_bytes(MEMBERS), "x.txt": b"x", "metadata.txt": listing}
    first, _, again = found(store.tree(files)).shards()
    assert first is again


def test_members_with_a_decoder_are_plain_members_even_where_a_format_has_their_suffix(
    found, store
):
    obj = found(store.tree({"a.zip": zip_bytes(MEMBERS), "b.txt": b"b"}), decoders={".zip": len})
    assert [type(shard) for shard in obj.shards()] == [FolderShard]
    assert all_samples(obj) == [("a.zip", len(zip_bytes(MEMBERS))), ("b.txt", b"b")]


def test_members_of_a_named_format_form_one_shard_and_others_are_left_out(found, store):
    obj = found(store.tree({"a.num": b"1", "b.txt": b"x", "c.NUM": b"3"}), Number)
    [shard] = obj.shards()
    assert isinstance(shard, FolderShard)
    assert all_samples(obj) == [("a.num", 1), ("c.NUM", 3)]


def test_an_error_of_a_member_names_its_line_in_the_list(found, store):
    members = {"a.num": b"1", "b.num": b"two"}
    obj = found(store.folder(members), Number)
    with pytest.raises(FormatError, match=r"b\.num") as caught:
        all_samples(obj)
    assert "line 2 of metadata.txt" in str(caught.value)
    location: Any = caught.value.location
    assert (location.file, location.listed) == ("b.num", "line 2 of metadata.txt")


def test_a_file_where_a_folder_was_named_is_a_format_error(found, store):
    with pytest.raises(FormatError, match="is a file, but the format 'folder' reads a directory"):
        found(store.file(b"x"), RemoteFileType.FOLDER).shards()


def test_a_missing_object_is_named_and_requested_again_later(found):
    obj = found(CID, retries=0)
    for _ in range(2):
        with pytest.raises(TransportError, match=ABSENT):
            obj.shards()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(archives=1), "archives"),
        (Limits(members=5), "members"),
    ],
)
def test_the_members_of_one_object_are_limited(found, store, limits, words):
    files = {f"{number}.zip": zip_bytes(MEMBERS) for number in range(2)}
    with pytest.raises(LimitError, match=words):
        found(store.tree(files), limits=limits).counted_shards()


def test_closed_objects_are_opened_again(found, store):
    for obj in (found(store.tree(MEMBERS)), found(store.file(noise(10)), RemoteFileType.PLAIN)):
        before = all_samples(obj)
        obj.close()
        assert all_samples(obj) == before


@pytest.mark.parametrize("used", [False, True])
def test_an_object_pickles_before_and_after_its_use(found, store, used):
    obj = found(store.tree({**MEMBERS, "z.zip": zip_bytes(MEMBERS)}))
    if used:
        obj.shards()
    again = pickle.loads(pickle.dumps(obj))
    assert all_samples(again) == [*MEMBERS.items(), *MEMBERS.items()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_opens_for_itself(found, store):
    obj = found(store.tree(MEMBERS))
    expected = all_samples(obj)
    if (child := os.fork()) == 0:
        os._exit(0 if all_samples(obj) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
