"""Bytes as a file."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import BytesFile, LimitError, Limits
from ipfs_dataset_core.registry.lookup import open_reader
from tests.support.builders import tar_bytes, zip_bytes


@given(st.binary(max_size=20), st.integers(0, 30), st.integers(0, 30))
def test_it_reads_as_a_file_of_these_bytes(data, start, size):
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


def test_any_reader_reads_it():
    members = {"a.txt": b"1", "b.txt": b"2"}
    for name, data in (("zip", zip_bytes(members)), ("tar", tar_bytes(members))):
        assert dict(open_reader(name).samples(BytesFile(data, "x"))) == members


def test_limits_hold_for_it():
    file = BytesFile(zip_bytes({"a": bytes(100)}), "x", limits=Limits(member_bytes=99))
    with pytest.raises(LimitError):
        list(open_reader("zip").samples(file))
