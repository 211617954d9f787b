import base64
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import AddressError, FormatError, VerificationError
from ipfs_dataset_core.ipld import CID, DAG_PB, RAW, make_cid
from ipfs_dataset_core.ipld.cid import DAG_CBOR, read_cid

V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
V1 = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
BASES = {
    "base16": "f",
    "base16upper": "F",
    "base32": "b",
    "base32upper": "B",
    "base36": "k",
    "base36upper": "K",
    "base58btc": "z",
    "base64url": "u",
}
# The empty directory, as `ipfs cid format -b` writes it.
KNOWN = {
    "base16": "f0170122059948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef",
    "base36": "k2jmtxtlhjl3fhmgndf92e48by79ryjuvqp3y2qgehpao6v3lurvnmcv",
    "base58btc": "zdj7WbTaiJT1fgatdet9Ei9iDB5hdCxkbVyhyh8YTUnXMiwYi",
    "base64url": "uAXASIFmUhDkGXylhnvQSgMu5Mr5SxW2ZxZZrZeAREjnwmLvv",
}

digests = st.binary(min_size=32, max_size=32)
cids = st.builds(
    lambda codec, digest: CID(1, codec, b"\x12\x20" + digest),
    st.sampled_from([RAW, DAG_PB, DAG_CBOR, 0x0129, 0x300539]),
    digests,
)


def test_both_versions_of_one_identifier_name_the_same_block():
    old, new = CID.parse(V0), CID.parse(V1)
    assert (old.version, new.version) == (0, 1)
    assert old != new
    assert old.multihash == new.multihash
    assert old.to_v1() == new
    assert new.to_v1() is new
    assert (str(old), str(new)) == (V0, V1)
    assert old.codec == new.codec == DAG_PB
    assert old.codec_name == "dag-pb"


@pytest.mark.parametrize("base", KNOWN)
def test_known_texts(base):
    assert CID.parse(KNOWN[base]) == CID.parse(V1)
    assert CID.parse(V0).encode(base) == KNOWN[base]


@given(cids)
def test_every_base_reads_back(cid):
    for base, prefix in BASES.items():
        text = cid.encode(base)
        assert text[0] == prefix
        assert CID.parse(text) == cid
    assert base64.b16decode(cid.encode("base16upper")[1:]) == cid.to_bytes()


@given(cids, st.sampled_from(["base16", "base32", "base36"]))
def test_case_insensitive_bases_read_either_case(cid, base):
    text = cid.encode(base)
    assert CID.parse(text[0] + text[1:].upper()) == cid
    assert CID.parse(text[0].upper() + text[1:]) == cid


@given(cids, st.binary(max_size=4))
def test_binary_cids_are_parsed_with_their_length(cid, rest):
    raw = cid.to_bytes()
    assert CID.from_bytes(raw) == cid
    assert read_cid(b"ab" + raw + rest, 2) == (cid, 2 + len(raw))


@given(digests)
def test_version_0_reads_back(digest):
    cid = CID(0, DAG_PB, b"\x12\x20" + digest)
    assert CID.parse(str(cid)) == cid
    assert CID.from_bytes(cid.to_bytes()) == cid
    assert len(str(cid)) == 46


def test_make_cid_hashes_with_sha2_256():
    cid = make_cid(b"hello world", RAW)
    assert str(cid) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert cid.digest == hashlib.sha256(b"hello world").digest()
    assert cid.hash_code == 0x12
    assert not cid.is_identity
    with pytest.raises(AddressError, match="version 1"):
        make_cid(b"hello world", RAW, 0)


def test_identity_cid_holds_its_block():
    cid = CID.parse("bafkqac3imvwgy3zao5xxe3de")
    assert cid.is_identity
    assert cid.digest == b"hello world"
    assert str(cid) == "bafkqac3imvwgy3zao5xxe3de"
    assert CID.parse("bafkqaaa").digest == b""


def test_cids_pickle_and_serve_as_keys():
    cid = CID.parse(V1)
    assert pickle.loads(pickle.dumps(cid)) == cid
    assert {cid: 1}[CID.parse(V1)] == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("hello", "base prefix"),
        (V0.lower(), "base prefix"),
        (V0[:-1], "46 letters, not 45"),
        (V0 + "a", "46 letters, not 47"),
        (V0[:-1] + "0", "'0', which is not a letter"),
        ("z" + V0, "version 18 is unknown"),
        (V0 * 20, "46 letters, not 920"),
        (V1 + "a", "59 letters, not 60: was all of it copied"),
        (V1[:-1], "59 letters, not 58: was all of it copied"),
        (V1 * 20, "59 letters, not 1180"),
        (V1[:-1] + "1", "'1', which is not a letter of its base"),
        (V1[:-1] + "_", "'_', which is not a letter of its base"),
        (V1 + " ", "' ', which is not a letter of its base"),
        ("f01_0", "'_', which is not a letter of its base"),
        ("k-1", "'-', which is not a letter of its base"),
        ("f01701220" + "00" * 32 + "00" * 5, "digest"),
        ("f017", "last letter"),
        ("f02701220" + "00" * 32, "version 2 is unknown"),
        ("f0170121f" + "00" * 31, "sha2-256 digest has 32 bytes, not 31"),
        ("f01701220" + "00" * 33, "contains 33"),
        ("f0170008101" + "00" * 129, "longer than 128"),
        ("f01", "cut off"),
        ("b" + "a" * 600, "longer than any identifier"),
        ("bafyß", "ASCII"),
        ("u!", "cannot be decoded"),
        ("uA", "cannot be decoded"),
    ],
)
def test_bad_texts_are_address_errors_that_quote_them(text, reason):
    with pytest.raises(AddressError, match=reason) as caught:
        CID.parse(text)
    assert repr(text[:64])[:-1] in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_text_has_one_spelling_only():
    # The last letter of base32 carries bits beyond the last byte.
    cid = CID(1, RAW, b"\x00\x02hi")
    text = str(cid)
    other = text[:-1] + chr(ord(text[-1]) + 1)
    with pytest.raises(AddressError, match="last letter"):
        CID.parse(other)


@pytest.mark.parametrize(
    "raw", [b"", b"\x12\x20", b"\x01", b"\x01\x55\x12\x20" + bytes(33), b"\0\x70\x12\x20", b"\x12"]
)
def test_bad_bytes_are_verification_errors(raw):
    with pytest.raises(VerificationError, match="not a CID"):
        CID.from_bytes(raw)
    with pytest.raises(FormatError):
        read_cid(raw[:30], 0)


def test_unknown_base_is_refused_by_name():
    with pytest.raises(AddressError, match="base99"):
        CID.parse(V1).encode("base99")


@given(st.one_of(st.text(max_size=70), st.text("bafykzQmf01iu2", max_size=70)))
def test_any_text_is_a_cid_or_an_address_error(text):
    try:
        cid = CID.parse(text)
    except AddressError:
        return
    assert CID.parse(str(cid)) == cid


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda b: b"\x01\x55\x00" + b)))
def test_any_bytes_are_a_cid_or_a_verification_error(raw):
    try:
        cid = CID.from_bytes(raw)
    except VerificationError:
        return
    assert cid.to_bytes() == raw
