"""What is fuzzed: each target makes one hostile input of random numbers and reads it.

A target passes when it returns, or raises an error of ours, soon and without much memory. Where two ways to
read the same data both work, they agree.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import pickletools
import shutil
import tarfile
import tempfile
import zipfile
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ipfs_dataset_bitswap.kademlia.messages import decode_response
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_mat import MatReader
from ipfs_dataset_numpy.npy import NpyReader, NpyRowsReader
from ipfs_dataset_numpy.npz import NpzReader
from ipfs_dataset_parquet.reader import ParquetReader
from ipfs_dataset_safetensors.reader import SafetensorsReader, SafetensorsRowsReader
from ipfs_dataset_text.readers import CsvReader, JsonLinesReader, TextReader
from ipfs_dataset_webdataset.reader import WebDatasetReader
from PIL import Image
from scipy.io import savemat

from ipfs_dataset_core.addressing.public_hosts import is_private_host
from ipfs_dataset_core.addressing.sources import address_scheme
from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import (
    CID,
    LIBP2P_KEY,
    RAW,
    get_profile,
    make_cid,
    parse_file,
    verify_record,
)
from ipfs_dataset_core.ipld.car import index_car, read_car
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.objects import VerifiedDirectory
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile, MemoryTransport
from ipfs_dataset_core.toolkit.index_cache import IndexKey
from ipfs_dataset_plugins.folder import Folder
from ipfs_dataset_plugins.original.samples import load_sample
from ipfs_dataset_plugins.routing.providers import read_providers
from ipfs_dataset_plugins.tar.reader import TarReader
from ipfs_dataset_plugins.tar_shards import manifest
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec
from ipfs_dataset_plugins.tar_shards.codecs.schema import Member, parse_schema
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from ipfs_dataset_plugins.zip.reader import ZipReader
from tests.fuzz.mutations import (
    change_blocks,
    change_bytes,
    change_directory,
    change_json,
    with_checksums,
    with_record,
)
from tests.support import tar_headers, zip_records
from tests.support.builders import car_bytes, noise, one_file, tar_bytes, tree, zip_bytes
from tests.support.fetching import Recorder, fetching
from tests.support.name_records import FAR, Key, cbor, proto, record

if TYPE_CHECKING:
    import random

    from ipfs_dataset_core import Reader
    from tests.support.builders import Blocks

LIMITS = Limits(
    members=20_000,
    member_bytes=16 << 20,
    read_bytes=16 << 20,
    expansion_bytes=16 << 20,
    window_bytes=16 << 20,
    repeated_entries=20_000,
    name_bytes=16 << 20,
)
_JSON_TOKENS = [b"0", b"-1", b"9" * 30, b"1e999", b"[", b"{}", b"true", b"null", b"\xff", b'"$int"']
_JSON_TOKENS += [b'{"$tuple":[', b'{"$dict":[', b"[" * 5000, b'"', b"NaN", b"\\ud800"]


def fuzz_manifest(rng: random.Random) -> None:
    files = dict(_published())
    fields = json.loads(files["manifest.json"])
    if rng.random() < 0.7:
        files["manifest.json"] = json.dumps(change_json(rng, fields)).encode()
    else:
        files["manifest.json"] = change_bytes(rng, files["manifest.json"], _JSON_TOKENS)
    _read_published(rng, files)


def fuzz_published(rng: random.Random) -> None:
    files = dict(_published())
    path = rng.choice(sorted(files))
    files[path] = change_bytes(rng, files[path], _JSON_TOKENS)
    _read_published(rng, files)


def _read_published(rng: random.Random, files: dict[str, bytes]) -> None:
    samples = TarShards(ExporterOptions()).load(MemoryDirectory(files, limits=LIMITS))
    if samples is None:
        return
    count = len(samples)
    samples.block_stops(rng.choice((1, 1000, 1 << 20)))
    for position in {0, count // 2, count - 1}:
        if 0 <= position < count:
            with suppress(IPFSDatasetError):
                samples.read(position)
    list(samples.iterate(0, min(count, 100)))


def fuzz_schema(rng: random.Random) -> None:
    text = rng.choice(_schemas())
    if rng.random() < 0.6:
        text = json.dumps(change_json(rng, json.loads(text))).encode()
    else:
        text = change_bytes(rng, text, _JSON_TOKENS)
    parse_schema(text, "a schema")


def fuzz_shard_index(rng: random.Random) -> None:
    samples = rng.choice((0, 1, 3, 1000))
    shard = manifest.Shard(path="s.tar", cid="b", size=4096, samples=samples, index="i.json")
    text = manifest.write_index([rng.randrange(1, 9) for _ in range(samples)])
    manifest.parse_index(
        change_bytes(rng, text, _JSON_TOKENS), shard, trailer=rng.choice((0, 1024))
    )


def fuzz_values(rng: random.Random) -> None:
    codec, data = rng.choice(_values())
    changed = change_bytes(rng, data, _JSON_TOKENS)
    SampleCodec().decode(Member(codec, "x"), {"x": changed}, "sample 0")


def fuzz_car(rng: random.Random) -> None:
    data = change_bytes(rng, _car(), [b"\xff" * 9, b"\0", b"\xa2", b"\x0a\xa1"])
    with suppress(IPFSDatasetError):
        index = index_car(io.BytesIO(data))
        for cid in _car_cids():
            place = index.get(cid.multihash)
            assert place is None or sum(place) <= len(data)
    for cid, block in read_car(io.BytesIO(data)):
        assert len(block) <= len(data)
        assert cid.multihash


def fuzz_folder_walk(rng: random.Random) -> None:
    root, blocks = change_blocks(rng, *rng.choice(_trees()), likely=rng.choice((0.02, 0.2, 0.6)))
    with fetching(Recorder(blocks), limits=LIMITS, deadline=5) as fetcher:
        directory = VerifiedDirectory(fetcher, root, "here")
        names = list(directory.walk())
        for name in names[:20]:
            with suppress(IPFSDatasetError), directory.open(name) as file:
                file.read_at(0, 100)


def fuzz_file(rng: random.Random) -> None:
    root, blocks = change_blocks(rng, *rng.choice(_files()), likely=rng.choice((0.02, 0.2, 0.6)))
    whole: bytes | None = None
    with fetching(Recorder(blocks), limits=LIMITS, deadline=5) as fetcher:
        with suppress(IPFSDatasetError):
            file = VerifiedFile(fetcher, root, "here")
            whole = file.read()
    with fetching(Recorder(blocks), limits=LIMITS, deadline=5) as fetcher:
        file = VerifiedFile(fetcher, root, "here")
        for _ in range(5):
            start, size = rng.randrange(file.size + 2), rng.choice((1, 100, 300_000))
            with suppress(IPFSDatasetError):
                piece = file.read_at(start, size)
                assert whole is None or piece == whole[start : start + size]


def fuzz_node(rng: random.Random) -> None:
    _, blocks = rng.choice([*_files(), *_trees()])
    block = change_bytes(rng, rng.choice(list(blocks.values())))
    parse_file(make_cid(block, 0x70), block)


def fuzz_listing(rng: random.Random) -> None:
    files = {"a.txt": b"a", "s/b.tar": tar_bytes({"x": b"x"}), "c.txt": b"c"}
    listing = b"a.txt\ns/b.tar\r\nc.txt\n"
    tokens = [b"../x\n", b"/etc/passwd\n", b"\0", b"a.txt\n" * 3000, b"\xef\xbb\xbf", b"./a.txt\n"]
    files["metadata.txt"] = change_bytes(rng, listing, tokens)
    folder = MemoryDirectory(files, limits=LIMITS)
    for name in Folder().members(folder):
        assert ".." not in name.split("/")
        assert not name.startswith(("/", "\\"))


def fuzz_tar(rng: random.Random) -> None:
    data = change_bytes(
        rng, rng.choice(_tars()), [b"%011o\0" % 77, b"\x80" + b"\xff" * 11, b"L", b"x"]
    )
    if rng.random() < 0.8:
        data = with_checksums(data)
    _read_archive(TarReader(ignore_zeros=rng.random() < 0.2), data)


def fuzz_compressed_tar(rng: random.Random) -> None:
    data = rng.choice(_compressed())
    if rng.random() < 0.5:
        inner = with_checksums(change_bytes(rng, rng.choice(_tars())))
        data = gzip.compress(inner, 1)
    else:
        data = change_bytes(rng, data)
    _all_samples(TarReader(), data)


def fuzz_zip(rng: random.Random) -> None:
    change = rng.choice((change_bytes, change_directory, change_directory))
    data = change(
        rng, rng.choice(_zips()), [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"\1\0\x18\0"]
    )
    _read_archive(ZipReader(), data)


def fuzz_archive_index(rng: random.Random) -> None:
    """An index that a cache holds; only its owner could have written it, and the disk may damage it."""
    reader, data = rng.choice(((TarReader(), _tars()[0]), (ZipReader(), _zips()[0])))
    source = MemoryFile(data, limits=LIMITS)
    dumped = change_bytes(rng, reader.index(source).dump())
    with suppress(ValueError):
        index = reader.load_index(source, dumped)
        for position in range(min(len(index), 10)):
            with suppress(IPFSDatasetError):
                reader.read(source, index, position)


def _read_archive(reader: TarReader | ZipReader, data: bytes) -> None:
    """Reads all samples in order and by number, which give the same."""
    in_order = None
    with suppress(IPFSDatasetError):
        in_order = _all_samples(reader, data)
    source = MemoryFile(data, limits=LIMITS)
    index = reader.index(source)
    by_number = [reader.read(source, index, number) for number in range(min(len(index), 300))]
    if in_order is not None:
        assert by_number == in_order[:300]


def _all_samples(reader: Reader, data: bytes) -> list[Any]:
    found = []
    total = 0
    for name, sample in reader.samples(MemoryFile(data, limits=LIMITS)):
        if isinstance(sample, bytes):
            total += len(sample)
        if total < 32 << 20:
            found.append((name, sample))
    return found


def fuzz_torch_file(rng: random.Random) -> None:
    kind = rng.randrange(4)
    data = rng.choice(_torch_files())
    if kind == 0 or data[:2] != b"PK":
        data = change_bytes(rng, data)
    elif kind == 1:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inner = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
        data = with_record(data, "data.pkl", change_bytes(rng, inner, _opcodes()))
    else:
        data = with_record(data, "data.pkl", _random_pickle(rng))
    load_sample(data, "a sample", allow_pickle=False)


def _random_pickle(rng: random.Random) -> bytes:
    """Returns opcodes that mostly make sense: what they make is small, or grows fast."""
    pieces = [b"\x80\x02", rng.choice((b"]", b"}", b")", b"K\1", b"X\1\0\0\0a"))]
    pieces += rng.choices(_opcodes(), k=rng.randrange(1, 60))
    return b"".join(pieces) + b"."


@cache
def _opcodes() -> list[bytes]:
    found = [bytes((ord(op.code),)) for op in pickletools.opcodes if op.arg is None]
    found += [
        b"q\0",
        b"q\1",
        b"h\0",
        b"h\1",
        b"h\0h\0\x86q\0",
        b"2\x86",
        b"22\x87",
        b"(h\0h\0h\0tq\0",
    ]
    found += [b"K\7", b"J\xff\xff\xff\x7f", b"r\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 9]
    found += [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"U\x03abc"]
    found += [
        b"X\3\0\0\0abc",
        b"X\xff\xff\xff\x7f",
        b"C\2ab",
        b"2a",
        b"2e",
        b"(K\1K\2u",
        b"(K\1K\2e",
    ]
    return found


def fuzz_providers(rng: random.Random) -> None:
    record = {
        "Schema": "peer",
        "ID": "12D3KooWGC6TvWhfagpX6wvJHBzHLHnLbqvZcNsDGXAZz2T8gJwp",
        "Addrs": [
            *("/dns4/a.example/tcp/443/tls/http", "/ip4/10.0.0.1/tcp/80/http"),
            *("/ip4/1.1.1.1/tcp/4001", "/dns4/a.example/tcp/4001/p2p-circuit", "/ip6/::1/tcp/4001"),
        ],
        "Protocols": ["transport-ipfs-gateway-http", "transport-bitswap"],
    }
    answer: Any = {"Providers": [record, record]}
    text = json.dumps(change_json(rng, answer)).encode()
    if rng.random() < 0.5:
        text = change_bytes(rng, text, [*_JSON_TOKENS, b"[" * 100_000, b"127.0.0.1", b"/ip6/::1/"])
    with suppress(ValueError):
        found = read_providers(text, private=False)
        for url in found.urls:
            assert url.startswith("https://")
        for address in chain.from_iterable(found.peers.values()):
            host = address.split("/")[2]
            assert address_scheme(address) == "p2p"
            assert not is_private_host(host)


def fuzz_name_record(rng: random.Random) -> None:
    """Reads an IPNS record: what the key signed, or what it signed and somebody changed then."""
    key, value = _key(), "/ipfs/bafkqaaa"
    if rng.random() < 0.5:
        fields = {
            "Value": value.encode(),
            "Validity": FAR,
            "ValidityType": 0,
            "Sequence": 1,
            "TTL": 1,
        }
        data = change_bytes(rng, cbor(fields), [b"\x9f", b"\x1b" + b"\xff" * 8, b"\xd8\x2a"])
        made = proto(8, key.sign(b"ipns-signature:" + data)) + proto(9, data)
        verify_record(made, CID(1, LIBP2P_KEY, key.multihash))
        return
    made = change_bytes(rng, record(key, value, sequence=7, v1=True), [key.public, b"\x3a\x00"])
    found = verify_record(made, CID(1, LIBP2P_KEY, key.multihash))
    assert (found.value, found.sequence, found.proven) == (value, 7, True)


@cache
def _key() -> Key:
    return Key()


def fuzz_dht_message(rng: random.Random) -> None:
    """Reads the answer of a peer of the DHT: addresses that are kept are those of the peer that is named."""
    peer_id = _key().multihash
    address = b"\x04\x01\x02\x03\x04\x06\x0f\xa1"
    peer = proto(1, peer_id) + proto(2, address) + proto(2, address + b"\xa5\x03\x26" + peer_id)
    message = (
        proto(1, 3) + proto(8, peer) + proto(9, peer) + proto(3, proto(1, b"key") + proto(2, b"v"))
    )
    tokens = [b"\xa2\x02", b"\xcd\x03", b"\x36\x04a.bc", b"\x42\xff\xff\x03", peer, peer_id]
    answer = decode_response(change_bytes(rng, message * rng.randint(1, 3), tokens), b"key")
    for found in (*answer.closer, *answer.providers):
        for one in found.addresses:
            assert one.peer_id == found.peer_id
            assert PeerAddress.parse(str(one)) == one


def fuzz_cache_folder(rng: random.Random) -> None:
    """A neighbour changes a cache; blocks come whole or not at all, and nothing outside is touched."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place, "home")
        home.mkdir()
        secret = home / "secret"
        secret.write_bytes(b"secret")
        folder = Path(place, "cache")
        blocks = {make_cid(data, RAW): data for data in (noise(900, n) for n in range(6))}
        key, payload = IndexKey(bytes(32)), noise(3000, 9)
        cid = str(next(iter(blocks)))
        cache_ = DiskCache(folder, 1 << 20)
        for block_cid, data in blocks.items():
            cache_.put(block_cid, data)
        cache_.put_index_soon(cid, "key", key, payload)
        cache_.close()
        for _ in range(rng.randint(1, 5)):
            _disturb(rng, folder, home)
        with suppress(IPFSDatasetError):
            again = DiskCache(folder, rng.choice((2000, 1 << 20)))
            for block_cid, data in blocks.items():
                found = again.get(block_cid)
                assert found is None or found == data
                again.put(block_cid, data)
            assert again.get_index(cid, "key", key) in (None, payload)
            again.close()
        assert secret.read_bytes() == b"secret"
        assert list(home.iterdir()) == [secret]


