"""Decompression: the size of the result is bounded, and damaged data raise errors."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import zlib

import numcodecs
import numpy as np
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_zarr.decompression import decompress
from ipfs_dataset_zarr.zstd_frames import decompressed_bytes

from ipfs_dataset_core import LimitError

REFUSALS = (LimitError, ValueError, RuntimeError, OSError, zlib.error, lzma.LZMAError)
TEXT = np.arange(2000, dtype="i4").tobytes()
PACKED = {
    "blosc": numcodecs.Blosc().encode(TEXT),
    "bz2": bz2.compress(TEXT),
    "gzip": numcodecs.GZip().encode(TEXT),
    "lz4": numcodecs.LZ4().encode(TEXT),
    "lzma": lzma.compress(TEXT),
    "zlib": zlib.compress(TEXT),
    "zstd": numcodecs.Zstd().encode(TEXT),
    "zstd undeclared": zstandard.ZstdCompressor(write_content_size=False).compress(TEXT),
}


@given(st.binary(min_size=1, max_size=1 << 18), st.integers(1, 3), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_decompressed_size_of_zstd_frames_is_declared_or_bounded(
    data, count, declared, checksum
):
    packer = zstandard.ZstdCompressor(write_content_size=declared, write_checksum=checksum)
    frames = packer.compress(data) * count
    size, bound = decompressed_bytes(frames)
    assert size == (len(data) * count if declared else 0)
    assert declared or len(data) * count <= bound <= (len(data) + (128 << 10)) * count
    assert bytes(decompress("zstd", frames, len(data) * count)) == data * count


@given(st.sampled_from(sorted(PACKED)), st.data())
@settings(deadline=None, max_examples=200)
def test_changed_bytes_are_decompressed_or_raise_an_error(name, data):
    changed = bytearray(PACKED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(*REFUSALS):
        assert len(decompress(name.partition(" ")[0], bytes(changed), 1 << 20)) <= 1 << 20
