import hashlib

import pytest

from ipfs_dataset_core.errors import FormatError, VerificationError
from ipfs_dataset_core.ipld import CID, hasher, varint, verify
from ipfs_dataset_core.ipld.multihash import split

DATA = b"some block"


def cid_of(code: int, digest: bytes) -> CID:
    multihash = varint.encode(code) + varint.encode(len(digest)) + digest
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
        split(b"\x12\x14" + bytes(20))


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
