"""Published datasets of few bytes that claim to be, or become, gigabytes; the original form as well."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import Connections, ObjectDirectory, Options
from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, LimitError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import DAG_PB, RAW, NodeType, dag_pb, make_cid
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from ipfs_dataset_core.reading.objects import open_object
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from ipfs_dataset_core.toolkit.indexes import NameTable, pack_columns, unpack_columns
from ipfs_dataset_plugins.original.exporter import Original
from ipfs_dataset_plugins.store import FolderStore
from ipfs_dataset_plugins.tar_shards import manifest
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec, scalars
from ipfs_dataset_plugins.tar_shards.codecs.schema import Member, parse_schema
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from tests.support.bounded import outcome, run_bounded
from tests.support.builders import tar_bytes

HEAD = {"identifier": "ipfs-dataset", "version": "2.0", "form": "tar_shards", "codec": "members-1"}
SHARD = {"path": "s/0.tar", "cid": "bafy", "size": 1 << 40, "samples": 1 << 40, "index": "i/0.json"}
PRIME = (1 << 61) - 1


def overview(shards, **changes):
    samples = sum(shard["samples"] for shard in shards)
    return {**HEAD, "profile": "p", "samples": samples, "schema": None, "shards": shards, **changes}


def decode(codec, data):
    return SampleCodec().decode(Member(codec, "x"), {"x": data}, "sample 0")


def colliding(kind):
    """Returns JSON of a dict whose keys have the same hash, some 600 KB of it."""
    if kind == "int":
        keys = [hex(PRIME * n) for n in range(1, 17_000)]
        pairs = [[{"$int": key}, 0] for key in keys]
    elif kind == "tuple":
        pairs = [[{"$tuple": [{"$int": hex(PRIME * n)}]}, 0] for n in range(1, 14_000)]
    else:  # 1000003 is what Python multiplies the imaginary part by
        pairs = [[{"$complex": [float(-1_000_003 * n), float(n)]}, 0] for n in range(1, 16_000)]
    return json.dumps({"$dict": pairs}).encode()


def decode_bombs():
    list_width = b'["L",{"$tuple":[[1],300000000]},null,null]\n'
    wide = b'["L",{"$tuple":[1099511627776,1099511627776]},null,null]\n'
    negative = b'["L",{"$tuple":[-65536,-65536]},null,null]\n'
    boolean = b'["L",{"$tuple":[true,1]},null,null]\nx'
    big = b'["F",{"$tuple":[100000,100000]},null,null]\n' + bytes(1000)
    images = [list_width, wide, negative, boolean, big]
    found = [outcome(partial(decode, "pil", data)) for data in images]
    found += [outcome(partial(decode, "json", colliding(k))) for k in ("int", "tuple", "complex")]
    schema = {"dict": [[{"$int": hex(PRIME * n)}, {"tuple": []}] for n in range(1, 17_000)]}
    found.append(outcome(partial(parse_schema, json.dumps(schema).encode(), "it")))
    many = {"list": [{"codec": "bytes", "member": "x"}] * 3000}
    found.append(outcome(partial(parse_schema, json.dumps(many).encode(), "it")))
    deep = b'{"list":[' * 500 + b'{"codec":"bytes","member":"x"}' + b"]}" * 500
    found.append(outcome(partial(parse_schema, deep, "it")))
    return found


def test_small_members_cannot_expand_to_gigabytes_or_take_minutes():
    found = run_bounded(decode_bombs, seconds=30, mib=200)
    assert len(found) == 11
    assert {text.partition(":")[0] for text in found} == {"FormatError"}


@pytest.mark.parametrize("kind", ["int", "tuple", "complex"])
def test_dicts_of_many_usual_keys_are_read(kind):
    makes: dict[str, Any] = {
        "int": int,
        "tuple": lambda n: (n, -n),
        "complex": lambda n: complex(n, n / 2),
    }
    value: dict[Any, Any] = {makes[kind](n): n for n in range(5000)}
    value |= {-1.0: "a", -2.5: "b", 2.0**80: "c"}
    assert scalars.loads(scalars.dumps(value), "it") == value


def test_a_name_or_key_that_occurs_twice_is_refused():
    for text in ('{"a":1,"a":2}', '{"$dict":[[1,1],[1,2]]}', '{"$dict":[[1,1],[true,2]]}'):
        with pytest.raises(FormatError):
            scalars.loads(text, "it")
    with pytest.raises(FormatError, match="twice"):
        parse_schema(b'{"tuple":[{"codec":"int","member":"x"},{"codec":"str","member":"x"}]}', "it")


def load_manifests():
    found = []
    for fields in manifests():
        source = MemoryDirectory({"manifest.json": json.dumps(fields).encode()})
        found.append(outcome(partial(_blocks, source)))
    for part in ('{"a":{}},', "[],", "1,", '{"a":[[]]},'):
        head = json.dumps({**HEAD, "x": 0})[:-2]
        text = f"{head}[{part * ((63 << 20) // len(part))}0]}}"
        source = MemoryDirectory({"manifest.json": text.encode()})
        del text
        found.append(outcome(partial(TarShards(ExporterOptions()).load, source)))
    return found


def _blocks(source):
    samples = TarShards(ExporterOptions()).load(source)
    assert samples is not None
    return len(samples.block_stops(1 << 20))


def manifests():
    shards = [{**SHARD, "samples": 1 << 20}] * 2000
    return [
        overview([SHARD]),
        overview(shards),
        overview([{**SHARD, "samples": 1 << 20, "size": 0}]),
        overview([{**SHARD, "samples": True}]),
        overview([{**SHARD, "samples": 1.0}], samples=1.0),
        overview([{**SHARD, "samples": 1}], samples=True),
        overview([], samples=False),
        overview([{**SHARD, "samples": 1}], schema={"list": [{"tuple": []}] * 200_000}),
    ]


def test_manifests_with_large_claimed_counts_take_no_memory():
    found = run_bounded(load_manifests, seconds=60, mib=700)
    kinds = [text.partition(":")[0] for text in found]
    assert set(kinds) == {"FormatError", "LimitError"}, found
    assert kinds[1] == "LimitError"
    assert "Limits(members=" in found[1]
    assert kinds[-4:] == ["LimitError"] * 4


def parse_indexes():
    shard = manifest.Shard(path="s.tar", cid="b", size=1 << 40, samples=1 << 20, index="i.json")
    texts = [b"[" + part * ((31 << 20) // len(part)) + b"1]" for part in (b"1,", b"[],", b"1.5,")]
    texts.append(json.dumps([1] * ((1 << 20) - 1) + [1.0]).encode())
    return [outcome(partial(manifest.parse_index, text, shard, trailer=0)) for text in texts]


def test_indexes_longer_than_their_shard_are_refused_before_they_are_parsed():
    found = run_bounded(parse_indexes, seconds=30, mib=250)
    assert {text.partition(":")[0] for text in found} == {"FormatError"}


def test_a_shard_whose_size_differs_from_the_manifest_is_refused(tmp_path):
    cid = IPFSDatasetExporter(str(tmp_path)).export_to_ipfs([1, 2])
    source = _directory(tmp_path, cid)
    text = json.loads(source["manifest.json"])
    source[text["shards"][0]["path"]] += b"more"
    samples = TarShards(ExporterOptions()).load(MemoryDirectory(source))
    assert samples is not None
    with pytest.raises(FormatError, match="in the manifest: the dataset"):
        samples.read(0)


def _directory(folder, cid):
    """Returns the files of what was published in a store."""
    directory = open_object(f"ipfs://{cid}", Connections(str(folder), Options()))
    assert isinstance(directory, ObjectDirectory)
    return {path: directory.open(path).read() for path in directory.walk()}


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_change_to_a_published_dataset_gives_samples_or_a_typed_error(data):
    files = dict(PUBLISHED)
    path = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[path])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(
            st.sampled_from(
                [b"", b"0", b"9999999999", b"[", b"{}", b"-1", b"true", b"1e9", b"\xff"]
            )
        )
    files[path] = bytes(content)
    with contextlib.suppress(IPFSDatasetError):
        samples = TarShards(ExporterOptions()).load(MemoryDirectory(files))
        if samples is not None:
            assert len(samples) <= 1000
            list(samples.iterate(0, len(samples)))


def _published():
    with tempfile.TemporaryDirectory() as folder:
        samples = [
            {"a": (1, torch.zeros(2)), 3: "text"},
            {"a": (2, torch.ones(3)), 3: "x"},
            [b"own"],
        ]
        cid = IPFSDatasetExporter(folder).export_to_ipfs(samples)
        return _directory(Path(folder), cid)


PUBLISHED = _published()


def test_an_index_whose_names_are_not_ascending_is_refused():
    names = NameTable(["a" * 100, "b", "c" * 100])
    blob, stops = names.columns
    packed = pack_columns(names)
    assert list(unpack_columns(packed, "", Limits())[0]) == list(names)
    wrong = packed.replace(struct.pack("<3Q", *stops), struct.pack("<3Q", len(blob), 0, len(blob)))
    assert wrong != packed
    with pytest.raises(ValueError, match="ends before"):
        unpack_columns(wrong, "", Limits())


# The form of the original library


class Root(MemoryFile):
    """A file that names others."""

    def __init__(self, content, others, limits):
        super().__init__(content, "ipfs://QmRoot", limits=limits)
        self.others = others

    def open_cid(self, cid):
        return MemoryFile(self.others[cid], cid, limits=self.limits)


def original(*shards, times=1, limits=None):
    others = {f"Qm{number}": shard for number, shard in enumerate(shards)}
    fields = {"identifier": "ipfs-dataset", "version": "1.0", "list": list(others) * times}
    root = Root(json.dumps(fields).encode(), others, limits or Limits())
    return Original(ExporterOptions()).load(root)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def resaved(data, compression, names=lambda name: [name]):
    """Returns the records of a file put into another ZIP, each under one or several names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for info in old.infolist():
            for name in names(info.filename):
                new.writestr(name, old.read(info.filename))
    return buffer.getvalue()


