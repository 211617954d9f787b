"""What is behind a TAR archive's end mark: never a silently shorter dataset."""

from __future__ import annotations

import bz2
import gzip
import lzma
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.tar.reader import TarReader
from tests.support.archives import tar_of, zip_of
from tests.support.tar_headers import V7, member

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
A = [("a/1", b"one"), ("a/2", b"two" * 300)]
B = [("b/1", b"three"), ("b/2", b"")]
ON = TarReader(ignore_zeros=True)


def read_all(data: bytes, reader: TarReader | None = None):
    return list((reader or TarReader()).samples(MemoryFile(data)))


def read_by_index(data: bytes, reader: TarReader | None = None):
    file, reader = MemoryFile(data), reader or TarReader()
    index = reader.index(file)
    return [reader.read(file, index, position) for position in range(len(index))]


@pytest.mark.parametrize("read", [read_all, read_by_index])
@pytest.mark.parametrize(
    "data",
    [
        tar_of(A) + tar_of(B),
        tar_of(A) + bytes(512 * 77) + tar_of(B),
        bytes(512) + tar_of(A) + tar_of(B),
        tar_of(A)[:2560]
        + bytes(512)
        + tar_of(B),  # a single block of zeros, at which tar stops as well
    ],
)
def test_an_archive_behind_the_end_mark_is_an_error_that_names_the_option(read, data):
    with pytest.raises(FormatError, match=r"end mark.*TarReader\(ignore_zeros=True\)"):
        read(data)
    assert read(data, ON) == A + B


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_concatenated_compressed_archives_are_read(compression):
    compress = COMPRESSORS[compression]
    for data in (compress(tar_of(A)) + compress(tar_of(B)), compress(tar_of(A) + tar_of(B))):
        with pytest.raises(FormatError, match="ignore_zeros"):
            read_all(data)
        assert read_all(data, ON) == A + B


@given(data=st.data())
@settings(deadline=None)
def test_slices_of_concatenated_archives_contain_each_member_once(data):
    archive = tar_of(A) + bytes(512 * 9) + tar_of(B) + tar_of([("c", b"4")])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(archive)), max_size=6)))
    file = MemoryFile(archive)
    found = [
        sample
        for start, stop in pairwise([0, *cuts, len(archive)])
        for sample in ON.samples_between(file, start, stop)
    ]
    assert found == [*A, *B, ("c", b"4")]


def test_a_hard_link_finds_its_target_behind_end_marks():
    link = member(b"l", b"", b"1", at157=b"b/1")
    data = tar_of(A) + tar_of(B)[:-1024] + link
    assert read_all(data, ON) == read_by_index(data, ON) == [*A, *B, ("l", b"three")]
    assert read_all(gzip.compress(data), ON) == [*A, *B, ("l", b"three")]


@pytest.mark.parametrize("zeros", [0, 512, 1024, 10240, 3 << 20, 777])
@pytest.mark.parametrize("read", [read_all, read_by_index])
def test_padding_is_not_taken_for_an_archive(read, zeros):
    whole = tar_of(A)
    used = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    assert read(whole[:used] + bytes(zeros)) == A


@pytest.mark.parametrize("read", [read_all, read_by_index])
@pytest.mark.parametrize("tail", [b"\n", b"left over in the last record" * 90, b"\xff" * (2 << 20)])
def test_other_bytes_after_the_end_mark_cause_a_warning(read, tail):
    with pytest.warns(UserWarning, match=r"'object' has bytes after its end mark"):
        assert read(tar_of(A) + tail) == A
    with pytest.warns(UserWarning, match="not an archive"):
        assert read(tar_of(A) + tail, ON) == A


@pytest.mark.parametrize("read", [read_all, read_by_index])
@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"garbage" * 99 + tar_of(B), "ignore_zeros"),  # not even at a block
        (bytes(512) + b"x" * 512 + member(b"f", b"1", magic=V7), "ignore_zeros"),
        (b"x" * (2 << 20) + tar_of(B), "ignore_zeros"),
        (gzip.compress(tar_of(B), mtime=0), "data compressed by gzip"),
        (b"LZIP\1" + bytes(50), "data compressed by lzip"),
        (zip_of(B), "a ZIP archive"),
    ],
)
def test_archives_of_any_kind_behind_the_end_mark_are_refused(read, tail, message):
    with pytest.raises(FormatError, match=message):
        read(tar_of(A) + tail)


def test_with_the_option_bytes_between_archives_are_damage():
    with pytest.raises(FormatError, match="damaged"):
        read_all(tar_of(A) + b"garbage" * 99 + tar_of(B), ON)


@pytest.mark.parametrize("read", [read_all, read_by_index])
@pytest.mark.parametrize("rest", [b"x", b"anything" * 500, b"\1" * (1 << 20)])
def test_zeros_followed_by_other_bytes_are_no_empty_dataset(read, rest):
    for reader in (None, ON):
        with pytest.raises(FormatError, match="not a TAR archive"):
            read(bytes(512) + rest, reader)
        with pytest.raises(FormatError, match="not a TAR archive"):
            read(bytes(5120) + rest, reader)


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("tail", [b"x", b"trailing garbage" * 99, bytes(99) + b"\n"])
def test_bytes_after_compressed_data_cause_a_warning_as_with_gzip(compression, tail):
    data = COMPRESSORS[compression](tar_of(A)) + tail
    with pytest.warns(UserWarning, match=rf"'object' has bytes after its {compression} data"):
        assert read_all(data) == A


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_an_archive_behind_compressed_data_is_refused(compression):
    others = [data for name, compress in COMPRESSORS.items() if name != compression
              for data in [compress(tar_of(B))]]  # fmt: skip
    for other in (*others, tar_of(B), zip_of(B)):
        with pytest.raises(FormatError, match=f"after its {compression} data"):
            read_all(COMPRESSORS[compression](tar_of(A)) + other)


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_zeros_behind_compressed_data_are_padding(compression):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_all(COMPRESSORS[compression](tar_of(A)) + bytes(512)) == A


def test_any_number_of_compressed_zeros_behind_the_end_mark_are_refused():
    data = gzip.compress(tar_of(A) + bytes(3 << 20))
    assert read_all(data) == A
    with pytest.raises(LimitError, match="expansion_bytes"):
        list(TarReader().samples(MemoryFile(data, limits=Limits(expansion_bytes=1 << 20))))


def test_the_option_names_another_index():
    assert ON.index_form != TarReader().index_form