def _disturb(rng: random.Random, folder: Path, home: Path) -> None:
    paths = sorted(folder.rglob("*"))
    if not paths:
        return
    path = rng.choice(paths)
    with suppress(OSError):
        status = path.lstat()
        # Neither one as large as the disk, nor one of the user's that an earlier change put here.
        small = S_ISREG(status.st_mode) and status.st_size < 1 << 20 and status.st_nlink == 1
        if small and rng.random() < 0.4:
            path.write_bytes(change_bytes(rng, path.read_bytes()))
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        kind = rng.randrange(6)
        if kind == 0:
            path.symlink_to(rng.choice((home, home / "secret", Path("/dev/zero"))))
        elif kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            path.mkdir()
        elif kind == 3:
            os.link(home / "secret", path)
        elif kind == 4:
            with path.open("wb") as file:
                file.truncate(1 << 40)


def fuzz_contrib(rng: random.Random) -> None:
    """Headers of other formats."""
    reader, data = rng.choice(_contrib())
    with suppress(Exception):  # the seed of another random choice may be too small to be changed
        at = rng.choice((200, 2000, len(data)))
        data = change_bytes(rng, data[:at], _JSON_TOKENS) + data[at:]
    _all_samples(reader, data)


def fuzz_contrib_index(rng: random.Random) -> None:
    reader, data = rng.choice(_contrib())
    at = rng.choice((200, 2000, len(data)))
    data = change_bytes(rng, data[:at], _JSON_TOKENS) + data[at:]
    source = MemoryFile(data, limits=LIMITS)
    index = reader.index(source)
    if index is not None:
        for position in range(min(len(index), 5)):
            reader.read(source, index, position)