def negative_size():
    """Returns an archive whose second member has the size -512, as GNU's base 256 can say."""
    data = bytearray(tar_bytes({"a": b"x", "b": b"y"}))
    size = (-512).to_bytes(12, "big", signed=True)
    data[1024 + 124 : 1024 + 136] = size
    data[1024 + 148 : 1024 + 156] = b" " * 8
    checksum = sum(data[1024:1536])
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % checksum
    return bytes(data[:2560])


def _last(samples):
    return samples.read(len(samples) - 1)


def read_originals(folder, terabyte):
    zeros = resaved(saved(torch.zeros(200 << 20, dtype=torch.uint8)), zipfile.ZIP_DEFLATED)
    assert len(zeros) < 2 << 20
    found = []
    for shard in (negative_size(), tar_bytes({"0": zeros})):
        samples = original(shard, limits=Limits(member_bytes=64 << 20))
        found.append(outcome(partial(_last, samples)))
    dataset = partial(IPFSDatasetExporter(folder).import_from_ipfs, terabyte)
    found.append(outcome(lambda: len(dataset())))
    return found


def test_small_original_files_cannot_expand_to_gigabytes(tmp_path):
    leaf = b"".join(tar_bytes({hashlib.md5(b"%d" % n).hexdigest(): b""})[:512] for n in range(2048))
    store = FolderStore(tmp_path)
    cid, size = make_cid(leaf, RAW), len(leaf)
    store.put_blocks([(cid, leaf)])
    for _ in range(2):
        message = UnixFS(NodeType.FILE, filesize=size * 1000, blocksizes=[size] * 1000)
        block = dag_pb.encode(message.encode(), [(cid.to_bytes(), b"", 1)] * 1000)
        cid, size = make_cid(block, DAG_PB), size * 1000
        store.put_blocks([(cid, block)])
    text = {"identifier": "ipfs-dataset", "version": "1.0", "list": [str(cid)]}
    data = json.dumps(text).encode()
    store.put_blocks([(make_cid(data, RAW), data)])
    # The records that are deflated are made there, too, of 200 MiB.
    found = run_bounded(
        read_originals, str(tmp_path), str(make_cid(data, RAW)), seconds=90, mib=900
    )
    assert [text.partition(":")[0] for text in found] == [
        "FormatError",
        "FormatError",
        "LimitError",
    ]
    assert "negative" in found[0]
    assert "compressed" in found[1]
    assert "again and again" in found[2]


