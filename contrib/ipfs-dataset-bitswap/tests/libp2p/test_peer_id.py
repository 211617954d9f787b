"""Peer ids: the vectors of the specification of libp2p, and every form of text."""

from __future__ import annotations

import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

from ipfs_dataset_core import AddressError, FormatError, VerificationError
from ipfs_dataset_core.ipld import PublicKey, protobuf_fields
from tests.support.libp2p_peer import KeyIdentity

# https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#test-vectors
ECDSA = (
    (
        "08031279307702010104203E5B1FE9712E6C314942A750BD67485DE3C1EFE85B1BFB520AE8F9AE3DFA4A4CA00A06082A8648"
        "CE3D030107A14403420004DE3D300FA36AE0E8F5D530899D83ABAB44ABF3161F162A4BC901D8E6ECDA020E8B6D5F8DA30525"
        "E71D6851510C098E5C47C646A597FB4DCEC034E9F77C409E62"
    ),
    (
        "0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004de3d300fa36ae0e8f5d530899d83abab44abf3"
        "161f162a4bc901d8e6ecda020e8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62"
    ),
)
ED25519 = (
    (
        "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d1ed1e8fae2c4a144b8be8fd4b47b"
        "f3d3b34b871c3cacf6010f0e42d474fce27e"
    ),
    "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e",
)
SECP256K1 = (
    "0802122053DADF1D5A164D6B4ACDB15E24AA4C5B1D3461BDBD42ABEDB0A4404D56CED8FB",
    "08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99",
)
RSA_PUBLIC = (
    "080012a60430820222300d06092a864886f70d01010105000382020f003082020a0282020100e1beab071d08200bde24eef0"
    "0d049449b07770ff9910257b2d7d5dda242ce8f0e2f12e1af4b32d9efd2c090f66b0f29986dbb645dae9880089704a94e506"
    "6d594162ae6ee8892e6ec70701db0a6c445c04778eb3de1293aa1a23c3825b85c6620a2bc3f82f9b0c309bc0ab3aeb187328"
    "2bebd3da03c33e76c21e9beb172fd44c9e43be32e2c99827033cf8d0f0c606f4579326c930eb4e854395ad941256542c7939"
    "02185153c474bed109d6ff5141ebf9cd256cf58893a37f83729f97e7cb435ec679d2e33901d27bb35aa0d7e20561da08885e"
    "f0abbf8e2fb48d6a5487047a9ecb1ad41fa7ed84f6e3e8ecd5d98b3982d2a901b4454991766da295ab78822add5612a2df83"
    "bcee814cf50973e80d7ef38111b1bd87da2ae92438a2c8cbcc70b31ee319939a3b9c761dbc13b5c086d6b64bf7ae7dacc146"
    "22375d92a8ff9af7eb962162bbddebf90acb32adb5e4e4029f1c96019949ecfbfeffd7ac1e3fbcc6b6168c34be3d5a2e5999"
    "fcbb39bba7adbca78eab09b9bc39f7fa4b93411f4cc175e70c0a083e96bfaefb04a9580b4753c1738a6a760ae1afd851a1a4"
    "bdad231cf56e9284d832483df215a46c1c21bdf0c6cfe951c18f1ee4078c79c13d63edb6e14feaeffabc90ad317e4875fe64"
    "8101b0864097e998f0ca3025ef9638cd2b0caecd3770ab54a1d9c6ca959b0f5dcbc90caeefc4135baca6fd475224269bbe1b"
    "0203010001"
)


def private_bytes(text):
    return {number: value for number, _, value in protobuf_fields(memoryview(bytes.fromhex(text)))}[
        2
    ]


def identities():
    yield KeyIdentity(serialization.load_der_private_key(private_bytes(ECDSA[0]), None)), ECDSA[1]
    seed = bytes(private_bytes(ED25519[0])[:32])
    yield Identity(ed25519.Ed25519PrivateKey.from_private_bytes(seed)), ED25519[1]
    number = int.from_bytes(private_bytes(SECP256K1[0]), "big")
    yield KeyIdentity(ec.derive_private_key(number, ec.SECP256K1())), SECP256K1[1]


@pytest.mark.parametrize(
    ("identity", "public"), [*identities()], ids=["ecdsa", "ed25519", "secp256k1"]
)
def test_keys_are_those_of_the_specification(identity, public):
    assert identity.public_key.to_bytes().hex() == public
    key = PublicKey.from_bytes(bytes.fromhex(public))
    assert key == identity.public_key
    key.verify(b"message", identity.sign(b"message"))
    with pytest.raises(VerificationError, match="forged"):
        key.verify(b"another", identity.sign(b"message"))
    assert PeerId.from_public_key(key) == identity.peer_id


def test_an_rsa_key_is_that_of_the_specification():
    message = bytes.fromhex(RSA_PUBLIC)
    key = PublicKey.from_bytes(message)
    assert key.to_bytes() == message
    assert str(PeerId.from_public_key(key)).startswith("Qm")
    with pytest.raises(VerificationError, match="forged"):
        key.verify(b"message", bytes(512))


# From the specification and the bootstrap nodes of IPFS.
TEXTS = [
    "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
    "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
    "16Uiu2HAmFjQhQxpWtTXR7DMRhDsXGwePqJgvnzHcxS8ghzTsTc1B",
]


@pytest.mark.parametrize("text", TEXTS[:3])
def test_base58_and_cid_forms_are_read(text):
    peer_id = PeerId.parse(text)
    assert str(peer_id) == text
    for base in ("base32", "base36", "base58btc"):
        assert PeerId.parse(peer_id.to_cid().encode(base)) == peer_id
    assert pickle.loads(pickle.dumps(peer_id)) == peer_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Qm",
        "12D3KooW",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5S0",
        "bafkreihzqbfi2oa4skpyoe4qugb2lczakobasdrcqn72plwmnb25kjf374",
        "example.com",
        "Qm" * 400,
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N/x",
    ],
)
def test_an_invalid_peer_id_is_an_error(text):
    with pytest.raises(AddressError, match="not a peer id"):
        PeerId.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_a_peer_id_or_an_error(text):
    try:
        peer_id = PeerId.parse(text)
    except AddressError:
        return
    assert PeerId.parse(str(peer_id)) == peer_id


@given(st.binary(max_size=100))
def test_any_bytes_are_a_key_or_an_error(data):
    try:
        key = PublicKey.from_bytes(data)
    except FormatError:
        return
    assert PublicKey.from_bytes(key.to_bytes()) == key
    with pytest.raises(VerificationError):
        key.verify(b"message", b"no signature")


def test_each_identity_is_new_and_does_not_expose_its_key():
    one, other = Identity.generate(), Identity.generate()
    assert one.peer_id != other.peer_id
    assert str(one.peer_id).startswith("12D3KooW")
    assert repr(one) == f"Identity({one.peer_id})"
    with pytest.raises(TypeError):
        pickle.dumps(one)
