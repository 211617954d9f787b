"""Bytes that nobody's exporter wrote end in a FormatError, whatever they claim."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_plugins.tar_shards.codecs import (
    SampleCodec,
    arrays,
    scalars,
    schema,
)
from ipfs_dataset_plugins.tar_shards.codecs.builtin import DECODERS
from ipfs_dataset_plugins.tar_shards.codecs.schema import Member

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
        st.dictionaries(
            st.sampled_from([*scalars._READERS, "tuple", "list", "dict", "codec", "member"]),
            inner,
            max_size=2,
        ),
    ),
)


@given(JSON)
def test_any_json_is_a_value_or_a_format_error(value):
    text = json.dumps(value)
    with contextlib.suppress(FormatError):
        scalars.loads(text, "it")


@given(JSON)
def test_any_json_is_a_schema_or_a_format_error(value):
    try:
        read = schema.from_json(value, "it")
    except FormatError:
        return
    assert schema.to_json(read) is not None
    with contextlib.suppress(FormatError):
        SampleCodec().decode(read, {}, "sample 0")


def test_deep_json_is_a_format_error():
    with pytest.raises(FormatError):
        scalars.loads("[" * 100_000, "it")
    with pytest.raises(FormatError):
        scalars.loads("[" * 5000 + "]" * 5000, "it")
    with pytest.raises(FormatError):
        scalars.loads('{"$tuple":[' * 900 + "]}" * 900, "it")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1" * 5000, '{"$float":"1"}', '{"$new":1}'])
def test_json_beyond_the_rules_is_a_format_error(text):
    with pytest.raises(FormatError):
        scalars.loads(text, "it")


@settings(deadline=None)
@pytest.mark.parametrize("codec", sorted(DECODERS))
@given(data=st.binary(max_size=64))
def test_garbage_in_a_member_is_a_value_or_a_format_error(codec, data):
    with contextlib.suppress(FormatError):
        SampleCodec().decode(Member(codec, "x"), {"x": data}, "sample 0")


HEADERS = [
    {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)},
    {"descr": "<f4", "fortran_order": False, "shape": (0, 1 << 70)},
    {"descr": "<f4", "fortran_order": False, "shape": (-1, -1)},
    {"descr": "<f4", "fortran_order": False, "shape": [1]},
    {"descr": "<f4", "fortran_order": 1, "shape": (1,)},
    {"descr": "<f4", "shape": (1,)},
    {"descr": "|O", "fortran_order": False, "shape": (1,)},
    {"descr": "nonsense", "fortran_order": False, "shape": (1,)},
    {"descr": [("a",)], "fortran_order": False, "shape": (1,)},
    {"descr": None, "fortran_order": False, "shape": (1,)},
    {"descr": "|V0", "fortran_order": False, "shape": (1 << 70,)},
    ["<f4"],
]


@pytest.mark.parametrize("fields", HEADERS, ids=str)
@pytest.mark.parametrize(
    "decode", [arrays.decode_tensor, arrays.decode_array, arrays.decode_scalar]
)
def test_false_npy_headers_are_format_errors(fields, decode):
    body = repr(fields).encode()
    data = arrays.MAGIC + b"\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(8)
    with pytest.raises(FormatError):
        decode(data)


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(0, 4), st.binary(max_size=8))
def test_any_npy_file_is_an_array_or_a_format_error(body, version, rest):
    width = 2 if version == 1 else 4
    data = arrays.MAGIC + bytes([version, 0]) + len(body).to_bytes(width, "little") + body + rest
    for decode in (arrays.decode_tensor, arrays.decode_array):
        with pytest.raises(FormatError):
            decode(data)


def test_a_header_larger_than_the_file_or_the_limit_is_refused():
    for size in (1 << 31, 70_000):
        data = arrays.MAGIC + b"\x02\x00" + size.to_bytes(4, "little") + bytes(70_100)
        with pytest.raises(FormatError, match="claims"):
            arrays.read_header(data)