# What is changed.


@cache
def _published() -> dict[str, bytes]:
    transport = MemoryTransport()
    samples = [
        {"a": (1, torch.zeros(2)), 3: "text"},
        {"a": (2, torch.ones(3)), 3: "x"},
        [b"own", Image.new("RGB", (3, 3))],
        (np.arange(3), None, 1.5),
    ]
    exporter = TarShards(ExporterOptions(shard_bytes=4000))
    root = publish(exporter.export, samples, transport, get_profile("unixfs-v1-2025"))
    return transport.directory(root).files


@cache
def _schemas() -> list[bytes]:
    part = {"codec": "bytes", "member": "x.bin"}
    other = {"codec": "json", "member": "y.json"}
    schemas: list[Any] = [
        part,
        {"list": [part, other]},
        {"dict": [["a", part], [{"$int": "0x10"}, {"tuple": [other]}]]},
        {"dict": [[{"$tuple": [1, 2]}, part], [1.5, other], [None, {"list": []}]]},
    ]
    return [json.dumps(schema).encode() for schema in schemas]


@cache
def _values() -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    samples: list[Any] = [
        np.arange(12).reshape(3, 4),
        np.array(["ab", "c"]),
        torch.ones(2, 3),
        torch.zeros(2, dtype=torch.bfloat16),
        Image.new("RGB", (4, 4), (1, 2, 3)),
        Image.new("P", (4, 4)),
        Image.new("F", (4, 4)),
        "text",
        {"a": [1, 2.5, (3, None)], 2: 1j, "$x": 1 << 80},
    ]
    codec = SampleCodec()
    for sample in samples:
        encoded = codec.encode(sample, 0)
        found += [
            (encoded.schema.codec, data)
            for _, data in encoded.members
            if isinstance(encoded.schema, Member)
        ]
    assert len(found) >= 7
    return found


