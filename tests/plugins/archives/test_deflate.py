"""Whichever library decompresses, what comes out and what is refused is the same."""

from __future__ import annotations

import gzip
import importlib.util
import struct
import sys
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.archives import compression
from ipfs_dataset_plugins.archives.compression import PIECE_BYTES, DecompressedStream
from ipfs_dataset_plugins.tar.reader import TarReader
from ipfs_dataset_plugins.zip.reader import ZipReader
from tests.support.archives import by_zipfile, outcome, tar_of, zip_of

MEMBERS = [(f"data/{number:03}.bin", bytes([number]) * (number * 37)) for number in range(60)]
# The library is the same for all examples of a test.
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def library(request, monkeypatch):
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(compression, "new_gzip_decompressor", compression.GzipDecompressor)
        monkeypatch.setattr(
            compression, "new_inflater", lambda: zlib.decompressobj(-zlib.MAX_WBITS)
        )
        monkeypatch.setattr(compression, "crc32", zlib.crc32)


def unpacked(data: bytes) -> bytes:
    return b"".join(pieces_of(data))


def pieces_of(data: bytes) -> list[bytes]:
    stream = DecompressedStream(MemoryFile(data), "gzip")
    return list(iter(lambda: stream.read(PIECE_BYTES), b""))


def tars(data: bytes):
    return outcome(TarReader().samples, MemoryFile(data))


def zips(data: bytes):
    return outcome(ZipReader().samples, MemoryFile(data))


def test_without_isal_the_standard_library_does_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    spec = importlib.util.find_spec("ipfs_dataset_plugins.archives.compression")
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    assert plain.new_gzip_decompressor is plain.GzipDecompressor
    assert plain.new_inflater.func is zlib.decompressobj
    assert plain.crc32 is zlib.crc32


@given(st.lists(st.binary(max_size=2000), max_size=5), st.integers(0, 9), st.integers(0, 20))
@SETTINGS
def test_streams_one_after_the_other_are_one_file(parts, level, zeros):
    data = b"".join(gzip.compress(part, level) for part in [*parts, b"end"]) + bytes(zeros)
    assert unpacked(data) == b"".join([*parts, b"end"])


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 5 * PIECE_BYTES + 3])
def test_pieces_are_no_larger_than_asked_for(size):
    content = bytes(range(256)) * (size // 256 + 1)
    pieces = pieces_of(gzip.compress(content[:size]))
    assert b"".join(pieces) == content[:size]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)


def test_a_bomb_is_never_in_memory_whole():
    bomb = gzip.compress(bytes(64 << 20))
    sizes = list(map(len, pieces_of(bomb)))
    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) == 64 << 20


@pytest.mark.parametrize("before", range(40))
def test_a_header_with_all_its_fields_may_lie_across_pieces(before):
    head = struct.pack("<4BLBB", 0x1F, 0x8B, 8, 2 | 4 | 8 | 16, 0, 0, 255)
    head += b"\x05\0extra" + b"name\0" + b"comment\0"
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    # Stored, and with a name as long as to put the second header where a piece ends.
    content = bytes(512 * 1024 - 1000)
    body = gzip.compress(content, 0)[10:]
    start = struct.pack("<4BLBB", 0x1F, 0x8B, 8, 8, 0, 0, 255)
    name = b"n" * (512 * 1024 - before - len(start) - 1 - len(body)) + b"\0"
    first = start + name + body
    assert len(first) == 512 * 1024 - before
    second = head + gzip.compress(b"second", 0)[10:]
    assert unpacked(first + second) == content + b"second"


def test_thousands_of_empty_members_are_empty():
    assert unpacked(gzip.compress(b"") * 20_000 + gzip.compress(b"last")) == b"last"


@pytest.mark.parametrize("tail", [b"x", b"\x1f", b"\0\0x", b"no gzip at all" * 9])
def test_what_follows_and_is_no_gzip_is_warned_of_and_ignored_as_by_gzip(tail):
    whole = gzip.compress(tar_of(MEMBERS[:3]))
    with pytest.warns(UserWarning, match="after its gzip data"):
        assert tars(whole + tail) == MEMBERS[:3]


def test_zeros_behind_gzip_data_are_padding_and_a_stream_that_begins_is_cut_off():
    whole = gzip.compress(tar_of(MEMBERS[:3]))
    assert tars(whole + bytes(9)) == MEMBERS[:3]
    assert isinstance(tars(whole + b"\x1f\x8b\x08"), FormatError)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_cut_stream_is_refused(cut):
    assert isinstance(tars(gzip.compress(tar_of(MEMBERS[:3]))[:-cut]), FormatError)


@given(st.data())
@SETTINGS
def test_a_damaged_tar_is_refused_or_unharmed(data):
    whole = bytearray(gzip.compress(tar_of(MEMBERS[:10])))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found = tars(bytes(whole))
    assert isinstance(found, FormatError) or found == MEMBERS[:10]


@given(st.data())
@SETTINGS
def test_a_damaged_zip_is_refused_or_read_as_by_zipfile(data):
    whole = bytearray(zip_of(MEMBERS[:10], zipfile.ZIP_DEFLATED))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found = zips(bytes(whole))
    assert (
        isinstance(found, (FormatError, LimitError))
        or found == by_zipfile(bytes(whole))
        or [content for _, content in found] == [content for _, content in MEMBERS[:10]]
    )


def test_a_bomb_in_a_zip_is_stopped_at_the_size_that_it_declares():
    whole = bytearray(zip_of([("bomb", bytes(50 << 20))]))
    at = whole.index(b"PK\1\2") + 24
    whole[at : at + 4] = struct.pack("<L", 10)
    assert "10 bytes" in str(zips(bytes(whole)))
