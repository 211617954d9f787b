"""Hostile and damaged chunks and shards raise typed errors and need little memory."""

from __future__ import annotations

import bz2
import lzma
import tracemalloc
import zlib

import numcodecs
import numpy as np
import pytest
import zstandard
from ipfs_dataset_zarr.reader import ZarrReader

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryDirectory

SOME = np.arange(24, dtype="f4").reshape(6, 4)


def read(files, **options):
    return list(ZarrReader(**options).samples(MemoryDirectory(files)))


BOMB = bytes(64 << 20)
BOMBS = {
    "blosc": numcodecs.Blosc("zstd").encode(BOMB),
    "bz2": bz2.compress(BOMB),
    "gzip": numcodecs.GZip().encode(BOMB),
    "gzip twice": numcodecs.GZip().encode(BOMB[: 1 << 10]) * (64 << 10),
    "lz4": numcodecs.LZ4().encode(BOMB),
    "lzma": lzma.compress(BOMB),
    "zlib": zlib.compress(BOMB),
    "zstd": numcodecs.Zstd().encode(BOMB),
    "zstd twice": numcodecs.Zstd().encode(BOMB[: 1 << 10]) * (64 << 10),
    "zstd undeclared": zstandard.ZstdCompressor(write_content_size=False).compress(2 * BOMB),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("kind", ["version 2", "version 3", "shards"])
def test_decompression_bombs_raise_an_error(changed, array, name, kind):
    codec = name.partition(" ")[0]
    # One chunk: CPython may crash where tracemalloc stops while a thread is still decompressing the next one.
    whole = {"chunks": (6, 4)}
    if kind == "version 2":
        files = changed(2, {"compressor": {"id": codec}}, **whole)
        path = "0.0"
    else:
        listed = ["bytes", codec if codec in ("blosc", "gzip", "zstd") else f"numcodecs.{codec}"]
        files, path = changed(3, {"codecs": listed}, **whole), "c/0/0"
    files[path] = BOMBS[name]
    if kind == "shards":
        index = np.array([(0, len(BOMBS[name]))], "<u8").tobytes()
        sharding = {"chunk_shape": [6, 4], "codecs": listed, "index_codecs": ["bytes"]}
        sharded = {"codecs": [{"name": "sharding_indexed", "configuration": sharding}]}
        files = changed(3, sharded, **whole)
        files[path] = BOMBS[name] + index
    tracemalloc.start()
    with pytest.raises(
        (LimitError, FormatError),
        match=r"'' of 'folder'.*decompresses to more|compressed chunks of",
    ):
        read(files)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_a_shard_with_invalid_positions_or_a_missing_end_raises_an_error(array):
    files = array(SOME, chunks=(1, 4), shards=(6, 4), fill_value=9)
    whole = files["c/0/0"]
    index = np.frombuffer(whole[-100:-4], "<u8").reshape(6, 2).copy()
    for damaged in [(len(whole), 16), (0, 0), (1 << 62, 1 << 62), (3, 1 << 40)]:
        index[2] = damaged
        crc = numcodecs.CRC32C(location="end").encode(index.tobytes())
        files["c/0/0"] = whole[:-100] + bytes(crc)
        reader, directory = ZarrReader(), MemoryDirectory(files)
        store_index = reader.index(directory)
        with pytest.raises((FormatError, LimitError), match=r"'' of 'folder'|'c/0/0'"):
            reader.read(directory, store_index, 2)
    for length in (0, 1, 50, 99, len(whole) - 101):
        files["c/0/0"] = whole[:length]
        with pytest.raises((FormatError, LimitError)):
            read(files)


@pytest.mark.parametrize("data", [b"", b"x", bytes(31), bytes(33)])
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_chunks_of_another_size_raise_an_error(array, data, compressors):
    files = array(SOME, chunks=(2, 4), compressors=compressors)
    files["c/1/0"] = data
    with pytest.raises(FormatError, match=r"'' of 'folder' cannot be read"):
        read(files)


def test_a_chunk_larger_than_compressed_chunks_raises_an_error_before_it_is_read(array):
    files = array(SOME, chunks=(2, 4))
    files["c/1/0"] = bytes(4 << 20)
    with pytest.raises(LimitError, match=r"'c/1/0'.*compressed chunks of its array"):
        read(files)


def test_overlapping_chunks_in_a_shard_raise_an_error(array):
    values = np.zeros((2, 4096), "u1")
    sharded = {"chunks": (1, 16), "shards": (2, 4096), "fill_value": 1}
    files = array(values, **sharded)
    index = np.array([(0, 4096)] * 512, "<u8").tobytes()
    files["c/0/0"] = bytes(4096) + bytes(numcodecs.CRC32C(location="end").encode(index))
    with pytest.raises(LimitError, match=r"The chunks in the shard 'c/0/0'.*or overlap"):
        read(files)
