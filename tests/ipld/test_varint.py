import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import varint


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_survives_inside_a_buffer(value, before, after):
    encoded = varint.encode(value)
    assert len(encoded) <= 9
    buffer = before + encoded + after
    assert varint.decode(buffer, len(before)) == (value, len(before) + len(encoded))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "cut off"),
        (b"\x80", "cut off"),
        (b"\x80\x00", "shortest"),
        (b"\xff\x80\x00", "shortest"),
        (b"\xff" * 9 + b"\x01", "longer than 9"),
    ],
)
def test_malformed_numbers_are_refused_with_the_reason(raw, reason):
    with pytest.raises(FormatError, match=reason):
        varint.decode(raw)


def test_known_encodings():
    assert varint.encode(0) == b"\0"
    assert varint.encode(127) == b"\x7f"
    assert varint.encode(300) == b"\xac\x02"


@given(st.binary(max_size=12))
def test_any_bytes_give_a_number_or_a_format_error(raw):
    try:
        value, end = varint.decode(raw)
    except FormatError:
        return
    assert varint.encode(value) == raw[:end]
