"""Varints and multihashes, and the check of a block against its hash."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError, VerificationError
from ipfs_dataset_core.ipld import CID, hasher, verify
from ipfs_dataset_core.ipld.multiformats import decode_varint, encode_varint, split_multihash

DATA = b"some block"


def cid_of(code: int, digest: bytes) -> CID:
    multihash = encode_varint(code) + encode_varint(len(digest)) + digest
    return CID.from_bytes(b"\x01\x55" + multihash)


SUPPORTED = {
    0x00: DATA,
    0x12: hashlib.sha256(DATA).digest(),
    0x13: hashlib.sha512(DATA).digest(),
    0x14: hashlib.sha3_512(DATA).digest(),
    0x15: hashlib.sha3_384(DATA).digest(),
    0x16: hashlib.sha3_256(DATA).digest(),
    0x17: hashlib.sha3_224(DATA).digest(),
    0x20: hashlib.sha384(DATA).digest(),
    0x56: hashlib.sha256(hashlib.sha256(DATA).digest()).digest(),
    0xB214: hashlib.blake2b(DATA, digest_size=20).digest(),
    0xB220: hashlib.blake2b(DATA, digest_size=32).digest(),
    0xB240: hashlib.blake2b(DATA).digest(),
    0xB260: hashlib.blake2s(DATA).digest(),
}


@pytest.mark.parametrize("code", SUPPORTED)
def test_blocks_verify_whole_and_in_pieces(code):
    cid = cid_of(code, SUPPORTED[code])
    verify(cid, DATA)
    verify(cid, memoryview(DATA))
    pieces = hasher(cid)
    pieces.update(DATA[:3])
    pieces.update(memoryview(DATA)[3:])
    assert pieces.digest() == cid.digest == SUPPORTED[code]
    assert CID.parse(str(cid)) == cid


@pytest.mark.parametrize("code", SUPPORTED)
def test_another_block_is_refused_with_the_cid(code):
    cid = cid_of(code, SUPPORTED[code])
    for wrong in (b"", DATA[:-1], DATA + b"\0", b"x" * 5000):
        with pytest.raises(VerificationError, match=str(cid)):
            verify(cid, wrong)


@pytest.mark.parametrize(
    ("code", "digest", "reason"),
    [
        (0x11, hashlib.sha1(DATA).digest(), "sha1 is broken"),
        (0xD5, hashlib.md5(DATA).digest(), "md5 is broken"),
        (0x1E, bytes(32), "blake3 is not supported"),
        (0x7777, bytes(32), "0x7777 is not supported"),
        (0xB213, hashlib.blake2b(DATA, digest_size=19).digest(), "blake2b-152 is too short"),
    ],
)
def test_hashes_that_prove_nothing_are_refused_by_name(code, digest, reason):
    cid = cid_of(code, digest)
    with pytest.raises(VerificationError, match=reason) as caught:
        verify(cid, DATA)
    assert str(cid) in str(caught.value)


def test_a_shortened_digest_is_no_multihash():
    with pytest.raises(FormatError, match="32 bytes, not 20"):
        split_multihash(b"\x12\x14" + bytes(20))


# What `ipfs add --raw-leaves --hash=…` of a real node says.
@pytest.mark.parametrize(
    "text",
    [
        "bafkrgqfgyihz76un27lj4vifu2b22ztre7i5nqfelc3q32h4s4p2b4yua7zki7pjl47ww2giwkuq2tegupu26llxjngj2nd3ko2lupiyzxa6u",
        "bafkrmidfygnoolvy6jedbxhp3jxseu456wbxndvwpeijiuzrm6uas2biga",
        "bafk2bzacedfawjhlhyngqx5f4rjqardj2hblmsm33qvluatfjliit6yxtxiu2",
        "bafk6bzacebfnyqfds3vw62i7w6l6z2ylm5sbj32opglwkqabytedy5xeumn3k",
        "bafkvmieme2e33opv7x5hzzhmgywyxxgnxluai22kgc6ikbjxdq2y2vko2e",
        "bafkrohczpoijd4wg23cio6nyc7dtmprm6gzo3t43efz54aa3pteq",
        "bafkzjzacctkxv2tx6xfigi56cxg72bdku3lnr66nju",
    ],
)
def test_cids_of_a_real_node_verify(text):
    cid = CID.parse(text)
    assert str(cid) == text
    verify(cid, DATA)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_is_decoded_at_any_offset_of_a_buffer(value, before, after):
    encoded = encode_varint(value)
    assert len(encoded) <= 9
    buffer = before + encoded + after
    assert decode_varint(buffer, len(before)) == (value, len(before) + len(encoded))


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
        decode_varint(raw)


def test_known_encodings():
    assert encode_varint(0) == b"\0"
    assert encode_varint(127) == b"\x7f"
    assert encode_varint(300) == b"\xac\x02"


@given(st.binary(max_size=12))
def test_any_bytes_give_a_number_or_a_format_error(raw):
    try:
        value, end = decode_varint(raw)
    except FormatError:
        return
    assert encode_varint(value) == raw[:end]
