"""IPNS records: those of Kubo and of an independent signer are accepted, everything else is a typed error."""

from __future__ import annotations

import base64
import sys
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import NameRecordError
from ipfs_dataset_core.ipld import CID, LIBP2P_KEY, parse_name, verify_record
from tests.support.name_records import Key, cbor, proto, record

# Made by Kubo 0.44: `ipfs name publish --allow-offline`, then the gateway's ``?format=ipns-record``.
KUBO_ED25519 = (
    "k51qzi5uqu5dj0gjzyl1i6votkixov8ob7rm1cw33ucf7atvkzrhmggfgng920",
    (
        "CkEvaXBmcy9iYWZrcmVpYm5vZWxlZm56Z3diY2FjeXQ0dmg1MnlteHZ6YmpxN21tcWh0Y253YXJmcTRsemVnc2lxZR"
        "JAquWlZycrFzwJF1VlZSXywyBvYmdTw9w9TwFZdo5kRgi38G84i0PvKmPHhN6f6/gtwsGdx+pxxHks4+IkcV5FDhgA"
        "Ih4yMDI2LTEyLTAxVDExOjI5OjU2LjIyMzAwNzA3NVooADCA8JLL3QhCQGLvXX/ML2se4Cv4k34GPtyU1V2MAvAv4p"
        "mK0VKPUfdkCnB5dAEp7UNIToQcnvfePsplQTls5N7bF8WXC4+cHAxKmAGlY1RUTBsAAABF2WS4AGVWYWx1ZVhBL2lw"
        "ZnMvYmFma3JlaWJub2VsZWZuemd3YmNhY3l0NHZoNTJ5bXh2emJqcTdtbXFodGNud2FyZnE0bHplZ3NpcWVoU2VxdW"
        "VuY2UAaFZhbGlkaXR5WB4yMDI2LTEyLTAxVDExOjI5OjU2LjIyMzAwNzA3NVpsVmFsaWRpdHlUeXBlAA=="
    ),
)

KUBO_RSA = (
    "k2k4r8lo1bfeq33bu1g1g8nwon1bo5omhfnoxiss4v1x6u0d0zs4066b",
    (
        "CkEvaXBmcy9iYWZrcmVpYm5vZWxlZm56Z3diY2FjeXQ0dmg1MnlteHZ6YmpxN21tcWh0Y253YXJmcTRsemVnc2lxZR"
        "KAAomA77FdjWp9FpgWE1DgB1FcugXYAJZyoAmOjKhftpPUZg5SuTParyCR88MYuX9B7nEIaGo/0e3+SZKEviv5N79F"
        "7d2pMcDUahN73QyqJ6S5NjOSi4OXIGhLfOQ8QC5WH4ViBsWLw/tgpjAqQxEwYuXEuTCRabT9K069mxx5w4+EE5NxPF"
        "TrkbY86kEIFqnxp+mJwhhW0QGvKGh10TGyhQj8PAbT6GbbnocHmQKw9/URHdczCU20tMYsgFyFGteaBdD47un8A3Q6"
        "NFmPaBTuojqQoPsWB0ug2cb94of+Rn4XXP16sBbp7uQOxaV0NaGml09lezxNB7Z7TuCF+y0wf0sYACIeMjAyNi0xMi"
        "0wMVQxMToyOTo1Ni4yMzI1MTE3OTNaKAAwgPCSy90IOqsCCAASpgIwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEK"
        "AoIBAQDZzaY84OxTOEd+fqas+O0LZlHcHGtfhjBFUVOU2qTqBPigXXXTrRQmVI8qyWgDWxtInVnHCdw1UQxgvJb/Ny"
        "CtHDv0e3R2kQPvp5KFM7zuFJL/+9+uPYDgZqTmRGeyv1E2y8+UyPFWJ3JUckA035hoE0Zcfb++Xh+yEGZgSyzKQYhN"
        "5fk2n0VUgZWDJCHi6i9HU0VvpmGX7AscK0loeqRFyq0spHlABT32jkhBFzViPtZMZG22IXIM6R5nH3m3wAOlBOQ3fb"
        "Gx0wPLTy3Bj6FUyhxzww0lXvNam8NJdwDlrukmGiNlrULQsJD/2eMUDTCQdGsy9499UtBfB9n9Jzx1AgMBAAFCgAJ1"
        "zhYJYvg9y1Dir6GfH0tVDBkkFfCZKaZZsY1rX9Yz3DorRMPlGk4LKH/g94REjwr8Tt156UoZM96tYbs2oZlXrcMBvy"
        "ehk96y2UGPIlBDcj7ZWo9fd/473CmOZ30p0g5SCMUh7hEEuNUWOgo+JH+3ghmqUMnc0YvBv6IiKWC1RM3pB9MjsY1t"
        "sc4aVMFljKQGg4r1NjsLsBEHvgWr28Zot3yMFbdWvEseq82diC0Qxi+pOSJsLzs7X0faZ6/l1EZrydFEw1kIvkjrOr"
        "tPtAALnk4M4ecrzf3DQOu5z6isdsGTDNNXqjgqIleNz7OBkYa/CQQh5PyT7LRaVAaFEY1NSpgBpWNUVEwbAAAARdlk"
        "uABlVmFsdWVYQS9pcGZzL2JhZmtyZWlibm9lbGVmbnpnd2JjYWN5dDR2aDUyeW14dnpianE3bW1xaHRjbndhcmZxNG"
        "x6ZWdzaXFlaFNlcXVlbmNlAGhWYWxpZGl0eVgeMjAyNi0xMi0wMVQxMToyOTo1Ni4yMzI1MTE3OTNabFZhbGlkaXR5"
        "VHlwZQA="
    ),
)
VALUE = "/ipfs/bafkreibnoelefnzgwbcacyt4vh52ymxvzbjq7mmqhtcnwarfq4lzegsiqe"
BEFORE = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
KEYS = {kind: Key(kind) for kind in ("ed25519", "secp256k1", "ecdsa", "rsa")}
ED = KEYS["ed25519"]


