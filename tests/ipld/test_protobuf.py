"""The wire format of protobuf: numbers, fields, and the fields of other types that are skipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    fields,
    read_varint,
    tagged_bytes,
    tagged_varint,
)

FIXED_64_FIELD = bytes((3 << 3 | FIXED64, *range(8)))
FIXED_32_FIELD = bytes((4 << 3 | FIXED32, *range(4)))


def parsed(message: bytes) -> list[tuple[int, int, int | bytes]]:
    """Returns all fields of a message, with bytes in place of views."""
    return [
        (number, wire, value if isinstance(value, int) else bytes(value))
        for number, wire, value in fields(memoryview(message))
    ]


def test_fields_of_every_wire_type_are_read_in_order():
    message = tagged_varint(1, 300) + FIXED_64_FIELD + tagged_bytes(2, b"abc") + FIXED_32_FIELD
    assert parsed(message + tagged_varint(15, 0)) == [
        (1, VARINT, 300),
        (3, FIXED64, bytes(range(8))),
        (2, BYTES, b"abc"),
        (4, FIXED32, bytes(range(4))),
        (15, VARINT, 0),
    ]


@given(st.lists(st.tuples(st.integers(1, 15), st.integers(0, (1 << 63) - 1) | st.binary())))
def test_encoded_fields_are_read_back(given_fields):
    message = b"".join(
        tagged_varint(number, value) if isinstance(value, int) else tagged_bytes(number, value)
        for number, value in given_fields
    )
    assert [(number, value) for number, _, value in parsed(message)] == given_fields


@pytest.mark.parametrize("field", [FIXED_64_FIELD, FIXED_32_FIELD, tagged_bytes(2, b"abc")])
def test_a_field_that_ends_with_the_message_is_read_and_a_shorter_one_is_refused(field):
    assert len(parsed(field)) == 1
    with pytest.raises(FormatError, match="beyond"):
        parsed(field[:-1])


@pytest.mark.parametrize("wire", [3, 4, 6, 7])
def test_other_wire_types_are_refused_with_their_offset(wire):
    with pytest.raises(FormatError, match=f"wire type {wire} at offset 1 "):
        parsed(bytes((1 << 3 | wire,)) + bytes(20))


def test_numbers_have_at_most_64_bits_in_at_most_ten_bytes():
    assert read_varint(b"\xff" * 9 + b"\x01", 0) == ((1 << 64) - 1, 10)
    assert read_varint(b"x\x80\x00", 1) == (0, 3), "forms that are not the shortest are allowed"
    for too_large in (b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x00"):
        with pytest.raises(FormatError, match="exceeds 64 bits"):
            read_varint(too_large, 0)
    with pytest.raises(FormatError, match="cut off at offset 2"):
        read_varint(b"\x80\x80", 0)
