"""Values made of members' bytes, by the end of their names."""

from __future__ import annotations

import io
import json
import lzma
import re
import struct
import sys
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
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


def raising(error):
    def decode(data):
        raise error

    return decode


def nested(data):
    return nested(data)


# Functions that fail for some bytes as libraries do, and what the message contains.
DAMAGE: dict[str, tuple[Any, str]] = {
    "pillow": (lambda data: Image.open(io.BytesIO(data)), "UnidentifiedImageError"),
    "pixels": (raising(Image.DecompressionBombError("many pixels")), "many pixels"),
    "warning of pixels": (raising(Image.DecompressionBombWarning("many pixels")), "many pixels"),
    "text": (lambda data: (data + b"\xff").decode(), "UnicodeDecodeError"),
    "struct": (lambda data: struct.unpack("<Q", data), "unpack requires"),
    "zlib": (zlib.decompress, "incorrect header"),
    "lzma": (raising(lzma.LZMAError("corrupt")), "LZMAError: corrupt"),
    "zip": (lambda data: zipfile.ZipFile(io.BytesIO(data)), "BadZipFile"),
    "recursion": (nested, "RecursionError"),
    "digits": (lambda data: json.loads("1" * 5000), "5000 digits"),
    "overflow": (lambda data: float(10**400), "OverflowError"),
    "numpy": (lambda data: np.frombuffer(data, "u8"), "ValueError"),
    "torch": (lambda data: torch.frombuffer(bytearray(data), dtype=torch.int64), "ValueError"),
}
BUGS: dict[str, tuple[Any, str]] = {
    "torchvision": (raising(RuntimeError("not a JPEG")), "RuntimeError: not a JPEG"),
    "key": (lambda data: dict[str, int]()["label"], "KeyError: 'label'"),
    "number": (lambda data: 1 // 0, "ZeroDivisionError"),
    "time": (raising(TimeoutError()), "TimeoutError"),
    "exit": (lambda data: sys.exit(3), "SystemExit: 3"),
    # It would end the iteration, and all other samples would be lost.
    "stop": (lambda data: next(iter(())), "StopIteration"),
}


def make_object(store, kind, files):
    if kind == "compressed tar":
        return IPFSObject(store.file(tar_bytes(files, "w:gz")), RemoteFileType.TAR)
    return {
        "folder": lambda: IPFSObject(store.tree(files)),
        "tar": lambda: IPFSObject(store.file(tar_bytes(files)), RemoteFileType.TAR),
        "zip": lambda: IPFSObject(store.file(zip_bytes(files)), RemoteFileType.ZIP),
    }[kind]()


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "compressed tar"])
@pytest.mark.parametrize("failing", [*DAMAGE, *BUGS])
def test_whatever_a_decoder_raises_names_the_sample_and_loses_only_that(store, kind, failing):
    function, words = (DAMAGE | BUGS)[failing]
    files = {"a.num": b"1", "b.num": b"two", "c.num": b"3"}
    obj = make_object(store, kind, files)

    def decode(data):
        return function(data) if data == b"two" else int(data)

    options: dict[str, Any] = {"decoders": {".num": decode}}
    stream = IPFSIterableDataset(obj, store.address, **options)
    with pytest.raises(FormatError if failing in DAMAGE else PluginError) as caught:
        list(stream)
    message = str(caught.value)
    assert obj.url in message
    assert "'b.num', 3 bytes" in message
    assert words in message
    assert "decode" in message
    for skipping in (
        IPFSIterableDataset(obj, store.address, handler="skip", **options),
        IPFSIterableDataset(obj, store.address, handler="skip", shuffle_blocks=True, **options),
    ):
        assert sorted(skipping) == [("a.num", 1), ("c.num", 3)]
        assert skipping.skipped == 1
    if kind != "compressed tar":
        dataset = MapStyle(obj, store.address, handler="skip", **options)
        assert dataset.__getitems__([2, 1, 0]) == [("c.num", 3), ("a.num", 1)]
        assert dataset.skipped == 1


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_error_of_a_decoder_names_the_bytes_in_the_archive(store, kind):
    files = {f"{n}.num": b"%d" % n * 100 for n in range(3)}
    data = tar_bytes(files) if kind == "tar" else zip_bytes(files, zipfile.ZIP_STORED)
    obj = IPFSObject(store.file(data), kind)

    def decode(data):
        return int(data + (b"x" if data[:1] == b"1" else b""))

    dataset = MapStyle(obj, store.address, decoders={".num": decode})
    for read in (lambda: dataset[1], lambda: dataset.__getitems__([2, 1]), lambda: list(dataset)):
        with pytest.raises(FormatError, match=r"1\.num") as caught:
            read()
        found = re.search(r"bytes (\d+)-(\d+)", str(caught.value))
        assert found is not None
        assert data[int(found[1]) : int(found[2]) + 1].endswith(files["1.num"])


def test_only_samples_that_cannot_be_decoded_are_lost_of_a_compressed_tar(store):
    files = {f"{n:02}.num": b"x" if n in {0, 3, 4, 9} else b"%d" % n for n in range(10)}
    obj = make_object(store, "compressed tar", files)
    stream = IPFSIterableDataset(obj, store.address, decoders={".num": int}, handler="skip")
    assert [value for _, value in stream] == [1, 2, 5, 6, 7, 8]
    assert stream.skipped == 4
    few = IPFSIterableDataset(
        obj, store.address, decoders={".num": int}, handler="skip", max_failures=2
    )
    with pytest.raises(FormatError, match=r"failure number 2 in a row"):
        list(few)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_ctrl_c_and_a_lack_of_memory_are_not_skipped(store, objects, error):
    decoders = {".num": raising(error)}
    for kind in ("zip", "folder"):
        with pytest.raises(error):
            list(
                IPFSIterableDataset(objects[kind], store.address, decoders=decoders, handler="skip")
            )


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