def cid_of(key):
    return CID(1, LIBP2P_KEY, key.multihash)


@pytest.mark.parametrize("vector", [KUBO_ED25519, KUBO_RSA], ids=["ed25519", "rsa"])
def test_records_of_kubo_are_accepted(vector):
    name, text = vector
    made, key = base64.b64decode(text), parse_name(name)
    assert key is not None
    found = verify_record(made, key, BEFORE)
    assert (found.value, found.sequence, found.ttl, found.proven) == (VALUE, 0, 300.0, True)
    assert BEFORE < found.expires < BEFORE + timedelta(days=3)
    with pytest.raises(NameRecordError, match=f"{name} expired at 2026-12-01"):
        verify_record(made, key, BEFORE + timedelta(days=9))


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("kind", KEYS)
def test_records_of_every_kind_of_key_are_proven(kind, v1):
    key = KEYS[kind]
    made = record(key, "/ipfs/x/a b", sequence=1 << 40, v1=v1)
    found = verify_record(made, cid_of(key))
    assert (found.value, found.sequence, found.proven) == ("/ipfs/x/a b", 1 << 40, True)
    assert found.expires == datetime(2126, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.utc)


@pytest.mark.parametrize("kind", KEYS)
def test_a_record_signed_by_another_key_is_refused(kind):
    key, other = KEYS[kind], Key(kind)
    with pytest.raises(NameRecordError, match=r"public key of another name|is forged"):
        verify_record(record(other, VALUE), cid_of(key))
    made = record(other, VALUE, public=key.public)
    with pytest.raises(NameRecordError, match=r"is forged: the key of the name has not signed it"):
        verify_record(made, cid_of(key))


SIGNED = record(ED, VALUE)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (b"", "no signature of version 2"),
        (b"\x01", "malformed"),
        (bytes(10_241), "more than 10240 bytes"),
        (proto(1, VALUE.encode()) + proto(2, b"signature"), "no signature of version 2"),
        (proto(8, b"x") + proto(9, cbor({"Value": b"/ipfs/x"})), "is forged"),
        (SIGNED + proto(8, b"x"), "field 8 is given twice"),
        (SIGNED + proto(5, b"x"), "field 5 has the wire type 2"),
        (SIGNED + proto(1, b"/ipfs/evil"), "another Value"),
        (SIGNED + proto(1, VALUE.encode()), "another Validity"),
        (SIGNED + proto(2, b"of version 1"), "another Value"),
        (SIGNED + proto(7, KEYS["rsa"].public), "public key of another name"),
        (SIGNED + proto(7, b"x"), "public key of another name"),
        (record(ED, VALUE, validity=b"2020-01-01T00:00:00Z"), "expired at 2020-01-01 00:00:00 UTC"),
        (record(ED, VALUE, validity=b"2020-01-01T00:00:00+23:00"), "expired at 2019-12-31 01:00"),
        (record(ED, VALUE, validity=b"tomorrow"), "is not a time"),
        (record(ED, VALUE, validity=b"2126-13-01T00:00:00Z"), "is not a time"),
        (record(ED, VALUE, validity=b"0001-01-01T00:00:00+01:00"), "is not a time"),
        (record(ED, VALUE, ValidityType=1), "unknown validity type 1"),
        (record(ED, VALUE, Value=None), "no usable Value"),
        (record(ED, VALUE, TTL=b"5"), "no usable TTL"),
        (record(ED, VALUE, Sequence="5"), "no usable Sequence"),
        (record(ED, b"\xff"), "not UTF-8"),
        (record(ED, "ipfs/x"), "is not a path"),
        (record(ED, ""), "is not a path"),
    ],
    ids=lambda value: value if isinstance(value, str) else "record",
)
def test_everything_else_is_a_typed_error(made, words):
    with pytest.raises(NameRecordError, match=words) as caught:
        verify_record(made, cid_of(ED))
    assert ED.name in str(caught.value)


