"""Every compression is recognised and decompressed in pieces, at bounded memory; damage is a typed error."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.archives.compression import (
    DecompressedStream,
    GzipDecompressor,
    compression_of,
    other_format,
    unreadable_compression,
)
from tests.support.builders import noise

COMPRESS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "LZMA": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
# A skippable frame of Zstandard, as pzstd writes before the data.
SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
# LZMA has no checksum, and a stream with a known size ends there.
CHECKED = sorted(COMPRESS.keys() - {"LZMA"})
EACH = pytest.mark.parametrize("compression", sorted(COMPRESS))


def decompress(data, compression, most=1 << 20, **options):
    """Returns the decompressed data of a file, read `most` bytes at a time."""
    stream = DecompressedStream(MemoryFile(data, "x.tar.z"), compression, **options)
    return b"".join(iter(lambda: stream.read(most), b"")), stream


@EACH
@given(content=st.binary(max_size=2000))
def test_compressed_data_is_recognised_by_its_first_bytes(compression, content):
    assert compression_of(COMPRESS[compression](content)[:600]) == compression


@given(st.binary(max_size=20))
def test_the_first_bytes_of_other_data_are_no_compression(data):
    if not data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"P*M\x18")):
        assert compression_of(b"text " + data) is None
        assert compression_of(bytes(512)) is None


def test_skippable_frames_are_recognised_whatever_their_number():
    for first in range(0x50, 0x60):
        assert compression_of(bytes([first]) + SKIPPABLE[1:]) == "zstd"
    assert compression_of(b"\x60" + SKIPPABLE[1:]) is None


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x1f\x9d\x90", "compress (.Z)"),
        (b"\x04\x22\x4d\x18d", "LZ4"),
        (b"LZIP\x01", "lzip"),
        (b"\xff\x06\x00\x00sNaPpY", "Snappy"),
        (b"text", None),
    ],
)
def test_compressions_that_cannot_be_read_are_named(head, name):
    assert unreadable_compression(head) == name
    assert compression_of(head) is None


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PK\x03\x04", "a ZIP archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"070701", "a cpio archive"),
        (b"text", None),
    ],
)
def test_other_archives_are_named(head, name):
    assert other_format(head) == name


@pytest.mark.parametrize(
    "change",
    [
        {0: 225},  # properties that do not exist
        {1: 1},  # a window that is not 2^n or 3·2^n bytes
        {12: 1},  # a size of more than 256 GiB
        {13: 1},  # the first byte of the data is 0
    ],
)
def test_bytes_that_only_resemble_the_header_of_lzma_are_not_taken_for_it(change):
    head = bytearray(b"\x5d\x00\x00\x80\x00" + (1000).to_bytes(8, "little") + b"\x00")
    assert compression_of(bytes(head)) == "LZMA"
    assert compression_of(bytes(head[:13])) is None
    for position, value in change.items():
        head[position] = value
    assert compression_of(bytes(head)) is None


@EACH
@given(content=st.binary(max_size=5000), most=st.integers(1, 6000))
def test_decompressed_data_is_complete_however_it_is_read(compression, content, most):
    found, stream = decompress(COMPRESS[compression](content), compression, most)
    assert found == content
    assert stream.produced == len(content)
    assert stream.trailing == b""


@EACH
def test_no_read_returns_more_than_was_requested(compression):
    content = noise(100_000) + bytes(1_000_000)
    stream = DecompressedStream(MemoryFile(COMPRESS[compression](content)), compression)
    sizes = [len(data) for data in iter(lambda: stream.read(1000), b"")]
    assert max(sizes) <= 1000
    assert sum(sizes) == len(content)
    assert stream.read(1000) == b""


@EACH
def test_memory_does_not_grow_with_the_decompressed_size(compression):
    data = COMPRESS[compression](bytes(64 << 20))
    stream = DecompressedStream(MemoryFile(data), compression)
    assert stream.read(1 << 16)  # allocates the window
    tracemalloc.start()
    total = sum(len(piece) for piece in iter(lambda: stream.read(1 << 16), b""))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stream.produced == 64 << 20
    assert total < 64 << 20
    # The package zstandard unpacks 1 KiB at a time, which may be 32 MiB.
    assert peak < (40 << 20 if compression == "zstd" else 2 << 20)


@pytest.mark.parametrize("compression", CHECKED)
@given(
    contents=st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    padding=st.sampled_from([0, 4, 512, 10_240]),
)
def test_streams_one_after_another_are_one_content(compression, contents, padding):
    data = b"".join(COMPRESS[compression](content) + bytes(padding) for content in contents)
    found, stream = decompress(data, compression)
    assert found == b"".join(contents)
    assert stream.trailing == b""
    assert stream.consumed == len(data)


@pytest.mark.parametrize("compression", CHECKED)
@pytest.mark.parametrize("padding", [0, 1000])
def test_data_behind_the_compressed_data_is_kept_for_the_reader_to_judge(compression, padding):
    after = b"ustar" + noise(10_000)
    found, stream = decompress(
        COMPRESS[compression](b"content") + bytes(padding) + after, compression
    )
    assert found == b"content"
    assert stream.trailing == after[:512]
    assert stream.read(10) == b""


def test_another_compression_behind_the_data_is_not_decompressed():
    second = bz2.compress(b"second")
    found, stream = decompress(gzip.compress(b"first") + second, "gzip")
    assert found == b"first"
    assert stream.trailing == second


@EACH
def test_data_that_ends_too_early_is_an_error_with_the_position(compression):
    data = COMPRESS[compression](noise(3000))
    for size in (0, 1, 5, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError, match=r"'x.tar.z' is damaged") as caught:
            decompress(data[:size], compression)
        assert f"at or before byte {size} of the file" in str(caught.value)


@pytest.mark.parametrize("compression", CHECKED)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_changed_bit_is_an_error_or_does_not_change_the_content(compression, position, bit):
    content = noise(2000) * 2
    data = bytearray(COMPRESS[compression](content))
    data[position % len(data)] ^= 1 << bit
    try:
        found, stream = decompress(bytes(data), compression)
    except (FormatError, LimitError):
        return
    # A damaged size at the end may leave data behind the end, which the reader of the archive refuses.
    assert content.startswith(found) or stream.trailing


@EACH
def test_no_byte_behind_the_given_part_of_the_file_is_read(compression):
    first = COMPRESS[compression](b"first")
    file = MemoryFile(first + noise(100_000))
    stream = DecompressedStream(file, compression, most=len(first))
    assert stream.read(100) == b"first"
    assert stream.read(100) == b""
    assert max(stop for _, stop in file.reads) == len(first)


@pytest.mark.parametrize("compression", ["xz", "LZMA", "zstd"])
def test_a_window_above_the_limit_is_refused_with_the_limit_to_raise(compression):
    content = noise(5 << 20)
    if compression == "zstd":
        parameters = zstandard.ZstdCompressionParameters(window_log=23, enable_ldm=True)
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        data = packer.compress(content) + packer.flush()
    else:
        kind = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
        filters = [{"id": lzma.FILTER_LZMA2 if compression == "xz" else lzma.FILTER_LZMA1}]
        filters[0]["dict_size"] = 8 << 20
        data = lzma.compress(content, format=kind, filters=filters)
    small, large = Limits(window_bytes=1 << 20), Limits(window_bytes=8 << 20)
    with pytest.raises(LimitError, match=r"limit of 1048576 bytes.*Limits\(window_bytes=…\)"):
        DecompressedStream(MemoryFile(data, limits=small), compression).read(1)
    stream = DecompressedStream(MemoryFile(data, limits=large), compression)
    assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == content


@given(st.binary(max_size=3000), st.lists(st.integers(1, 500), min_size=1), st.integers(1, 400))
def test_gzip_without_isal_decompresses_pieces_of_any_size(content, cuts, most):
    data = gzip.compress(content) + b"after"
    decompressor, found, position = GzipDecompressor(), [], 0
    sizes = iter(cuts * len(data))
    while not decompressor.eof:
        given_now = b""
        if decompressor.needs_input:
            size = next(sizes)
            given_now = data[position : position + size]
            position += size
        found.append(decompressor.decompress(given_now, most))
        assert len(found[-1]) <= most
    assert b"".join(found) == content
    assert decompressor.unused_data + data[position:] == b"after"


def test_gzip_without_isal_raises_an_error_of_zlib_for_damage():
    data = bytearray(gzip.compress(b"content"))
    data[-5] ^= 1
    with pytest.raises(zlib.error):
        GzipDecompressor().decompress(bytes(data), 100)