def test_files_that_torch_saved_are_read_and_others_are_not():
    for value in (torch.ones(3), {"a": [torch.zeros(2, 2), "x", 1.5]}, [b"bytes" * 100, None]):
        data = saved(value)
        read = original(tar_bytes({"0": data})).read(0)
        assert str(read) == str(value)
        for wrong in (
            resaved(data, zipfile.ZIP_DEFLATED),
            data + b"x",
            data + data,
            data[:-40] + data[-22:],
        ):
            with pytest.raises(FormatError):
                original(tar_bytes({"0": wrong})).read(0)


def test_records_that_share_their_bytes_are_refused():
    data = bytearray(saved({str(n): torch.full((1000,), float(n)) for n in range(5)}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
    # All records of tensors are said to be four times as large as they are.
    for name in infos:
        if "/data/" in name:
            at = data.rindex(name.encode()) - 46
            size = struct.pack("<2I", 16_000, 16_000)
            data[at + 20 : at + 28] = size
    with pytest.raises(FormatError, match=r"not in the form written by torch\.save"):
        original(tar_bytes({"0": bytes(data)})).read(0)


def test_a_shard_that_is_listed_many_times_is_indexed_once_and_all_are_counted():
    shard = tar_bytes({"0": saved(1), "1": saved(2)})
    samples = original(shard, times=2000)
    assert len(samples) == 4000
    assert [samples.read(n) for n in (0, 1, 2, 3999)] == [1, 2, 1, 2]
    with pytest.raises(LimitError, match="members"):
        len(original(shard, times=2000, limits=Limits(members=3999)))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=6)), max_size=4))
def test_any_damage_to_a_file_of_torch_gives_a_sample_or_a_typed_error(changes):
    data = bytearray(SAVED)
    for at, written in changes:
        start = at % len(data)
        data[start : start + len(written)] = written
    with contextlib.suppress(IPFSDatasetError):
        original(tar_bytes({"0": bytes(data)})).read(0)


SAVED = saved([torch.arange(4), {"a": 1}])
