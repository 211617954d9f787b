"""Creates and signs IPNS records independently of the library."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

if TYPE_CHECKING:
    from collections.abc import Mapping

RAW, RAW_PUBLIC = serialization.Encoding.Raw, serialization.PublicFormat.Raw
DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
COMPRESSED = serialization.PublicFormat.CompressedPoint
FAR = b"2126-01-01T00:00:00.123456789Z"


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return found + bytes((number,))


def proto(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def cbor(value: Any) -> bytes:
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: (len(item[0]), item[0]))
        pairs = b"".join(cbor(key) + cbor(item) for key, item in items)
        return head(5, len(value)) + pairs
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value)) + value.encode()
    return head(0, value)


def head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    size = next(size for size in (1, 2, 4, 8) if number < 1 << (8 * size))
    return bytes((major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size],)) + number.to_bytes(size, "big")


class Key:
    """A key of a type that libp2p supports."""

    def __init__(self, kind: str = "ed25519") -> None:
        self.kind = kind
        self.private: Any
        if kind == "ed25519":
            self.private, number = ed25519.Ed25519PrivateKey.generate(), 1
            public = self.private.public_key().public_bytes(RAW, RAW_PUBLIC)
        elif kind == "secp256k1":
            self.private, number = ec.generate_private_key(ec.SECP256K1()), 2
            public = self.private.public_key().public_bytes(serialization.Encoding.X962, COMPRESSED)
        elif kind == "ecdsa":
            self.private, number = ec.generate_private_key(ec.SECP256R1()), 3
            public = self.private.public_key().public_bytes(DER, SPKI)
        else:
            bits = int(kind.removeprefix("rsa") or 2048)
            self.private, number = rsa.generate_private_key(65537, bits), 0
            public = self.private.public_key().public_bytes(DER, SPKI)
        self.public = proto(1, number) + proto(2, public)

    @property
    def multihash(self) -> bytes:
        if len(self.public) <= 42:
            return b"\x00" + bytes((len(self.public),)) + self.public
        return b"\x12\x20" + hashlib.sha256(self.public).digest()

    @property
    def name(self) -> str:
        """The name in base 36, as nodes write it."""
        number = int.from_bytes(b"\x01\x72" + self.multihash, "big")
        digits = ""
        while number:
            number, digit = divmod(number, 36)
            digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        return f"k{digits}"

    def sign(self, message: bytes) -> bytes:
        if self.kind == "ed25519":
            return bytes(self.private.sign(message))
        if self.kind.startswith("rsa"):
            return bytes(self.private.sign(message, padding.PKCS1v15(), hashes.SHA256()))
        return bytes(self.private.sign(message, ec.ECDSA(hashes.SHA256())))


def record(
    key: Key,
    value: bytes | str,
    *,
    sequence: int = 0,
    validity: bytes = FAR,
    v1: bool = False,
    public: bytes | None = None,
    **changed: Any,
) -> bytes:
    """Returns a signed record.

    Args:
        key: The key that signs it.
        value: The path.
        sequence: The version.
        validity: The end of its validity.
        v1: Whether it contains the fields for clients of version 1.
        public: The public key in the record; by default that of `key` if the name is only its hash.
        changed: Fields of the signed data that are changed.
    """
    path = value.encode() if isinstance(value, str) else value
    said: Mapping[str, Any] = {
        "Value": path,
        "Validity": validity,
        "ValidityType": 0,
        "Sequence": sequence,
        "TTL": 300_000_000_000,
        **changed,
    }
    data = cbor({name: item for name, item in said.items() if item is not None})
    message = proto(8, key.sign(b"ipns-signature:" + data)) + proto(9, data)
    if v1:
        message = (
            proto(1, path)
            + proto(2, b"of version 1")
            + proto(3, 0)
            + proto(4, validity)
            + proto(5, sequence)
            + proto(6, 300_000_000_000)
            + message
        )
    if public is None and len(key.public) > 42:
        public = key.public
    return message + (proto(7, public) if public else b"")
