"""Answers of peers of the DHT: their sizes are bounded, and malformed ones are a FormatError."""

from __future__ import annotations

import hashlib
import ipaddress
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfs_dataset_bitswap.kademlia.messages import (
    FIND_NODE,
    GET_PROVIDERS,
    GET_VALUE,
    FoundPeer,
    decode_response,
    encode_request,
    kad_key,
)
from ipfs_dataset_bitswap.libp2p import multiaddr
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.ipld import encode_varint, protobuf_bytes, protobuf_varint

ONE = PeerId.parse("12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2")
TWO = PeerId.parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
KEY = ONE.multihash


def part(code, value=b"", *, sized=False):
    return encode_varint(code) + (encode_varint(len(value)) if sized else b"") + value


def ip4(text):
    return part(multiaddr.IP4, ipaddress.IPv4Address(text).packed)


def tcp(port):
    return part(multiaddr.TCP, port.to_bytes(2, "big"))


def p2p(peer):
    return part(multiaddr.P2P, peer.multihash, sized=True)


def peer(peer_id, *addresses):
    fields = [protobuf_bytes(1, peer_id if isinstance(peer_id, bytes) else peer_id.multihash)]
    return b"".join(
        [*fields, *(protobuf_bytes(2, one) for one in addresses), protobuf_varint(3, 1)]
    )


def test_requests_are_those_of_the_specification():
    # PUT_VALUE 0, GET_VALUE 1, ADD_PROVIDER 2, GET_PROVIDERS 3, FIND_NODE 4, PING 5
    assert encode_request(FIND_NODE, b"key") == bytes.fromhex("0804") + b"\x12\x03key"
    assert encode_request(GET_PROVIDERS, b"key")[:2] == bytes.fromhex("0803")
    assert encode_request(GET_VALUE, b"key")[:2] == bytes.fromhex("0801")


def test_distances_are_those_of_sha256_hashes():
    assert kad_key(b"x") == int.from_bytes(hashlib.sha256(b"x").digest(), "big")


def test_an_answer_has_peers_providers_and_a_record():
    address = ip4("1.2.3.4") + tcp(4001)
    message = b"".join(
        [
            protobuf_varint(1, GET_PROVIDERS),
            protobuf_bytes(2, KEY),
            protobuf_bytes(
                3, protobuf_bytes(1, KEY) + protobuf_bytes(2, b"value") + protobuf_bytes(5, b"now")
            ),
            protobuf_bytes(8, peer(TWO, address, address + p2p(TWO))),
            protobuf_bytes(9, peer(ONE)),
            protobuf_varint(10, 1),
        ]
    )
    answer = decode_response(message, KEY)
    assert answer.closer == (FoundPeer(TWO, (PeerAddress("1.2.3.4", 4001, TWO),)),)
    assert answer.providers == (FoundPeer(ONE),)
    assert answer.record == b"value"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (ip4("1.2.3.4") + tcp(1), "/ip4/1.2.3.4/tcp/1"),
        (
            part(multiaddr.IP6, ipaddress.IPv6Address("2001:db8::1").packed) + tcp(65535),
            "/ip6/2001:db8::1/tcp/65535",
        ),
        (part(multiaddr.DNS, b"a.example", sized=True) + tcp(4001), "/dns/a.example/tcp/4001"),
        (part(multiaddr.DNS4, b"a.example", sized=True) + tcp(4001), "/dns4/a.example/tcp/4001"),
        (
            part(multiaddr.DNS6, b"a.example", sized=True) + tcp(4001) + p2p(ONE),
            "/dns6/a.example/tcp/4001",
        ),
    ],
)
def test_addresses_over_tcp_are_kept(address, expected):
    answer = decode_response(protobuf_bytes(8, peer(ONE, address)), KEY)
    assert [str(one) for one in answer.closer[0].addresses] == [f"{expected}/p2p/{ONE}"]
    assert not answer.closer[0].skipped