@cache
def _car() -> bytes:
    return car_bytes(*one_file(noise(9000), "unixfs-v0-2015"))


@cache
def _car_cids() -> list[CID]:
    return [cid for cid, _ in read_car(io.BytesIO(_car()))]


@cache
def _trees() -> list[tuple[CID, Blocks]]:
    flat = tree({f"{n}.txt": noise(50, n) for n in range(20)})
    deep = tree({f"{n % 3}/{n % 5}/{n}.txt": noise(50, n) for n in range(30)})
    many = tree({f"d{n % 2}/{n:05}": b"%d" % n for n in range(3000)}, "unixfs-v0-2015")
    return [flat, deep, many, _sharded()]


def _sharded() -> tuple[CID, Blocks]:
    from tests.faults.test_hostile_folders import leaf, sharded

    blocks: Blocks = {}
    inner = sharded(blocks, [(f"x{n}", leaf(blocks, b"%d" % n)) for n in range(5)])
    links = [(f"y{n}", leaf(blocks, b"%d" % n)) for n in range(5)]
    return sharded(blocks, [*links, ("", inner)]), blocks


@cache
def _files() -> list[tuple[CID, Blocks]]:
    data = noise(3_000_000)
    return [
        one_file(data, "unixfs-v0-2015"),
        one_file(data),
        one_file(data[:1_000_000] * 2, "unixfs-v0-2015"),
        one_file(b"small", "unixfs-v0-2015"),
    ]


