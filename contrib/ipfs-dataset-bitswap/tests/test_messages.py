"""Messages are read as they were written; whatever a peer sends is a message or a typed error."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfs_dataset_bitswap.messages import (
    MAX_CID_BYTES,
    MAX_FIELDS,
    MAX_MESSAGE_BYTES,
    MAX_PREFIX_BYTES,
    Entry,
    Message,
    decode_message,
    encode_message,
    encode_wantlist,
)

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.ipld import RAW, make_cid, protobuf_bytes, protobuf_varint

CID = make_cid(b"a block", RAW).to_bytes()
_cids = st.binary(min_size=1, max_size=MAX_CID_BYTES)
_entries = st.builds(
    Entry, _cids, st.booleans(), st.just(False), st.integers(0, 2**31 - 1)
) | st.builds(Entry, _cids, st.just(False), st.just(True))
_blocks = st.tuples(
    st.binary(min_size=1, max_size=MAX_PREFIX_BYTES), st.binary(max_size=300).map(memoryview)
)
_messages = st.builds(
    Message,
    st.lists(_blocks, max_size=5).map(tuple),
    st.lists(_cids, max_size=5).map(tuple),
    st.lists(_cids, max_size=5).map(tuple),
    st.lists(_entries, max_size=5).map(tuple),
)


@given(_messages)
def test_messages_are_read_as_they_were_written(message):
    assert decode_message(encode_message(message)) == message


@given(st.lists(_entries, max_size=20), st.booleans())
def test_wantlists_are_read_as_they_were_written(entries, full):
    assert decode_message(encode_wantlist(entries, full=full)).wants == tuple(entries)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_typed_error(data):
    with suppress(FormatError, LimitError):
        decode_message(data)


@given(_messages, st.data())
def test_a_damaged_message_is_read_or_is_a_typed_error(message, data):
    encoded = bytearray(encode_message(message))
    for _ in range(data.draw(st.integers(1, 3))):
        if encoded:
            place = data.draw(st.integers(0, len(encoded) - 1))
            encoded[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    with suppress(FormatError, LimitError):
        decode_message(bytes(encoded[:cut]))


def test_a_wantlist_has_the_bytes_of_the_specification():
    # By hand: wantlist(1){entry(1){block(1), priority(2)=1, wantType(4)=1, sendDontHave(5)}, full(2)}.
    inner = b"\x0a\x24" + CID + b"\x10\x01\x20\x01\x28\x01"
    wantlist = b"\x0a" + bytes((len(inner),)) + inner + b"\x10\x01"
    assert encode_wantlist([Entry(CID, have=True)], full=True) == (
        b"\x0a" + bytes((len(wantlist),)) + wantlist
    )


def test_blocks_of_version_1_0_have_the_prefix_of_a_cid_of_version_0():
    assert decode_message(protobuf_bytes(2, b"data")).blocks == ((b"\x00\x70\x12\x20", b"data"),)


def test_unknown_fields_are_skipped():
    unknown = protobuf_bytes(9, b"later") + protobuf_varint(5, 77) + protobuf_varint(12, 1)
    block = protobuf_bytes(3, protobuf_bytes(1, b"\x01U\x12 ") + protobuf_bytes(2, b"data"))
    assert decode_message(unknown + block).blocks == ((b"\x01U\x12 ", b"data"),)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(protobuf_varint(1, 1), id="a wantlist that is a number"),
        pytest.param(protobuf_varint(3, 1), id="a block that is a number"),
        pytest.param(protobuf_bytes(3, protobuf_bytes(2, b"data")), id="a block without a prefix"),
        pytest.param(protobuf_bytes(4, protobuf_varint(2, 2)), id="a presence of another type"),
        pytest.param(protobuf_bytes(4, protobuf_bytes(2, b"x")), id="a type that is bytes"),
        pytest.param(b"\x1a\x05ab", id="cut off"),
        pytest.param(b"\x1b", id="a group"),
        pytest.param(b"\xff" * 11, id="a number without an end"),
    ],
)
def test_malformed_messages_are_refused(data):
    with pytest.raises(FormatError):
        decode_message(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(MAX_MESSAGE_BYTES + 1), id="a long message"),
        pytest.param(protobuf_bytes(2, b"") * (MAX_FIELDS + 1), id="many blocks"),
        pytest.param(protobuf_bytes(1, protobuf_bytes(1, b"") * (MAX_FIELDS + 1)), id="many wants"),
        pytest.param(
            protobuf_bytes(4, protobuf_bytes(1, bytes(MAX_CID_BYTES + 1))), id="a long CID"
        ),
        pytest.param(
            protobuf_bytes(3, protobuf_bytes(1, bytes(MAX_PREFIX_BYTES + 1))), id="a long prefix"
        ),
    ],
)
def test_messages_beyond_the_limits_are_refused(data):
    with pytest.raises(LimitError):
        decode_message(data)
