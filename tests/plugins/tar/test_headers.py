"""The fast path for simple headers never decides differently from the general parser."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_plugins.archives.member_names import check_name, is_junk
from ipfs_dataset_plugins.tar.headers import BLOCK, is_file, padded, parse_header, simple_headers
from tests.support.tar_headers import header

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def archive_of(names, size=700, kind=tarfile.REGTYPE, form=tarfile.USTAR_FORMAT):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.type = size, kind
            archive.addfile(info, io.BytesIO(b"\xff" * size))
    return packed.getvalue()


def header_of(name="a.bin", **fields):
    return bytearray(archive_of([name], 0, **fields)[:BLOCK])


def with_checksum(header):
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("form", FORMATS)
def test_ordinary_members_are_found_one_after_the_other(form):
    names = [f"data/{number}.bin" for number in range(50)]
    data = archive_of(names, form=form)
    found = list(simple_headers(data, 0))
    assert [name for _, name, _ in found] == names
    assert [at for at, _, _ in found] == [n * (BLOCK + padded(700)) for n in range(50)]
    assert {size for *_, size in found} == {700}


def test_a_run_starts_anywhere_and_ends_with_the_piece():
    data = archive_of(["a", "b", "c"])
    second = BLOCK + padded(700)
    assert [name for _, name, _ in simple_headers(data, second)] == ["b", "c"]
    assert [name for _, name, _ in simple_headers(data[: second + BLOCK - 1], 0)] == ["a"]
    assert list(simple_headers(data, len(data))) == []


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up", "a/../b", "._a", "d/._a", "__MACOSX/a", "x" * 101 + "/y"]
)
def test_unusual_names_are_left_to_the_general_parser(name):
    header = header_of()
    header[:100] = name.encode()[:100].ljust(100, b"\0")
    if len(name) > 100:
        header = header_of(name)
    assert list(simple_headers(with_checksum(header), 0)) == []


@pytest.mark.parametrize(
    "change",
    [
        (slice(156, 157), b"5"),
        (slice(156, 157), b"L"),
        (slice(156, 157), b"x"),
        (slice(156, 157), b"S"),
        (slice(124, 136), b"\x80" + bytes(10) + b"\x07"),
        (slice(124, 136), b"-0000000001\0"),
        (slice(345, 350), b"above"),
        (slice(500, 503), b"tar"),
        (slice(100, 108), b"whatever"),
    ],
)
def test_other_kinds_and_numbers_are_left_to_the_general_parser(change):
    header = header_of()
    header[change[0]] = change[1]
    assert list(simple_headers(with_checksum(header), 0)) == []


def test_directories_of_old_archives_are_left_to_the_general_parser():
    header = header_of("folder/")
    header[156:157] = b"\0"
    assert list(simple_headers(with_checksum(header), 0)) == []


@given(st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_each_damaged_byte_is_detected(at, by):
    header = bytearray(with_checksum(header_of("some/name.bin")))
    header[at] = (header[at] + by) % 256
    found = list(simple_headers(bytes(header), 0))
    assert found == [] or _general(bytes(header)) == found[0][1:]


def _general(block):
    name, kind, size, _ = parse_header(block)
    assert is_file(kind)
    assert not is_junk(name)
    check_name("archive", name)
    return name, size


@given(st.binary(min_size=100, max_size=100), st.integers(0, 8**11 - 1), st.sampled_from(b"0\0125"))
def test_results_are_equal_to_those_of_the_general_parser(name, size, kind):
    header = header_of()
    header[:100] = name
    header[124:136] = b"%011o\0" % size
    header[156] = kind
    block = with_checksum(header)
    for at, found, count in simple_headers(block, 0):
        assert at == 0
        assert (found, count) == _general(block)


@given(st.binary(max_size=2 * BLOCK))
def test_random_bytes_contain_no_headers(data):
    assert list(simple_headers(data, 0)) == []


def test_an_old_sparse_header_of_star_has_one_byte_of_prefix():
    def name_of(kind):
        block = header(b"name", 0, kind, at345=b"p" + b"x" * 20, at508=b"tar\0")
        return parse_header(block).name

    assert name_of(b"S") == "p/name"
    assert name_of(b"0") == f"p{'x' * 20}/name"
