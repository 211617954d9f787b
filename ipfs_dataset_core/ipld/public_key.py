"""Public keys in the encoding of libp2p, which peer IDs and IPNS names are derived from.

See https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md.
"""

from __future__ import annotations

import hashlib

import attrs

from ipfs_dataset_core.errors import FormatError, VerificationError
from ipfs_dataset_core.ipld.cid import SHA2_256_PREFIX
from ipfs_dataset_core.ipld.multiformats import IDENTITY, encode_varint
from ipfs_dataset_core.ipld.protobuf import BYTES, VARINT, fields, tagged_bytes, tagged_varint

RSA, ED25519, SECP256K1, ECDSA = range(4)
_NAMES = {RSA: "RSA", ED25519: "Ed25519", SECP256K1: "secp256k1", ECDSA: "ECDSA"}
_RSA_BITS = (2048, 8192)
# Bytes. Keys up to this size are stored in an identity multihash; larger ones are hashed.
_MAX_INLINE = 42
_MAX_BYTES = 4096


@attrs.frozen
class PublicKey:
    """The public key of a peer or an IPNS name.

    Attributes:
        kind: `RSA`, `ED25519`, `SECP256K1` or `ECDSA`.
        data: The key in the encoding of its kind: 32 bytes for Ed25519, a point for secp256k1, else DER.
    """

    kind: int
    data: bytes

    @classmethod
    def from_bytes(cls, message: bytes | memoryview) -> PublicKey:
        """Parses a protobuf message, in which each field must occur once.

        Raises:
            FormatError: The message is malformed, or too long.
        """
        if len(message) > _MAX_BYTES:
            raise FormatError(f"its public key has more than {_MAX_BYTES} bytes")
        parts: dict[int, int | bytes] = {}
        for number, wire, value in fields(memoryview(message)):
            if number in parts or (number, wire) not in {(1, VARINT), (2, BYTES)}:
                raise FormatError("its public key is malformed")
            parts[number] = value if isinstance(value, int) else bytes(value)
        kind, data = parts.get(1), parts.get(2)
        if not isinstance(kind, int) or not isinstance(data, bytes):
            raise FormatError("its public key is malformed")
        return cls(kind, data)

    def to_bytes(self) -> bytes:
        """Returns the protobuf message, in the canonical form from which multihashes are computed."""
        return tagged_varint(1, self.kind) + tagged_bytes(2, self.data)

    @property
    def multihash(self) -> bytes:
        """The bytes of the peer ID, which are also those of the IPNS name."""
        message = self.to_bytes()
        if len(message) <= _MAX_INLINE:
            return encode_varint(IDENTITY) + encode_varint(len(message)) + message
        return SHA2_256_PREFIX + hashlib.sha256(message).digest()

    def verify(self, message: bytes, signature: bytes) -> None:
        """Checks that the key has signed a message. Needs the package `cryptography`.

        Args:
            message: The signed bytes.
            signature: In the format of the key's type: PKCS #1 v1.5 with SHA-256 for RSA, DER with SHA-256
                for ECDSA and secp256k1.

        Raises:
            VerificationError: The key has not signed the message, or is unusable; the caller prepends a
                subject to the message of the error.
            ImportError: `cryptography` is not installed.
        """
        if self.kind not in _NAMES:
            raise VerificationError(f"is signed with a key of the unknown type {self.kind}")
        from cryptography import exceptions  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415
            ec,
            ed25519,
            padding,
            rsa,
        )

        try:
            if self.kind == ED25519:
                ed25519.Ed25519PublicKey.from_public_bytes(self.data).verify(signature, message)
                return
            if self.kind == SECP256K1:
                point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), self.data)
                point.verify(signature, message, ec.ECDSA(hashes.SHA256()))
                return
            loaded = serialization.load_der_public_key(self.data)
            if self.kind == ECDSA and isinstance(loaded, ec.EllipticCurvePublicKey):
                loaded.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            elif self.kind == RSA and isinstance(loaded, rsa.RSAPublicKey):
                if not _RSA_BITS[0] <= loaded.key_size <= _RSA_BITS[1]:
                    raise VerificationError(f"is signed with an RSA key of {loaded.key_size} bits")
                loaded.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            else:
                raise VerificationError("has a public key of another type than it states")
        except exceptions.InvalidSignature:
            raise VerificationError("is forged: the key of the name has not signed it") from None
        except (ValueError, exceptions.UnsupportedAlgorithm) as error:
            raise VerificationError(f"has an unusable public key ({error})") from None
