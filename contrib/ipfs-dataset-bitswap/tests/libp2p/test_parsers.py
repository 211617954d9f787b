"""Parsers of data from peers: valid input is parsed for any split into pieces, all else is a typed error."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p import identify, yamux
from ipfs_dataset_bitswap.libp2p.byte_queue import ByteQueue
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.messages import MessageAssembler, delimited
from ipfs_dataset_bitswap.libp2p.multistream import (
    MAX_LINE,
    MAX_PROPOSALS,
    VERSION,
    Proposal,
    Selection,
    encode_line,
    take_line,
)

from ipfs_dataset_core import FormatError

PROTOCOLS = st.lists(
    st.text("/abc01.", min_size=1, max_size=20), min_size=1, max_size=8, unique=True
)


def cut(data, places):
    """Returns data in pieces, cut at the given places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


CUTS = st.lists(st.integers(0, 1 << 20), max_size=12)


# multistream-select.


@given(PROTOCOLS, st.data())
def test_the_first_common_protocol_is_chosen(proposed, data):
    supported = data.draw(st.sets(st.sampled_from([*proposed, "/other"])))
    proposal, selection = Proposal(proposed), Selection(supported)
    to_selection, to_proposal = bytearray(proposal.start()), bytearray()
    for _ in range(2 * len(proposed) + 2):
        to_proposal += selection.receive(to_selection)
        to_selection += proposal.receive(to_proposal)
    common = [one for one in proposed if one in supported]
    assert proposal.chosen == selection.chosen == (common[0] if common else None)
    assert proposal.refused == (not common)


@given(PROTOCOLS.filter(lambda found: len(found) < MAX_PROPOSALS), st.binary(max_size=50), CUTS)
def test_data_after_a_negotiation_remain_in_the_buffer(proposed, rest, places):
    selection, buffer, reply = Selection([proposed[-1]]), bytearray(), b""
    data = encode_line(VERSION) + b"".join(map(encode_line, proposed))
    for piece in cut(data + rest, places):
        buffer += piece
        reply += selection.receive(buffer)
    assert selection.chosen == proposed[-1]
    assert buffer == rest
    refusals = encode_line("na") * (len(proposed) - 1)
    assert reply == encode_line(VERSION) + refusals + encode_line(proposed[-1])


@given(st.binary(max_size=3000))
def test_any_bytes_are_lines_or_an_error(data):
    buffer = bytearray(data)
    try:
        while take_line(buffer) is not None:
            pass
    except FormatError:
        return
    assert len(buffer) < MAX_LINE + 2, "an unfinished line is bounded"


@given(st.binary(max_size=3000), st.booleans())
def test_any_bytes_are_a_negotiation_or_an_error(data, greeted):
    for side in (Proposal(["/a"]), Selection(["/a"])):
        buffer = bytearray(encode_line(VERSION) * greeted + data)
        try:
            side.receive(buffer)
        except FormatError:
            continue
        assert side.chosen or getattr(side, "refused", False) or len(buffer) < MAX_LINE + 2


def test_a_line_has_the_bytes_of_the_specification():
    assert encode_line("na") == b"\x03na\n"
    assert encode_line(VERSION) == b"\x13/multistream/1.0.0\n"


# yamux.

FRAMES = st.lists(
    st.one_of(
        st.tuples(
            st.just(yamux.DATA), st.integers(0, 15), st.integers(1, 1 << 31), st.binary(max_size=99)
        ),
        st.tuples(
            st.just(yamux.WINDOW_UPDATE),
            st.integers(0, 15),
            st.integers(1, (1 << 32) - 1),
            st.integers(0, (1 << 32) - 1),
        ),
        st.tuples(
            st.sampled_from([yamux.PING, yamux.GO_AWAY]),
            st.integers(0, 15),
            st.just(0),
            st.integers(0, (1 << 32) - 1),
        ),
    ),
    max_size=10,
)


