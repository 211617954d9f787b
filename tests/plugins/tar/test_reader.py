from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import subprocess
import sys
import tarfile
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import FormatError, LimitError, Limits, MissingDependencyError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.archives.compression import decompressor_factory
from ipfs_dataset_plugins.tar.reader import TarReader
from tests.support.archives import by_tarfile, outcome, tar_of

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
MEMBERS = [(f"data/{number:03}.bin", bytes([number]) * (number * 37)) for number in range(60)]

names = st.text(
    st.characters(exclude_characters="\0/.", exclude_categories=["Cs"]), min_size=1, max_size=130
)
members = st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=8)


def read_all(data: bytes):
    return list(TarReader().samples(MemoryFile(data)))


def read_by_index(data: bytes):
    file, reader = MemoryFile(data), TarReader()
    index = reader.index(file)
    found = [reader.read(file, index, position) for position in range(len(index))]
    assert list(reader.read_each(file, index, range(len(index)))) == found
    return found


def with_links() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in MEMBERS[:3]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind, target in [
            ("hard", tarfile.LNKTYPE, "./data/002.bin"),
            ("harder", tarfile.LNKTYPE, "hard"),
            ("soft", tarfile.SYMTYPE, "data/002.bin"),
            ("hard to soft", tarfile.LNKTYPE, "soft"),
            ("directory", tarfile.DIRTYPE, ""),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("device", tarfile.CHRTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return packed.getvalue()


@given(members=members, layout=st.sampled_from(FORMATS))
@settings(deadline=None)
def test_members_are_read_as_they_were_packed(members, layout):
    try:
        data = tar_of(members, format=layout)
    except ValueError:  # ustar has no room for the name
        return
    assert read_all(data) == members
    assert read_by_index(data) == members


@given(members=members, data=st.data())
@settings(deadline=None)
def test_slices_give_each_member_once_in_order(members, data):
    archive = tar_of(members)
    cuts = data.draw(st.lists(st.integers(0, len(archive)), max_size=5))
    borders = [0, *sorted(cuts), len(archive)]
    reader, file = TarReader(), MemoryFile(archive)
    sliced = [
        sample
        for start, stop in pairwise(borders)
        for sample in reader.samples_between(file, start, stop)
    ]
    assert sliced == members


def test_slices_of_an_archive_with_links_and_long_names():
    archive = with_links()
    reader, file = TarReader(), MemoryFile(archive)
    sliced = [
        sample
        for start in range(0, len(archive), 512)
        for sample in reader.samples_between(file, start, start + 512)
    ]
    assert sliced == by_tarfile(archive)


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_compressed_archives_are_streamed(compression):
    data = COMPRESSORS[compression](tar_of(MEMBERS))
    assert read_all(data) == MEMBERS


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_compressed_archives_in_several_streams(compression):
    data = tar_of(MEMBERS)
    compress = COMPRESSORS[compression]
    assert read_all(compress(data[:5000]) + compress(data[5000:])) == MEMBERS


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_compressed_archives_have_no_index_and_no_slices(compression):
    file = MemoryFile(COMPRESSORS[compression](tar_of(MEMBERS)), "shard.tar.x")
    reader = TarReader()
    assert not reader.sliceable(file)
    with pytest.raises(FormatError, match=r"shard\.tar\.x.*IPFSIterableDataset.*\.zip"):
        reader.index(file)
    with pytest.raises(FormatError, match="one by one"):
        list(reader.samples_between(file, 0, 10))


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_a_compressed_archive_cut_anywhere_is_an_error(compression):
    whole = COMPRESSORS[compression](tar_of(MEMBERS[:4]))
    for cut in range(len(whole)):
        with pytest.raises(FormatError):
            read_all(whole[:cut])


@pytest.mark.filterwarnings("ignore:.*has bytes after its")
@pytest.mark.parametrize("compression", COMPRESSORS)
@given(data=st.data())
@settings(deadline=None)
def test_a_damaged_compressed_archive_is_an_error_or_unharmed(compression, data):
    whole = bytearray(COMPRESSORS[compression](tar_of(MEMBERS[:10])))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    result = outcome(TarReader().samples, MemoryFile(bytes(whole)))
    assert isinstance(result, FormatError) or result == MEMBERS[:10]


def test_the_error_for_zstd_without_a_library_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(MissingDependencyError, match=r"pip install ipfs-dataset\[zstd\]"):
        decompressor_factory("zstd", Limits())
    with pytest.raises(MissingDependencyError):
        read_all(COMPRESSORS["zstd"](tar_of(MEMBERS)))


def test_zstd_returns_no_more_bytes_than_requested():
    decompressor = decompressor_factory("zstd", Limits())()
    bomb = COMPRESSORS["zstd"](bytes(1 << 26))
    total = len(decompressor.decompress(bomb, 1000))
    assert total <= 1000
    while not decompressor.eof:
        piece = decompressor.decompress(b"", 1 << 20)
        assert len(piece) <= 1 << 20
        total += len(piece)
    assert total == 1 << 26


@pytest.mark.parametrize("compression", [None, *COMPRESSORS])
def test_hard_links_are_read_as_their_targets_and_other_kinds_are_skipped(compression):
    plain = with_links()
    data = COMPRESSORS[compression](plain) if compression else plain
    result = read_all(data)
    assert result == [*MEMBERS[:3], ("hard", MEMBERS[2][1]), ("harder", MEMBERS[2][1])]
    if compression is None:
        assert read_by_index(data) == result


def test_a_hard_link_to_nothing_is_an_error():
    info = tarfile.TarInfo("link")
    info.type, info.linkname = tarfile.LNKTYPE, "nowhere"
    data = info.tobuf() + bytes(1024)
    with pytest.raises(FormatError, match=r"'link' is a hard link to 'nowhere'"):
        read_all(data)
    with pytest.raises(FormatError):
        read_by_index(data)


def test_hard_links_that_go_back_too_often_in_a_compressed_archive_are_refused():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = 2 << 20  # more than is kept of what was read
            archive.addfile(info, io.BytesIO(name.encode() * info.size))
        for number in range(50):
            info = tarfile.TarInfo(f"link{number}")
            info.type, info.linkname = tarfile.LNKTYPE, "ba"[number % 2]
            archive.addfile(info)
    with pytest.raises(LimitError, match=r"plain \.tar"):
        read_all(packed.getvalue())


def test_members_added_by_macos_are_skipped():
    real = [("._dir/file", b"1"), ("a", b"2"), (".hidden", b"3")]
    junk = [("__MACOSX/a", b""), ("x/__MACOSX/b", b""), ("._a", b""), ("x/._b", b"")]
    assert read_all(tar_of([*real, *junk])) == real


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "a/.."])
def test_unsafe_names_are_refused(name):
    with pytest.raises(FormatError, match="Repack"):
        read_all(tar_of([(name, b"x")]))


