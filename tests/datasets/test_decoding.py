"""Values made of members' bytes, by the end of their names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import (
    FormatError,
    PluginError,
    Reader,
    SpanIndex,
    UnknownPluginError,
    WholeFileIndex,
)
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store
from tests.support.workers import as_it_is

# Iterated by number, which its type does not tell.
MapStyle: Any = IPFSDataset

FILES = {"a.num": b"1", "b.NUM": b"2", "c.x.json": b"[3]", "d.json": b'"4"', "e.txt": b"5"}
DECODED = [("a.num", 1), ("b.NUM", 2), ("c.x.json", {"x": [3]}), ("d.json", "4"), ("e.txt", b"5")]


class Number(Reader):
    suffixes = (".num",)

    def decode(self, data, index, position):
        return int(data)


class Digits(Reader):
    """A file has many samples."""

    suffixes = (".num",)

    def index(self, source):
        return SpanIndex(source.name, range(source.size), range(1, source.size + 1))

    def decode(self, data, index, position):
        return int(data)


def wrapped(data):
    return {"x": json.loads(data)}


DECODERS: Any = {".num": Number, ".json": json.loads, ".x.json": wrapped}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def objects(store):
    return {
        "folder": IPFSObject(store.tree(FILES)),
        "listed folder": IPFSObject(store.folder(FILES)),
        "tar": IPFSObject(store.file(tar_bytes(FILES)), RemoteFileType.TAR),
        "zip": IPFSObject(store.file(zip_bytes(FILES)), RemoteFileType.ZIP),
        "tar in a folder": IPFSObject(store.tree({"a.tar": tar_bytes(FILES)})),
    }


KINDS = ("folder", "listed folder", "tar", "zip", "tar in a folder")


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_archives_and_folders_are_decoded(store, objects, kind):
    dataset = MapStyle(objects[kind], store.address, decoders=DECODERS)
    assert [dataset[n] for n in range(len(dataset))] == DECODED
    assert dataset.__getitems__([4, 0, 2]) == [DECODED[n] for n in (4, 0, 2)]
    stream = IPFSIterableDataset(objects[kind], store.address, decoders=DECODERS)
    assert list(stream) == DECODED
    shuffled = IPFSIterableDataset(
        objects[kind], store.address, decoders=DECODERS, shuffle_blocks=True
    )
    assert sorted(shuffled) == DECODED


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_decode_too(store, objects, method):
    loader = DataLoader(
        IPFSIterableDataset([*objects.values()], store.address, decoders=DECODERS),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=method,
        collate_fn=as_it_is,
    )
    assert sorted(loader, key=repr) == sorted(len(objects) * DECODED, key=repr)


@pytest.mark.parametrize("decoder", [Number, Number(), int])
def test_a_plain_object_is_decoded(store, decoder):
    url = store.tree(FILES) + "/a.num"
    for obj in (url, IPFSObject(url, RemoteFileType.PLAIN)):
        assert list(MapStyle(obj, store.address, decoders={".num": decoder})) == [(url, 1)]


def test_a_format_with_many_samples_per_file_gives_their_list(store):
    tar = IPFSObject(store.file(tar_bytes({"a.num": b"123", "b.num": b""})), RemoteFileType.TAR)
    [(name, value), empty] = MapStyle(tar, store.address, decoders={".num": Digits})
    assert (name, [v for _, v in value], empty) == ("a.num", [1, 2, 3], ("b.num", []))


class Lengths(Reader):
    """A file is one sample, which is made without `decode`."""

    cheap_index = True

    def index(self, source):
        return WholeFileIndex(source.name, source.size)

    def read(self, source, index, position):
        return index.name(position), source.size


def test_a_format_with_one_sample_per_file_gives_its_value(store):
    archive = store.file(zip_bytes({"a.len": b"12345", "b.txt": b"text"}))
    dataset = MapStyle(IPFSObject(archive, "zip"), store.address, decoders={".len": Lengths})
    assert list(dataset) == [("a.len", 5), ("b.txt", b"text")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoding_error_names_member_and_object_and_can_be_skipped(store, kind):
    files = {"a.num": b"1", "b.num": b"two", "c.num": b"3"}
    obj = {
        "folder": IPFSObject(store.tree(files)),
        "listed folder": IPFSObject(store.folder(files)),
        "tar": IPFSObject(store.file(tar_bytes(files)), RemoteFileType.TAR),
        "zip": IPFSObject(store.file(zip_bytes(files)), RemoteFileType.ZIP),
        "tar in a folder": IPFSObject(store.tree({"a.tar": tar_bytes(files)})),
    }[kind]
    for decoder in (int, Number):
        decoders: Any = {".num": decoder}
        by = " by Number.decode" if decoder is Number else ""
        with pytest.raises(
            FormatError, match=rf"{obj.url}.*cannot be decoded{by}: ValueError"
        ) as caught:
            list(MapStyle(obj, store.address, decoders=decoders))
        assert "b.num" in str(caught.value)
        stream = IPFSIterableDataset(obj, store.address, decoders=decoders, handler="skip")
        assert list(stream) == [("a.num", 1), ("c.num", 3)]
        assert stream.skipped == 1


def test_an_exception_of_a_users_function_is_not_changed(store, objects):
    with pytest.raises(ZeroDivisionError):
        list(MapStyle(objects["zip"], store.address, decoders={".num": lambda _: 1 / 0}))


def test_an_exception_of_a_format_names_the_format(store, objects):
    class Wrong(Number):
        def decode(self, data, index, position):
            raise KeyError(data)

    with pytest.raises(PluginError, match=r"\(given\) \(Wrong\) failed at sample 0 of .*a\.num"):
        list(MapStyle(objects["zip"], store.address, decoders={".num": Wrong}))


def test_an_unknown_format_is_named(store, objects):
    with pytest.raises(UnknownPluginError, match="Unknown format 'nmber'"):
        list(MapStyle(objects["zip"], store.address, decoders={".num": "nmber"}))


@pytest.mark.parametrize(
    ("decoders", "words"),
    [
        ({"num": int}, "'num' is not a suffix"),
        ({3: int}, "3 is not a suffix"),
        (
            {".num": 3},
            "decoder of '.num' must be a function of bytes, a format's class or its name, not 3",
        ),
        (int, "decoders maps suffixes to functions of bytes"),
    ],
)
def test_decoders_are_checked_by_the_constructor(decoders, words):
    for kind in (MapStyle, IPFSIterableDataset):
        with pytest.raises(TypeError, match=words):
            kind("bafkqaaa", decoders=decoders)


@pytest.mark.parametrize("chosen", [Number, Number(), Digits, Digits()])
def test_the_samples_of_a_folder_of_a_format_are_those_of_its_members(store, chosen):
    files = {"a.num": b"1", "b/c.NUM": b"2", "readme.md": b"text"}
    for folder in (store.tree(files), store.folder(files)):
        obj = IPFSObject(folder, chosen)
        for kind in (MapStyle, IPFSIterableDataset):
            assert [value for _, value in kind(obj, store.address)] == [1, 2]


def test_a_folder_without_a_file_of_the_format_is_an_error(store):
    obj = IPFSObject(store.tree({"a.txt": b"1"}), Number)
    with pytest.raises(
        FormatError, match=r"none of its 1 files is of the format 'Number', .* in \.num"
    ):
        len(MapStyle(obj, store.address))


def test_an_empty_folder_is_an_empty_dataset(store):
    assert len(MapStyle(IPFSObject(store.tree({}), Number), store.address)) == 0
