"""Objects of each format and their edges, read by number and in order."""

from __future__ import annotations

import gzip
import pickle
import random
import zipfile
from typing import Any

import pytest

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import Reader
from ipfs_dataset_core.errors import AddressError, FormatError, ObjectNotFoundError
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_plugins.tar import TarReader
from ipfs_dataset_plugins.zip import ZipReader
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.stores import SMALL_LEAVES, Store, members
from tests.support.zip_records import Entry, archive


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(("kind", "archive"), [("zip", zip_bytes({})), ("tar", tar_bytes({}))])
def test_an_empty_archive_has_no_samples(store, kind, archive):
    objects = [IPFSObject(store.file(archive), kind), store.file(b"x")]
    dataset = IPFSDataset(objects, store.address)
    assert len(dataset) == 1
    assert dataset[0][1] == b"x"
    with pytest.raises(IndexError):
        dataset[1]
    assert [data for _, data in IPFSIterableDataset(objects, store.address)] == [b"x"]


def test_an_empty_file_is_a_sample(store):
    url = store.file(b"")
    assert IPFSDataset(url, store.address)[0] == (url, b"")
    assert list(IPFSIterableDataset(url, store.address)) == [(url, b"")]


def test_a_compressed_tar_streams_and_the_error_of_indexing_gives_the_reason(store):
    root = store.tree({"data.tar.gz": tar_bytes(members(6), "w:gz")})
    url = f"ipfs://{root}/data.tar.gz"
    dataset = IPFSIterableDataset(url, store.address)
    assert list(dataset) == list(members(6).items())
    with pytest.raises(TypeError, match="no len"):
        len(dataset)
    with pytest.raises(FormatError, match=r"data\.tar\.gz.*IPFSIterableDataset"):
        len(IPFSDataset(url, store.address))


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_without_a_type_or_suffix_is_detected_by_its_content(store, mode):
    url = store.file(tar_bytes(members(6), mode))
    assert list(IPFSIterableDataset(url, store.address)) == list(members(6).items())
    with pytest.raises(FormatError, match="IPFSIterableDataset"):
        len(IPFSDataset(url, store.address))
    plain = store.file(gzip.compress(b"text" * 999, mtime=0))
    assert list(IPFSIterableDataset(plain, store.address)) == [
        (plain, gzip.compress(b"text" * 999, mtime=0))
    ]


def test_concatenated_archives_are_refused_unless_the_reader_allows_them(store):
    first, second = {"a": b"1"}, {"b": b"22"}
    url = store.file(tar_bytes(first) + tar_bytes(second))
    for kind in (IPFSDataset, IPFSIterableDataset):
        refused: Any = kind(url, store.address)
        with pytest.raises(FormatError, match=rf"{url}.*TarReader\(ignore_zeros=True\)"):
            list(refused)
        both: Any = kind(IPFSObject(url, TarReader(ignore_zeros=True)), store.address)
        assert list(pickle.loads(pickle.dumps(both))) == [("a", b"1"), ("b", b"22")]


def test_names_in_a_zip_are_decoded_with_the_encoding_of_its_reader(store):
    url = store.file(archive(Entry("猫".encode("cp932"), b"1")))
    for encoding, name in ((None, "猫".encode("cp932").decode("cp437")), ("cp932", "猫")):
        obj = IPFSObject(url, ZipReader(encoding=encoding))
        assert IPFSDataset(obj, store.address)[0] == (name, b"1")
        assert list(IPFSIterableDataset(obj, store.address)) == [(name, b"1")]


def test_the_format_is_found_by_suffix_then_by_content(store):
    archive = zip_bytes(members(2))
    found = IPFSDataset(store.file(archive), store.address)
    assert len(found) == 2
    assert len(IPFSDataset(store.file(tar_bytes(members(3))), store.address)) == 3
    root = store.tree({"a.zip": archive, "guitar": b"strings", "b.dat": archive})
    by_name: Any = IPFSDataset([f"{root}/a.zip", f"{root}/guitar"], store.address)
    assert [name for name, _ in by_name] == [*members(2), f"{root}/guitar"]
    as_blob = IPFSDataset(IPFSObject(f"{root}/b.dat", RemoteFileType.PLAIN), store.address)
    assert as_blob[0] == (f"{root}/b.dat", archive)