def test_a_dnsaddr_name_is_kept():
    name = part(multiaddr.DNSADDR, b"a.example", sized=True)
    answer = decode_response(protobuf_bytes(8, peer(ONE, name, name + p2p(ONE))), KEY)
    assert [str(one) for one in answer.closer[0].addresses] == [f"/dnsaddr/a.example/p2p/{ONE}"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (ip4("1.2.3.4") + part(273, b"\x0f\xa1") + part(461), "QUIC"),
        (
            ip4("1.2.3.4")
            + part(273, b"\x0f\xa1")
            + part(461)
            + part(465)
            + part(466, b"x", sized=True),
            "QUIC",
        ),
        (ip4("1.2.3.4") + part(273, b"\x0f\xa1") + part(280), "QUIC"),
        (ip4("1.2.3.4") + tcp(1) + p2p(TWO) + part(multiaddr.RELAY), "relay"),
        (
            ip4("1.2.3.4") + part(273, b"\x0f\xa1") + part(461) + p2p(TWO) + part(multiaddr.RELAY),
            "relay",
        ),
        (
            part(multiaddr.DNS4, b"a.example", sized=True) + tcp(443) + part(448) + part(477),
            "WebSocket",
        ),
        (part(multiaddr.DNS4, b"a.example", sized=True) + tcp(443) + part(478), "WebSocket"),
        (part(multiaddr.DNSADDR, b"a b", sized=True), "other"),
        (part(multiaddr.DNSADDR, b"a.example", sized=True) + p2p(TWO), "other"),
        (ip4("1.2.3.4") + tcp(1) + p2p(TWO), "other"),
        (ip4("1.2.3.4") + tcp(0), "other"),
        (ip4("1.2.3.4"), "other"),
        (b"", "other"),
        (part(999_999), "other"),
        (ip4("1.2.3.4")[:-1], "other"),
        (part(multiaddr.DNS4, b"a.example,/ip4/10.0.0.1", sized=True) + tcp(1), "other"),
        (part(multiaddr.DNS4, b"a.example?public=0", sized=True) + tcp(1), "other"),
        (part(multiaddr.DNS4, b"", sized=True) + tcp(1), "other"),
        (part(multiaddr.DNS4, b"\xff\xfe", sized=True) + tcp(1), "other"),
        (part(multiaddr.DNS4, b"x" * 5000, sized=True) + tcp(1), "other"),
        (ip4("1.2.3.4") * 50, "other"),
    ],
)
def test_other_addresses_are_left_out_with_the_reason(address, reason):
    answer = decode_response(protobuf_bytes(8, peer(ONE, address)), KEY)
    assert answer.closer == (FoundPeer(ONE, (), frozenset({reason})),)


@pytest.mark.parametrize("odd", [b"", b"x", b"\x12\x20short", b"\x11\x14" + bytes(20), bytes(200)])
def test_a_peer_with_an_invalid_id_is_left_out(odd):
    message = protobuf_bytes(8, peer(odd, ip4("1.2.3.4") + tcp(1))) + protobuf_bytes(8, peer(TWO))
    assert [one.peer_id for one in decode_response(message, KEY).closer] == [TWO]


def test_the_record_of_another_key_is_ignored():
    other = protobuf_bytes(3, protobuf_bytes(1, b"another") + protobuf_bytes(2, b"value"))
    assert decode_response(other, KEY).record is None


def test_peers_and_addresses_beyond_the_limits_are_dropped():
    one = peer(ONE, *[ip4("1.2.3.4") + tcp(n) for n in range(1, 99)])
    many = protobuf_bytes(8, one) * 500 + protobuf_bytes(9, one) * 500
    answer = decode_response(many, KEY)
    assert len(answer.closer) == 40
    assert len(answer.providers) == 100
    assert max(len(one.addresses) for one in answer.closer) == 32


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",
        b"\x42\x05abc",
        protobuf_varint(8, 1),
        protobuf_bytes(8, protobuf_varint(1, 1)),
        b"\xff" * 20,
    ],
)
def test_a_malformed_answer_is_a_format_error(message):
    with pytest.raises(FormatError):
        decode_response(message, KEY)


@given(st.binary(max_size=400))
def test_any_bytes_are_an_answer_or_a_format_error(message):
    for wrapped in (
        message,
        protobuf_bytes(8, message),
        protobuf_bytes(9, peer(ONE, message)),
        protobuf_bytes(3, message),
    ):
        try:
            answer = decode_response(wrapped, KEY)
        except FormatError:
            continue
        for found in (*answer.closer, *answer.providers):
            assert all(PeerAddress.parse(str(one)) == one for one in found.addresses)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_multiaddr_or_a_format_error(data):
    try:
        parts = multiaddr.split(data)
    except FormatError:
        return
    assert b"".join(value for _, value in parts) in data or len(parts) > 1
    address = multiaddr.tcp_address(parts, ONE)
    assert address is None or PeerAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "message",
    [
        protobuf_bytes(9, b"\x0a\x02\x00\x00" + b"\x12\x00" * 30_000),
        b"\x4a\x00" * 30_000,
        b"\x1a\x00" * 30_000,
    ],
    ids=["addresses", "providers", "records"],
)
def test_an_answer_of_very_many_fields_takes_little_memory(message):
    tracemalloc.start()
    try:
        decode_response(message, b"key")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 512 << 10
