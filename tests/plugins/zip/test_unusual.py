"""Sound but unusual ZIP archives are read; others say what they are, and count as many as they say."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import subprocess
import sys
import zipfile
import zlib
from typing import Any

import pytest
import zstandard

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.zip import ZipReader
from tests.support.archives import tar_of, zip_of
from tests.support.zip_records import Entry, archive


def test_a_member_of_more_than_4_gib_without_zip64_names_the_remedy():
    # As the Archive Utility of macOS packs it: the sizes are those modulo 2**32. It compresses to 4 MB.
    packer = zlib.compressobj(wbits=-15)
    first, again = (
        packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    packed = first + again * 4095 + packer.compress(bytes(100)) + packer.flush()
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as made:
        made.writestr("big", packed)
    data = bytearray(buffer.getvalue())
    for at in (0, data.rindex(b"PK\1\2")):
        method, size = (8, 22) if at == 0 else (10, 24)
        data[at + method : at + method + 2] = (8).to_bytes(2, "little")
        data[at + size : at + size + 4] = (100).to_bytes(4, "little")
    file, reader = MemoryFile(bytes(data)), ZipReader()
    for read in (
        lambda: list(reader.samples(file)),
        lambda: reader.read(file, reader.index(file), 0),
    ):
        with pytest.raises(
            FormatError, match=r"Member 'big'.*more than the 100 bytes.*macOS.*zip64"
        ):
            read()


A, B = Entry(b"a", b"one"), Entry(b"b", b"two")
SAMPLES = [("a", b"one"), ("b", b"two")]


def read_all(data: bytes, **limits):
    return list(ZipReader().samples(MemoryFile(data, limits=Limits(**limits))))


@pytest.mark.parametrize(
    "data",
    [
        archive(A, B),
        archive(A, B, comment=b"a comment"),
        archive(A, B, comment=b"PK\5\6 is how the end begins, and here is more of it"),
        archive(A, B) + b"bytes behind",
        archive(A, B, zip64=b""),
        archive(A, B, zip64=b"special data of some vendor" * 9),
        archive(A, B, zip64=b"PK\6\6" * 5),
        archive(A, B, behind=b"PK\5\5\3\0abc"),  # a digital signature
        archive(A, B, between=b"bytes between the directory and its end"),
        b"MZ a program that unpacks itself" * 99 + archive(A, B),
        b"#!/bin/sh\nPK\5\6" + bytes(18) + b"no end\n" + archive(A, B),
        b"PK00" + archive(A, B),
        b"PK\7\x08" + archive(A, B),
    ],
)
def test_sound_but_unusual_archives_are_read(data):
    assert read_all(data) == SAMPLES


@pytest.mark.parametrize("zip64", [None, b""])
@pytest.mark.parametrize("counted", [0, 1, 3, 500])
def test_the_number_of_entries_is_compared_with_that_of_the_end_record(zip64, counted):
    data = archive(A, B, counted=counted, zip64=zip64)
    with pytest.raises(FormatError, match=rf"2 entries.*end record counts {counted}"):
        read_all(data)
    with pytest.raises(FormatError, match="2 entries"):
        ZipReader().index(MemoryFile(data))


def test_a_count_that_overflowed_is_no_damage():
    """The Archive Utility of macOS and others write no zip64 record for more than 65,535."""
    data = bytearray(archive(*(Entry(b"%d" % number) for number in range(65_600))))
    assert len(ZipReader().index(MemoryFile(bytes(data)))) == 65_600
    counts = len(data) - 22 + 8
    assert data[counts : counts + 4] == struct.pack("<HH", 64, 64)
    data[counts : counts + 4] = struct.pack("<HH", 65, 65)
    with pytest.raises(FormatError, match="65600 entries"):
        ZipReader().index(MemoryFile(bytes(data)))


@pytest.mark.parametrize("second", [archive(B), archive(B, comment=b"x"), archive(B, zip64=b"")])
@pytest.mark.parametrize("first", [archive(A), archive(A, comment=b"c" * 999), archive()])
def test_archives_one_behind_the_other_are_refused(first, second):
    with pytest.raises(FormatError, match=r"another ZIP archive in front.*left out"):
        read_all(first + second)
    with pytest.raises(FormatError, match=r"another ZIP archive in front.*left out"):
        read_all(archive(A, comment=second))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(A, B, disk=2), r"last of 3 parts.*zip -s 0"),
        (b"PK\7\x08" + archive(A)[:50], r"first part of a split archive.*zip -s 0"),
        (tar_of(SAMPLES), "it is a TAR archive"),
        (bz2.compress(b"x" * 99), "compressed by bzip2"),
        (archive(A, B)[:60], "no end of central directory"),
    ],
)
def test_what_cannot_be_read_says_what_it_is(data, message):
    with pytest.raises(FormatError, match=message):
        read_all(data)


CONTENT = bytes(range(256)) * 40
METHODS = {
    "bzip2": (12, bz2.compress(CONTENT)),
    "zstd": (93, zstandard.ZstdCompressor().compress(CONTENT)),
    "zstd, as it was first numbered": (20, zstandard.ZstdCompressor().compress(CONTENT)),
    "xz": (95, lzma.compress(CONTENT)),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_can_be_read(name):
    method, data = METHODS[name]
    assert read_all(archive(Entry(b"a", data, method=method, content=CONTENT))) == [("a", CONTENT)]
    damaged = data[:20] + bytes([data[20] ^ 255]) + data[21:]
    for wrong in (damaged, data[: len(data) // 2], b""):
        with pytest.raises(FormatError, match="'a'"):
            read_all(archive(Entry(b"a", wrong, method=method, content=CONTENT)))
    with pytest.raises(FormatError, match="9 bytes"):
        read_all(archive(Entry(b"a", data, method=method, content=bytes(9))))


@pytest.mark.parametrize(
    ("method", "name"),
    [(9, "deflate64"), (1, "shrink"), (6, "implode"), (98, "ppmd"), (99, "AES"), (77, "77")],
)
def test_methods_that_cannot_be_read_are_named(method, name):
    with pytest.raises(FormatError, match=rf"'a' of 'object'.*method is {name}.*repack"):
        read_all(archive(Entry(b"a", b"data", method=method)))


@pytest.mark.parametrize("flags", [1, 1 << 6, 1 << 13])
def test_encrypted_members_say_so(flags):
    with pytest.raises(FormatError, match=r"'a' of 'object'.*encrypted.*password"):
        read_all(archive(Entry(b"a", b"data", flags)))


def test_a_window_over_the_limit_is_no_damage():
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(CONTENT) + compressor.flush()
    packed = archive(Entry(b"a", data, method=93, content=CONTENT))
    with pytest.raises(LimitError, match=r"'a'.*window_bytes"):
        read_all(packed)
    assert read_all(packed, window_bytes=1 << 30) == [("a", CONTENT)]


def test_what_unpacks_to_too_many_times_what_is_stored_is_refused_before_it_is_unpacked():
    data = zip_of([("small", b"1"), ("zeros", bytes(3 << 20))])
    assert len(read_all(data)) == 2
    file, reader = MemoryFile(data, limits=Limits(expansion_bytes=1 << 20)), ZipReader()
    index = reader.index(file)
    assert reader.read(file, index, 0) == ("small", b"1")
    file.reads.clear()
    for read in (
        lambda: reader.read(file, index, 1),
        lambda: list(reader.read_each(file, index, [1])),
    ):
        with pytest.raises(LimitError, match=r"'zeros' of 'object'.*expansion_ratio"):
            read()
    assert not file.reads
    assert len(read_all(data, expansion_bytes=1 << 20, expansion_ratio=2000)) == 2
    assert len(read_all(data, expansion_bytes=3 << 20)) == 2


def test_a_large_video_is_read_under_the_same_limits():
    video = b"".join(zlib.crc32(n.to_bytes(4, "big")).to_bytes(4, "big") for n in range(1 << 19))
    for method in (0, 8):
        data = zip_of([("video", video)], method)
        assert read_all(data, expansion_bytes=1 << 20, expansion_ratio=2) == [("video", video)]


BOMB = """
import sys
from ipfs_dataset_core import LimitError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.zip import ZipReader
from tests.support.peak import peak_kib

