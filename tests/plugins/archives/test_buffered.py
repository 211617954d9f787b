"""Buffered reading returns the bytes of the file, in few requests, and fails only where the file does."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetError,
    ObjectFile,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.archives.buffered import (
    PIECE_BYTES,
    BufferedFile,
    RandomAccessFile,
    cut_off,
)
from tests.support.builders import noise

DATA = noise(3000)
PIECES = st.sampled_from([0, 1, 7, 100, 1 << 20])
SPANS = st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 500)), max_size=30)


class BlockFile(MemoryFile):
    """A file in blocks of 1000 bytes, some of which cannot be read."""

    def __init__(self, data, unreadable=(), error=None):
        super().__init__(data)
        self.unreadable = set(unreadable)
        self.error = error or VerificationError("wrong bytes")

    def read_at(self, start, size):
        data = super().read_at(start, size)
        if self.unreadable & {at // 1000 for at in range(start, start + len(data))}:
            raise self.error
        return data

    def piece_at(self, start, size):
        first = start // 1000 * 1000
        if start + size > first + 1000:
            return start, self.read_at(start, size)
        return first, self.read_at(first, 1000)

    def block_at(self, position):
        return b"block %d" % (position // 1000)


class Unpacked:
    """Decompressed content: its size is unknown, and it is read once from front to back."""

    name = "unpacked"
    size = float("inf")

    def __init__(self, data):
        self.data = data
        self.requests = 0

    def read_at(self, start, size):
        self.requests += 1
        if start + size > 2000:
            raise FormatError("damaged")
        return self.data[start : start + size]

    def block_at(self, position):
        return None


@given(SPANS, PIECES)
def test_reads_return_the_bytes_of_the_file_in_any_order(spans, piece):
    file = BufferedFile(MemoryFile(DATA), piece)
    for start, size in spans:
        assert file.read(start, size) == DATA[start : start + size]


@given(SPANS)
def test_random_access_returns_the_bytes_of_the_file(spans):
    file = RandomAccessFile(BlockFile(DATA))
    for start, size in spans:
        assert file.read(start, size) == DATA[start : start + size]


@given(SPANS, PIECES)
def test_windows_contain_the_bytes_at_the_offset(spans, piece):
    file = BufferedFile(MemoryFile(DATA), piece)
    for start, size in spans:
        buffer, at = file.window(start, size)
        assert buffer[at : at + size] == DATA[start : start + size]


@given(st.lists(st.integers(1, 400), min_size=1), PIECES.filter(bool))
def test_small_reads_in_order_request_each_byte_once_in_pieces(sizes, piece):
    source = MemoryFile(DATA)
    file, position = BufferedFile(source, piece), 0
    for size in sizes:
        file.read(min(position, len(DATA)), size)
        position += size
    spans = [(start, stop) for start, stop in source.reads if start < stop]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert all(stop - start >= min(piece, len(DATA) - start) for start, stop in spans)


def test_a_parser_of_small_headers_makes_one_request_a_piece():
    source = MemoryFile(lambda start, stop: bytes(stop - start), size=4 * PIECE_BYTES)
    file = BufferedFile(source)
    for position in range(0, source.size, 512):
        file.window(position, 512)
    assert source.reads == [(at, at + PIECE_BYTES) for at in range(0, source.size, PIECE_BYTES)]


def test_a_piece_of_0_requests_exactly_the_bytes_that_are_read():
    source = MemoryFile(DATA)
    file = BufferedFile(source, 0)
    file.read(10, 20)
    file.read(30, 5)
    assert source.reads == [(10, 30), (30, 35)]


def test_a_large_member_is_not_kept_in_memory_by_the_buffer():
    size = 8 << 20
    file = BufferedFile(MemoryFile(lambda start, stop: bytes(stop - start), size=size))
    file.read(0, 100)
    tracemalloc.start()
    member = file.read(100, size - 200)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(member) == size - 200
    assert kept < size + (1 << 20)


def test_bytes_behind_a_large_member_are_read_after_it():
    data = noise(3 * PIECE_BYTES)
    file = BufferedFile(MemoryFile(data))
    assert file.read(0, 512) == data[:512]
    assert file.read(512, 2 * PIECE_BYTES) == data[512 : 512 + 2 * PIECE_BYTES]
    assert file.read(512 + 2 * PIECE_BYTES, 512) == data[512 + 2 * PIECE_BYTES :][:512]
    assert file.read(0, 10) == data[:10]


@pytest.mark.parametrize("make", [BufferedFile, RandomAccessFile])
def test_reading_beyond_the_end_names_the_archive_and_the_position(make):
    file = make(BlockFile(DATA))
    assert file.read(len(DATA), 10) == b""
    assert file.read(len(DATA) - 1, 10) == DATA[-1:]
    with pytest.raises(FormatError, match=r"'object' is cut off: it ends before byte 3001,"):
        file.read(len(DATA) + 1, 10)


def test_advice_follows_the_message_of_an_archive_that_is_cut_off():
    assert str(cut_off("x.tar", 5)).endswith("Publish it again from a complete file.")
    assert str(cut_off("x.tar", 5, "Or not.")).endswith("from a complete file. Or not.")


def test_an_unreadable_block_fails_only_reads_that_need_it():
    file = BufferedFile(BlockFile(DATA, unreadable=[1]), 2000)
    assert file.read(0, 500) == DATA[:500]
    assert file.read(500, 500) == DATA[500:1000]
    for _ in range(2):
        with pytest.raises(VerificationError):
            file.read(900, 200)
    assert file.read(2000, 1000) == DATA[2000:]


def test_no_more_than_the_needed_bytes_are_requested_before_an_unreadable_block():
    source = BlockFile(DATA, unreadable=[1])
    file = BufferedFile(source, 2000)
    for start in range(0, 1000, 100):
        file.read(start, 100)
    assert source.reads[0] == (0, 2000)
    assert source.reads[1:] == [(start, start + 100) for start in range(0, 1000, 100)]
    file.read(2000, 100)
    assert source.reads[-1] == (2000, 3000)


def test_a_read_of_a_whole_piece_or_more_is_not_repeated_after_an_error():
    source = BlockFile(DATA, unreadable=[1])
    with pytest.raises(VerificationError):
        BufferedFile(source, 2000).read(0, 2000)
    assert source.reads == [(0, 2000)]


@pytest.mark.parametrize("error", [TransportError("no answer", retryable=True), ValueError("bug")])
def test_errors_that_are_not_those_of_a_block_are_raised_at_once(error):
    source = BlockFile(DATA, unreadable=[1], error=error)
    with pytest.raises(type(error)):
        BufferedFile(source, 2000).read(0, 100)
    assert len(source.reads) == 1


def test_decompressed_content_is_not_read_again_after_an_error():
    source = Unpacked(DATA)
    with pytest.raises(IPFSDatasetError, match="damaged"):
        BufferedFile(source, 2500).read(0, 100)
    assert source.requests == 1


def test_name_size_and_blocks_are_those_of_the_file():
    source = BlockFile(DATA)
    assert isinstance(source, ObjectFile)
    file = BufferedFile(source)
    assert (file.name, file.size) == ("object", 3000)
    assert file.block_at(2500) == b"block 2"
    assert BufferedFile(Unpacked(DATA)).size == float("inf")


def test_neighbours_in_one_block_are_read_with_one_request():
    source = BlockFile(DATA)
    file = RandomAccessFile(source)
    for start in (1900, 1000, 1500):
        assert file.read(start, 100) == DATA[start : start + 100]
    assert source.reads == [(1000, 2000)]
    assert file.read(1950, 100) == DATA[1950:2050]
    assert source.reads[1:] == [(1950, 2050)]
