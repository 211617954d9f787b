"""Bytes as a file."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import BytesFile, LimitError, Limits
from ipfs_dataset_core.registry.lookup import open_reader
from ipfs_dataset_core.testing import MemoryFile
from tests.support.builders import tar_bytes, zip_bytes


@given(st.binary(max_size=20), st.integers(0, 30), st.integers(0, 30))
def test_a_bytes_file_reads_like_a_binary_file(data, start, size):
    file = BytesFile(data, "a")
    assert file.read_at(start, size) == data[start : start + size]
    reference = io.BytesIO(data)
    for one in (file, reference):
        one.seek(start)
    assert (file.read(size), file.tell(), file.size) == (
        reference.read(size),
        reference.tell(),
        len(data),
    )


def test_any_reader_reads_a_bytes_file():
    members = {"a.txt": b"1", "b.txt": b"2"}
    for name, data in (("zip", zip_bytes(members)), ("tar", tar_bytes(members))):
        assert dict(open_reader(name).samples(BytesFile(data, "x"))) == members


def test_limits_apply_to_a_bytes_file():
    file = BytesFile(zip_bytes({"a": bytes(100)}), "x", limits=Limits(member_bytes=99))
    with pytest.raises(LimitError):
        list(open_reader("zip").samples(file))


@given(
    st.lists(st.binary(max_size=9) | st.just(bytes(70_000)), max_size=6).map(b"\n".join),
    st.integers(0, 20),
    st.none() | st.integers(-1, 12),
)
def test_lines_are_equal_to_those_of_a_binary_file(data, start, size):
    file, reference = MemoryFile(data), io.BytesIO(data)
    for one in (file, reference):
        one.seek(start)
    assert file.readline(size) == reference.readline(size)
    assert file.tell() == reference.tell()
    assert list(file) == list(reference)
    file.seek(0)
    assert b"".join(file.readlines()) == data


def test_lines_are_read_in_pieces_and_not_byte_by_byte():
    file = MemoryFile(b"0123456789\n" * 20_000)
    assert sum(1 for _ in file) == 20_000
    assert len(file.reads) == -(-file.size // (64 << 10))


def test_a_line_that_is_too_long_is_refused():
    file = BytesFile(bytes(200_000), "a", limits=Limits(read_bytes=100_000))
    with pytest.raises(LimitError, match="a line of 'a'"):
        file.readline()
