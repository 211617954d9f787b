import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld.dag_cbor import LinkBytes, decode, encode

values = st.recursive(
    st.integers(0, 2**64 - 1) | st.binary(max_size=30) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.one_of(values, st.binary(max_size=40).map(LinkBytes)))
def test_values_read_back(value):
    try:
        decoded = decode(encode(value))
    except FormatError as error:
        assert "deeper" in str(error)  # noqa: PT017 - only the depth may stop it
        return
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "cut off"),
        (b"\x19\x01", "malformed number"),
        (b"\x1f", "malformed number"),
        (b"\x41", "cut off"),
        (b"\x61\xff", "not UTF-8"),
        (b"\xa1\x01\x01", "not text"),
        (b"\xa2\x61a\x01\x61a\x02", "occurs twice"),
        (b"\xd8\x2a\x41\x01", "link"),
        (b"\xd8\x2a\x01", "link"),
        (b"\xc1\x01", "major type 6"),
        (b"\xf8\x15", "simple value"),
        (b"\xf7", "simple value"),
        (b"\xff", "malformed number"),
        (b"\xfb\0", "malformed number"),
        (b"\x9f\xff", "malformed number"),
        (b"\x01\x02", "1 bytes follow"),
        (b"\x81" * 50 + b"\x01", "deeper"),
        (b"\x9b" + b"\xff" * 8, "cut off"),
        (b"\x5b" + b"\xff" * 8, "cut off"),
    ],
)
def test_unsupported_values_are_refused(raw, reason):
    with pytest.raises(FormatError, match=reason):
        decode(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("20", -1),
        ("3bffffffffffffffff", -(1 << 64)),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("f93c00", 1.0),
        ("fa47c35000", 100000.0),
        ("fbc010666666666666", -4.1),
        ("a2616101616282f602", {"a": 1, "b": [None, 2]}),
    ],
)
def test_the_other_types_of_dag_cbor_are_read(raw, value):
    decoded = decode(bytes.fromhex(raw))
    assert decoded == value
    assert type(decoded) is type(value)


def test_data_may_be_nested_deeper_than_a_header():
    deep = b"\x81" * 100 + b"\x01"
    assert decode(deep, max_depth=128)
    with pytest.raises(FormatError, match="deeper"):
        decode(b"\x81" * 200 + b"\x01", max_depth=128)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_format_error(raw):
    try:
        decode(raw)
    except FormatError:
        return
