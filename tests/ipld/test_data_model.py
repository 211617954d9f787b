"""Paths through DAG-CBOR and DAG-JSON, up to the first link."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError, ObjectNotFoundError
from ipfs_dataset_core.ipld import CID, RAW, make_cid
from ipfs_dataset_core.ipld.cid import DAG_CBOR, DAG_JSON
from ipfs_dataset_core.ipld.dag_cbor import LinkBytes, encode
from ipfs_dataset_core.ipld.data_model import data_links, decode_data, follow, links

FILE, OTHER = make_cid(b"file", RAW), make_cid(b"other", RAW)


def in_json(value):
    if isinstance(value, CID):
        return {"/": str(value)}
    if isinstance(value, dict):
        return {key: in_json(part) for key, part in value.items()}
    return [in_json(part) for part in value] if isinstance(value, list) else value


def in_cbor(value):
    if isinstance(value, CID):
        return LinkBytes(value.to_bytes())
    if isinstance(value, dict):
        return {key: in_cbor(part) for key, part in value.items()}
    return [in_cbor(part) for part in value] if isinstance(value, list) else value


def block_of(codec, value):
    """Returns the CID and bytes of a value; what is no text, number, map, list or link is JSON's alone."""
    data = encode(in_cbor(value)) if codec == DAG_CBOR else json.dumps(in_json(value)).encode()
    return make_cid(data, codec), data


VALUE = {"a": {"b": [1, FILE, {"c": OTHER}]}, "": OTHER, "0": "text", "é": FILE, "n": 3}
BOTH = pytest.mark.parametrize("codec", [DAG_CBOR, DAG_JSON])


@BOTH
@pytest.mark.parametrize(
    ("path", "found"),
    [
        (["a", "b", "1"], (FILE, 3)),
        (["a", "b", "1", "more", "still"], (FILE, 3)),
        (["a", "b", "2", "c"], (OTHER, 4)),
        (["é"], (FILE, 1)),
    ],
)
def test_a_path_is_resolved_up_to_the_first_link(codec, path, found):
    cid, block = block_of(codec, VALUE)
    assert follow(cid, block, path, "obj") == found


@BOTH
def test_a_block_that_is_a_link_is_followed(codec):
    cid, block = block_of(codec, FILE)
    assert follow(cid, block, ["a"], "obj") == (FILE, 0)


@BOTH
@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        (["x"], ObjectNotFoundError, "no entry named 'x'"),
        (["a", "b", "3"], ObjectNotFoundError, "no entry named '3'"),
        (["a", "b", "01"], ObjectNotFoundError, "no entry named '01'"),
        (["a", "b", "-1"], ObjectNotFoundError, "no entry named '-1'"),
        (["a", "b", "c"], ObjectNotFoundError, "a list in the dag-"),
        (["0"], FormatError, "is text in dag-.*, not a link"),
        (["a"], FormatError, "is a map in dag-.*, not a link"),
        (["a", "b", "0", "x"], FormatError, "is a number, which has no parts"),
    ],
)
def test_a_path_without_a_target_is_an_error_with_its_position(codec, path, error, words):
    cid, block = block_of(codec, VALUE)
    with pytest.raises(error, match=rf"'obj'.*{words}"):
        follow(cid, block, path, "obj")


@BOTH
def test_the_links_of_data_are_its_children(codec):
    cid, block = block_of(codec, VALUE)
    assert links(cid, block) == data_links(cid, block) == [FILE, OTHER, OTHER, FILE]


def test_bytes_in_dag_json_are_not_taken_for_a_link():
    block = b'{"a": {"/": {"bytes": "AAAA"}}}'
    with pytest.raises(FormatError, match="is bytes in dag-json"):
        follow(make_cid(block, DAG_JSON), block, ["a"], "obj")


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a": 1, "a": 2}',
        b"NaN",
        b'{"/": 1}',
        b'{"/": "nothing"}',
        b"[" * 100_000,
        b"[" * 200 + b"]" * 200,
    ],
)
def test_damaged_dag_json_is_a_format_error_that_names_the_block(block):
    cid = make_cid(block, DAG_JSON)
    with pytest.raises(FormatError, match=f"{cid} is not valid dag-json"):
        decode_data(cid, block)


@given(st.binary(max_size=80), st.sampled_from([DAG_CBOR, DAG_JSON]))
def test_any_bytes_are_data_or_a_format_error(block, codec):
    try:
        decode_data(make_cid(block, codec), block)
    except FormatError:
        return
