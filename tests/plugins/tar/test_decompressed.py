"""Compressed TAR archives: recognized by what is inside, refused with the reason, and never a bomb."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tarfile
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.tar.reader import TarReader, recognize
from tests.support.archives import tar_of

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "LZMA": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor().compress,
}
MEMBERS = [("a", b"content"), ("b", bytes(range(256)) * 40)]
SKIPPABLE = b"\x53\x2a\x4d\x18\4\0\0\0skip"


def read_all(data: bytes, **limits):
    return list(TarReader().samples(MemoryFile(data, limits=Limits(**limits))))


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_a_compressed_archive_is_recognized_by_its_content(compression):
    compress = COMPRESSORS[compression]
    assert recognize(MemoryFile(compress(tar_of(MEMBERS))))
    assert read_all(compress(tar_of(MEMBERS))) == MEMBERS
    # Truncated, but it is one: the error comes where it is read.
    assert recognize(MemoryFile(gzip.compress(tar_of(MEMBERS), 0)[:2000]))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_dialect_is_recognized_also_the_one_without_magic(form):
    data = bytearray(tar_of(MEMBERS, format=form))
    assert recognize(MemoryFile(bytes(data)))
    total = sum(data[257:265])
    data[257:265] = bytes(8)
    data[148:156] = b"%06o\0 " % (int(data[148:154], 8) - total)
    assert recognize(MemoryFile(bytes(data)))
    assert recognize(MemoryFile(gzip.compress(bytes(data))))


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize(
    "content", [b"", b"x", b"text " * 1000, bytes(10240), bytes(range(256)) * 99, b"ustar" * 200]
)
def test_other_compressed_data_are_not_taken_for_archives(compression, content):
    data = COMPRESSORS[compression](content)
    assert not recognize(MemoryFile(data))
    assert not recognize(MemoryFile(data[: len(data) // 2]))


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00" + b"\xff" * 600,
        b"BZh9" + b"\0" * 600,
        b"\xfd7zXZ\0" + b"\1" * 600,
        b"\x28\xb5\x2f\xfd" + b"\xff" * 600,
        SKIPPABLE * 300,
        b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + b"x" * 600,
        b"\x5d\0\0\x80\0" + b"\xff" * 8 + b"\0" + b"\x99" * 600,
        gzip.compress(b"", mtime=0) * 300_000,
    ],
    ids=lambda data: repr(data[:8]),
)
def test_damaged_and_hostile_data_are_not_recognized_and_little_of_them_is_read(data):
    file = MemoryFile(data)
    assert not recognize(file)
    assert file.bytes_read <= (2 << 20) + 1024


def test_an_archive_behind_skippable_frames_is_recognized():
    data = SKIPPABLE * 3 + COMPRESSORS["zstd"](tar_of(MEMBERS))
    assert recognize(MemoryFile(data))
    assert read_all(data) == MEMBERS


def test_what_cannot_be_looked_at_is_plain_with_a_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.warns(UserWarning, match=r"plain sample.*ipfs-dataset\[zstd\]"):
        assert not recognize(MemoryFile(COMPRESSORS["zstd"](tar_of(MEMBERS))))


UNREADABLE = {
    "compress": b"\x1f\x9d\x90",
    "lzip": b"LZIP\1",
    "LZ4": b"\x04\x22\x4d\x18",
    "lzop": b"\x89LZO\0\r\n\x1a\n",
    "Snappy": b"\xff\x06\0\0sNaPpY",
}


@pytest.mark.parametrize("compression", UNREADABLE)
@pytest.mark.parametrize("length", [20, 5000])
def test_the_error_names_a_compression_that_cannot_be_read(compression, length):
    data = UNREADABLE[compression].ljust(length, b"?")
    file, reader = MemoryFile(data), TarReader()
    with pytest.raises(FormatError, match=rf"compressed by {compression}.*not supported"):
        list(reader.samples(file))
    with pytest.raises(FormatError, match=rf"compressed by {compression}"):
        reader.index(file)


def test_an_archive_of_an_unreadable_compression_is_recognized_by_its_name():
    data = UNREADABLE["compress"].ljust(600, b"?")
    assert recognize(MemoryFile(data, "ipfs://c/x.tar.Z"))
    assert not recognize(MemoryFile(data, "ipfs://c/x.Z"))
    assert not recognize(MemoryFile(b"text", "ipfs://c/x.tar.Z"))


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"PK\3\4", "a ZIP archive"), (b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"Rar!\x1a\7", "RAR"),
     (b"070701", "cpio"), (b"!<arch>\n", "an ar archive")],
)  # fmt: skip
def test_the_error_names_another_archive(head, name):
    with pytest.raises(FormatError, match=f"not a TAR archive but .*{name}"):
        read_all(head.ljust(3000, b"?"))


def xz_with_window(window: int) -> bytes:
    """Returns an archive compressed by xz whose header asks for a window, of which nothing is used."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(tar_of(MEMBERS), lzma.FORMAT_XZ, filters=filters))
    # Stream header of 12 bytes, block header: size, flags, filter's number, properties' size, window.
    size = (data[12] + 1) * 4
    assert data[14:16] == b"\x21\1"
    data[16] = next(bits for bits in range(40) if (2 | (bits & 1)) << (bits // 2 + 11) >= window)
    data[12 + size - 4 : 12 + size] = zlib.crc32(data[12 : 12 + size - 4]).to_bytes(4, "little")
    return bytes(data)


def lzma_with_window(window: int) -> bytes:
    data = bytearray(lzma.compress(tar_of(MEMBERS), lzma.FORMAT_ALONE))
    data[1:5] = window.to_bytes(4, "little")
    return bytes(data)


def zstd_with_window(log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(tar_of(MEMBERS)) + compressor.flush()


@pytest.mark.parametrize(
    "data",
    [xz_with_window(3 << 29), lzma_with_window(3 << 29), zstd_with_window(30)],
    ids=["xz", "LZMA", "zstd"],
)
def test_a_window_over_the_limit_is_no_damage_and_the_limit_is_named(data):
    with pytest.raises(LimitError, match=r"'object'.*window.*268435456.*Limits\(window_bytes="):
        read_all(data)
    with pytest.warns(UserWarning, match="window_bytes"):
        assert not recognize(MemoryFile(data))
    assert read_all(data, window_bytes=2 << 30) == MEMBERS


@pytest.mark.parametrize(
    "data", [xz_with_window(64 << 20), zstd_with_window(27)], ids=["xz -9", "zstd --long"]
)
def test_usual_windows_are_read_by_default(data):
    assert read_all(data) == MEMBERS


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_a_member_that_unpacks_to_too_many_times_what_is_stored_is_refused(compression):
    random = zlib.compress(bytes(range(256)) * 9)
    members = [("small", random), ("zeros", bytes(30 << 20))]
    data = COMPRESSORS[compression](tar_of(members))
    assert [len(content) for _, content in read_all(data)] == [len(random), 30 << 20]
    found = TarReader().samples(
        MemoryFile(data, limits=Limits(expansion_bytes=4 << 20, expansion_ratio=5))
    )
    assert next(found) == ("small", random)
    with pytest.raises(LimitError, match=r"'zeros'.*expansion_ratio"):
        next(found)


def test_a_large_member_that_is_compressed_as_real_data_are_is_read():
    noise = b"".join(zlib.crc32(n.to_bytes(4, "big")).to_bytes(4, "big") for n in range(1 << 20))
    data = gzip.compress(tar_of([("video", noise)]), 1)
    assert read_all(data, expansion_bytes=1 << 20, expansion_ratio=5) == [("video", noise)]


BOMB = """
import gzip, io, lzma, sys, tarfile
from ipfs_dataset_core import LimitError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.tar.reader import TarReader
from tests.support.peak import peak_kib

data = sys.stdin.buffer.read()
before = peak_kib()
try:
    print(sum(len(content) for _, content in TarReader().samples(MemoryFile(data))))
except LimitError as error:
    print(peak_kib() - before, error)
"""


class Zeros(io.RawIOBase):
    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = bytes(len(buffer))
        return len(buffer)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
def test_gigabytes_of_zeros_do_not_take_gigabytes():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 2 << 30
        archive.addfile(info, io.BufferedReader(Zeros(), 1 << 20))
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{BOMB}"
    run = subprocess.run(
        [sys.executable, "-c", code], input=packed.getvalue(), capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    growth, message = run.stdout.decode().split(" ", 1)
    assert "'zeros'" in message
    assert int(growth) < 400 << 10, "of KiB"