def test_names_that_are_not_unicode_are_kept():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("caf\udce9"))
    assert read_all(packed.getvalue()) == [("caf\udce9", b"")]
    assert read_by_index(packed.getvalue()) == [("caf\udce9", b"")]


def test_a_plain_archive_cut_inside_a_member_is_an_error():
    whole = tar_of(MEMBERS[1:4])
    borders = {0x400 * step for step in range(4)}  # each member is a header and a block
    for cut in range(0x400 * 3):
        if cut in borders - {0}:
            assert read_all(whole[:cut]) == MEMBERS[1:4][: cut // 0x400]
        else:
            with pytest.raises(FormatError, match="object"):
                read_all(whole[:cut])


@pytest.mark.parametrize("at", [0, 1024])
def test_a_damaged_header_is_an_error_not_the_end(at):
    data = bytearray(tar_of(MEMBERS[1:4]))
    data[at] ^= 0xFF
    with pytest.raises(FormatError, match=rf"header at byte {at} .*checksum"):
        read_all(bytes(data))


@pytest.mark.parametrize("data", [b"", b"x", bytes(511), b"no archive" * 100])
def test_files_that_are_no_archive_are_refused(data):
    with pytest.raises(FormatError, match="TAR"):
        read_all(data)


def test_an_empty_archive_has_no_samples():
    assert read_all(bytes(512)) == []
    assert read_by_index(bytes(10240)) == []


def test_a_member_larger_than_the_limit_is_refused_unread():
    data = tar_of([("small", b"1"), ("large", bytes(5000))])
    file, reader = MemoryFile(data, limits=Limits(member_bytes=4999)), TarReader()
    with pytest.raises(LimitError, match=r"'large'.*5000.*4999"):
        list(reader.samples(file))
    index = reader.index(file)
    assert reader.read(file, index, 0) == ("small", b"1")
    with pytest.raises(LimitError):
        reader.read(file, index, 1)


def test_a_false_size_takes_no_memory():
    info = tarfile.TarInfo("huge")
    info.size = 3 << 30
    with pytest.raises(FormatError, match="cut off"):
        read_all(gzip.compress(info.tobuf() + bytes(5000)))
    with pytest.raises(FormatError, match="cut off"):
        read_all(info.tobuf() + bytes(5000))


def test_the_error_for_a_multi_volume_archive_says_so():
    volume = tar_of([("a", b"1"), ("b", bytes(30_000))])[:20_480]
    for data in (volume, gzip.compress(volume)):
        with pytest.raises(FormatError, match=r"cut off.*first of several volumes \(tar -M\)"):
            read_all(data)


def sparse_member(records: str, stored: bytes) -> bytes:
    info = tarfile.TarInfo("stored-under-this-name")
    info.size = len(stored)
    info.pax_headers = dict(line.split("=", 1) for line in records.splitlines())
    header = info.tobuf(tarfile.PAX_FORMAT)
    return header + stored + bytes(-len(stored) % 512) + bytes(1024)


@pytest.mark.parametrize(
    "data",
    [
        sparse_member("GNU.sparse.size=3000\nGNU.sparse.map=512,3,2000,4\nx=1", b"abcdefg"),
        sparse_member("GNU.sparse.size=3000\nGNU.sparse.map=0,0\nx=1", b""),
        sparse_member(
            "GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=n\nGNU.sparse.realsize=1000",
            b"2\n0\n3\n900\n100\n".ljust(512, b"\0") + b"a" * 103,
        ),
    ],
)
def test_sparse_members_are_filled_with_zeros(data):
    expected = by_tarfile(data)
    assert len(expected[0][1]) >= 1000
    assert read_all(data) == read_by_index(data) == expected


@pytest.mark.parametrize(
    "parts", ["5,1,4,1", "0,9", "0,-1", "0", "x,y", "0,1,1", "2990,11", "0,3,1,3"]
)
def test_sparse_maps_that_contradict_themselves_are_refused(parts):
    data = sparse_member(f"GNU.sparse.size=3000\nGNU.sparse.map={parts}", b"abcdefg")
    with pytest.raises(FormatError):
        read_all(data)


def test_the_index_is_compact_and_picklable():
    data = tar_of([(f"{number:05}", b"x") for number in range(5000)], format=tarfile.USTAR_FORMAT)
    index = TarReader().index(MemoryFile(data))
    pickled = pickle.dumps(index)
    assert len(pickled) < 5000 * (5 + 40)
    copy = pickle.loads(pickled)
    assert TarReader().read(MemoryFile(data), copy, 4999) == ("04999", b"x")
    assert copy.span(4999) == index.span(4999)


class Synthetic:
    """An archive of equal members that exists only where it is read."""

    def __init__(self, members: int, size: int) -> None:
        self.member_bytes = 512 + size
        self.size, self._content = members * self.member_bytes + 1024, b"\x7f" * size

    def member(self, number: int) -> bytes:
        if number * self.member_bytes >= self.size - 1024:
            return bytes(1024)
        info = tarfile.TarInfo(f"{number:08}.bin")
        info.size = len(self._content)
        return info.tobuf(tarfile.USTAR_FORMAT) + self._content

    def __call__(self, start: int, stop: int) -> bytes:
        first = start // self.member_bytes
        last = -(-stop // self.member_bytes)
        data = b"".join(self.member(number) for number in range(first, last))
        return data[start - first * self.member_bytes : stop - first * self.member_bytes]


def test_reading_one_member_reads_that_member_not_the_archive():
    archive = Synthetic(50, 1 << 20)
    file, reader = MemoryFile(archive, size=archive.size), TarReader()
    index = reader.index(file)
    assert file.bytes_read <= (50 + 3) * 512
    file.reads.clear()
    name, content = reader.read(file, index, 33)
    assert (name, len(content)) == ("00000033.bin", 1 << 20)
    assert file.reads == [index.span(33)]


def test_a_slice_reads_headers_before_it_and_nothing_after_it():
    archive = Synthetic(50, 1 << 20)
    file = MemoryFile(archive, size=archive.size)
    start = 40 * archive.member_bytes
    names = [name for name, _ in TarReader().samples_between(file, start, start + 1)]
    assert names == ["00000040.bin"]
    assert file.bytes_read < 3 << 20
    assert max(stop for _, stop in file.reads) < 43 * archive.member_bytes


TEN_GIGABYTES = """
from ipfs_dataset_plugins.tar.reader import TarReader
from tests.support.peak import peak_kib
from tests.plugins.tar.test_reader import Synthetic
from ipfs_dataset_core.testing import MemoryFile
archive = Synthetic(2500, 4 << 20)
file = MemoryFile(archive, size=archive.size)
list(TarReader().samples_between(file, 0, 30 << 20))
before = peak_kib()
count = sum(len(data) == 4 << 20 for _, data in TarReader().samples(file))
after = peak_kib()
print(count, after - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
def test_ten_gigabytes_are_streamed_with_bounded_memory():
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{TEN_GIGABYTES}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    count, growth = map(int, run.stdout.split())
    assert count == 2500
    assert growth < 32 << (0 if sys.platform == "darwin" else 10), "of KiB"