@cache
def _tars() -> list[bytes]:
    member, pax = tar_headers.member, tar_headers.pax
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("a" * 150, "b"):
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(noise(700)))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.LNKTYPE, "b"
        archive.addfile(link)
    sparse = pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="2000")
    return [
        tar_bytes({f"{n}.bin": noise(300 * n, n) for n in range(6)}),
        buffer.getvalue(),
        pax(path="ä/long", size="5") + member(b"x", b"12345") + tar_headers.END,
        sparse + member(b"s", b"1\n500\n10\n".ljust(512, b"\0") + noise(10)) + tar_headers.END,
        pax(b"g", path="g") + member(b"x", b"1") + member(b"y", b"2", b"1") + tar_headers.END,
        member(b"S", noise(512), b"S", tar_headers.GNU) + member(b"t", b"t") + tar_headers.END,
    ]


@cache
def _compressed() -> list[bytes]:
    files = {f"{n}.bin": noise(300 * n, n) for n in range(6)}
    return [tar_bytes(files, f"w:{kind}") for kind in ("gz", "bz2", "xz")]


@cache
def _zips() -> list[bytes]:
    files = {f"{n}.bin": noise(300 * n, n) + bytes(500) for n in range(6)}
    entry = zip_records.Entry
    return [
        zip_bytes(files),
        zip_bytes(files, zipfile.ZIP_STORED),
        zip_bytes(files, zipfile.ZIP_BZIP2),
        zip_bytes(files, zipfile.ZIP_LZMA),
        zip_records.archive(entry(b"a", b"1"), entry("ä".encode(), b"2"), zip64=b"", comment=b"c"),
    ]