data = sys.stdin.buffer.read()
before = peak_kib()
try:
    print(sum(len(content) for _, content in ZipReader().samples(MemoryFile(data))))
except LimitError as error:
    print(peak_kib() - before, error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
@pytest.mark.parametrize("method", [8, 12, 95])
def test_gigabytes_of_zeros_do_not_take_gigabytes(method):
    size = 2 << 30
    packer: Any = {
        8: zlib.compressobj(1, wbits=-15), 12: bz2.BZ2Compressor(1), 95: lzma.LZMACompressor(preset=0)
    }[method]  # fmt: skip
    stored, crc, piece = b"", 0, bytes(16 << 20)
    if method == 8:
        for _ in range(size // len(piece)):
            stored += packer.compress(piece)
            crc = zlib.crc32(piece, crc)
        stored += packer.flush()
    else:  # of these, what is declared is enough
        stored = packer.compress(piece) + packer.flush()
    data = bytearray(archive(Entry(b"zeros", stored, method=method)))
    for at in (data.index(b"PK\3\4") + 14, data.index(b"PK\1\2") + 16):
        data[at : at + 4] = crc.to_bytes(4, "little")
        data[at + 8 : at + 12] = size.to_bytes(4, "little")
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{BOMB}"
    run = subprocess.run(
        [sys.executable, "-c", code], input=bytes(data), capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    growth, message = run.stdout.decode().split(" ", 1)
    assert "'zeros'" in message
    assert int(growth) < 50 << 10, "of KiB"