def test_a_record_without_the_public_key_of_a_hashed_name_is_refused():
    rsa = KEYS["rsa"]
    made = record(rsa, VALUE)
    without = made[: made.index(proto(7, rsa.public))]
    with pytest.raises(NameRecordError, match="lacks the public key"):
        verify_record(without, cid_of(rsa))


@pytest.mark.parametrize(
    ("public", "words"),
    [
        (proto(1, 9) + proto(2, b"key"), "unknown type 9"),
        (proto(1, 1) + proto(2, b"short"), "unusable public key"),
        (proto(1, 0) + proto(2, b"no DER"), "unusable public key"),
        (proto(1, 2) + proto(2, b"no point"), "unusable public key"),
        (proto(1, 0) + KEYS["ecdsa"].public[2:], "another type than it states"),
        (proto(1, 3) + KEYS["rsa"].public[2:], "another type than it states"),
        (Key("rsa1024").public, "RSA key of 1024 bits"),
        (proto(1, 1), "public key is malformed"),
        (b"\xff", "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "key",
)
def test_unusable_keys_are_named(public, words):
    import hashlib

    name = CID(1, LIBP2P_KEY, b"\x12\x20" + hashlib.sha256(public).digest())
    with pytest.raises(NameRecordError, match=words):
        verify_record(record(ED, VALUE, public=public), name)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_typed_error(data):
    with pytest.raises(NameRecordError):
        verify_record(data, cid_of(ED))


VALID = record(ED, VALUE, sequence=7, v1=True)


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_a_changed_byte_never_changes_the_target_of_a_name(position, byte):
    changed = VALID[:position] + bytes((byte,)) + VALID[position + 1 :]
    try:
        found = verify_record(changed, cid_of(ED))
    except NameRecordError:
        return
    assert (found.value, found.sequence) == (VALUE, 7)


@given(st.integers(0, len(VALID)))
def test_a_truncated_record_never_changes_the_target_of_a_name(stop):
    try:
        found = verify_record(VALID[:stop], cid_of(ED))
    except NameRecordError:
        return
    assert found.value == VALUE


@given(st.binary(max_size=300))
def test_signed_data_of_any_kind_are_read_or_a_typed_error(data):
    made = proto(8, ED.sign(b"ipns-signature:" + data)) + proto(9, data)
    with pytest.raises(NameRecordError):
        verify_record(made, cid_of(ED))


@pytest.mark.parametrize("kind", KEYS)
def test_names_are_read_in_every_form(kind):
    name = cid_of(KEYS[kind])
    from ipfs_dataset_core.ipld.multiformats import base58_encode

    texts = (KEYS[kind].name, str(name), name.encode("base32"), base58_encode(name.multihash))
    assert {parse_name(text) for text in texts} == {name}


@pytest.mark.parametrize(
    "text",
    [
        "docs.ipfs.tech",
        "localhost",
        "",
        "12D3KooW",
        "bafkqaaa",
        VALUE[6:],
        "12D3" + "z" * 60,
        "Qm" + "1" * 44,
    ],
)
def test_other_texts_are_no_names_of_keys(text):
    assert parse_name(text) is None


def test_without_cryptography_a_record_is_read_but_not_proven(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    found = verify_record(SIGNED, cid_of(ED))
    assert (found.value, found.proven) == (VALUE, False)
    with pytest.raises(NameRecordError, match="expired"):
        verify_record(record(ED, VALUE, validity=b"2020-01-01T00:00:00Z"), cid_of(ED))
    with pytest.raises(NameRecordError, match="public key of another name"):
        verify_record(record(ED, VALUE, public=KEYS["rsa"].public), cid_of(ED))