@cache
def _torch_files() -> list[bytes]:
    values: list[Any] = [
        [torch.arange(4), {"a": 1}],
        {"x": torch.ones(2, 2), "y": ("text", 1.5, None, b"bytes")},
        torch.nn.Parameter(torch.zeros(3)),
    ]
    found = []
    for value in values:
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(value, buffer, _use_new_zipfile_serialization=new)
            found.append(buffer.getvalue())
    return [*found, pickle.dumps([1, 2], 2)]


@cache
def _contrib() -> list[tuple[Reader, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save

    npy, npz, mat, table = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.arange(60, dtype="f4").reshape(20, 3))
    np.savez_compressed(npz, a=np.arange(10), b=np.zeros((3, 2)))
    savemat(mat, {"c": np.array([["text", np.eye(2)]], object), "s": {"x": True}, "n": np.eye(3)})
    pq.write_table(pa.table({"a": list(range(50)), "b": [str(n) for n in range(50)]}), table)
    tensors = save({"w": np.ones((4, 2), "f4"), "b": np.zeros(3)})
    return [
        (NpyReader(), npy.getvalue()),
        (NpyRowsReader(), npy.getvalue()),
        (NpzReader(), npz.getvalue()),
        (MatReader(), mat.getvalue()),
        (ParquetReader(), table.getvalue()),
        (SafetensorsReader(), tensors),
        (SafetensorsRowsReader(), tensors),
        (TextReader(), b"one\ntwo\r\nthree"),
        (JsonLinesReader(), b'{"a": 1}\n[1, 2]\n"x"\n'),
        (CsvReader(), b'a,b\n1,2\n"x\ny",3\n'),
        (WebDatasetReader(), tar_bytes({"1.txt": b"a", "1.json": b"{}", "2.txt": b"b"})),
    ]