def encoded(frames):
    out = b""
    for kind, flags, stream, content in frames:
        payload = content if kind == yamux.DATA else b""
        length = len(content) if kind == yamux.DATA else content
        out += yamux.frame(kind, flags, stream, length) + payload
    return out


@given(FRAMES, CUTS)
def test_frames_are_parsed_for_any_split(frames, places):
    parser, found = yamux.FrameParser(), []
    for piece in cut(encoded(frames), places):
        for kind, flags, stream, content in parser.feed(piece):
            if kind == yamux.PAYLOAD:
                assert stream == found[-1][2]
                found[-1] = (*found[-1][:3], found[-1][3] + bytes(content))
            else:
                found.append((kind, flags, stream, b"" if kind == yamux.DATA else content))
    assert found == frames


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_an_error(data):
    parser, payload = yamux.FrameParser(), 0
    try:
        for kind, _, _, content in parser.feed(data):
            payload += len(content) if kind == yamux.PAYLOAD else 0
    except FormatError:
        return
    assert payload <= len(data)


def test_a_frame_has_the_bytes_of_the_specification():
    assert yamux.frame(yamux.WINDOW_UPDATE, yamux.SYN, 1, 0) == bytes.fromhex(
        "00 01 0001 00000001 00000000"
    )
    assert yamux.frame(yamux.PING, yamux.ACK, 0, 0xDEADBEEF) == bytes.fromhex(
        "00 02 0002 00000000 deadbeef"
    )
    assert yamux.frame(yamux.GO_AWAY, 0, 0, yamux.PROTOCOL_ERROR) == struct.pack(
        ">BBHII", 0, 3, 0, 0, 1
    )


# Messages.


@given(st.lists(st.binary(max_size=300), max_size=8), CUTS)
def test_messages_are_assembled_for_any_split(messages, places):
    assembler, found = MessageAssembler(300), []
    for piece in cut(b"".join(map(delimited, messages)), places):
        found += assembler.feed(piece)
    assert found == messages
    assert assembler.is_between
    assert assembler.waiting == 0


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_unfinished_data_never_exceed_the_limit(pieces):
    assembler = MessageAssembler(150)
    try:
        for piece in pieces:
            for message in assembler.feed(piece):
                assert len(message) <= 150
            assert assembler.waiting < 150
    except FormatError:
        pass


@pytest.mark.parametrize("data", [b"\xff" * 9, b"\x97\x01", b"\xff" * 8 + b"\x7f"])
def test_lengths_are_bounded(data):
    with pytest.raises(FormatError, match=r"does not end|more than 150"):
        MessageAssembler(150).feed(data)


# identify.

IDENTITY = Identity.generate()


@given(
    st.text(max_size=50).filter(str.isprintable),
    st.sets(st.text("/abc", max_size=20), max_size=10),
)
def test_identify_messages_are_parsed_as_encoded(agent, protocols):
    message = identify.own_message(IDENTITY, agent, protocols)
    assert identify.parse([message]) == identify.PeerInfo(agent, frozenset(protocols))


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_any_identify_messages_are_parsed_or_an_error(messages):
    try:
        info = identify.parse(messages)
    except FormatError:
        return
    assert isinstance(info.agent, str)


@given(st.lists(st.tuples(st.binary(max_size=3000), st.integers(0, 5000))))
def test_a_queue_returns_bytes_in_order(steps):
    queue, expected = ByteQueue(), b""
    for piece, count in steps:
        queue.push(memoryview(b"x" + piece)[1:])
        expected += piece
        assert queue.size == len(expected)
        assert queue.pop(count) == expected[:count]
        expected = expected[count:]
        queue.put_back(b"front")
        expected = b"front" + expected
    assert queue.pop(1 << 30) == expected
    assert queue.size == 0


def test_small_pieces_do_not_keep_their_large_buffers_in_memory():
    queue = ByteQueue()
    for _ in range(1000):
        queue.push(memoryview(bytes(60_000))[:1])
    tracemalloc.start()
    for _ in range(1000):
        queue.push(memoryview(bytes(60_000))[:1])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 60_000
    assert queue.pop(3000) == bytes(2000)