def test_a_plain_stream_is_an_open_file(store):
    data = noise(3 << 20)
    objects = IPFSObject(store.file(data), RemoteFileType.PLAIN_STREAM)
    [(_, file)] = IPFSIterableDataset(objects, store.address)
    assert file.read(10) == data[:10]
    file.seek(-5, 2)
    assert file.read() == data[-5:]
    name, again = IPFSDataset(objects, store.address)[0]
    assert name == objects.url
    assert again.read() == data


def test_members_of_many_blocks_are_read_whole(store):
    files = {f"m{number}": noise(700_000, number) for number in range(4)}
    archive = zip_bytes(files, zipfile.ZIP_STORED)
    objects = [
        store.file(archive, SMALL_LEAVES),
        store.folder(files),
        store.file(tar_bytes(files), SMALL_LEAVES),
    ]
    expected = [*files.items()] * 3
    assert list(IPFSIterableDataset(objects, store.address)) == expected
    dataset = IPFSDataset(objects, store.address, memory=1 << 20)
    order = random.Random(1).sample(range(12), 12)
    assert dataset.__getitems__(order) == [expected[index] for index in order]


def test_a_format_may_be_given_as_an_instance_or_a_declaration(store):
    url = store.file(zip_bytes(members(2)))
    declared = default_registry().reader("zip")
    assert len(IPFSDataset(IPFSObject(url, declared), store.address)) == 2

    class Reversed(Reader):
        def samples(self, source):
            yield source.name, source.read()[::-1]

    assert list(IPFSIterableDataset(IPFSObject(store.file(b"abc"), Reversed()), store.address)) == [
        (store.file(b"abc"), b"cba")
    ]
    with pytest.raises(FormatError, match="without random access"):
        len(IPFSDataset(IPFSObject(store.file(b"abc"), Reversed()), store.address))


@pytest.mark.parametrize(
    ("given_format", "content", "message"),
    [
        (RemoteFileType.ZIP, b"no archive", "zip|ZIP|archive"),
        (RemoteFileType.TAR, b"no archive" * 100, "TAR|tar"),
        (RemoteFileType.FOLDER, b"a file", "is a file.*reads a directory"),
        (dict, b"x", "filetype must be"),
    ],
)
def test_a_wrong_format_is_a_typed_error_that_names_the_object(
    store, given_format, content, message
):
    url = store.file(content)
    for dataset in (
        IPFSDataset(IPFSObject(url, given_format), store.address),
        IPFSIterableDataset(IPFSObject(url, given_format), store.address),
    ):
        with pytest.raises((FormatError, AddressError), match=message) as caught:
            next(iter(dataset))
        assert url in str(caught.value)


def test_a_folder_read_with_a_format_of_files_is_refused(store):
    url = store.folder(members(1))
    with pytest.raises(FormatError, match=r"is a directory.*use FOLDER"):
        IPFSDataset(IPFSObject(url, RemoteFileType.ZIP), store.address)[0]


def test_a_listed_member_that_is_missing_fails_when_it_is_read(store):
    root = store.tree({"metadata.txt": b"a\nb\nmissing\nc\n", "a": b"1", "b": b"2", "c": b"3"})
    stream = iter(IPFSIterableDataset(root, store.address))
    assert [next(stream), next(stream)] == [("a", b"1"), ("b", b"2")]
    with pytest.raises(ObjectNotFoundError, match="missing"):
        next(stream)
    dataset = IPFSDataset(root, store.address)
    assert dataset.__getitems__([0, 3]) == [("a", b"1"), ("c", b"3")]
    with pytest.raises(ObjectNotFoundError, match="missing"):
        dataset.__getitems__([0, 2])
