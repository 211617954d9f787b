"""The Noise handshake of libp2p, Noise_XX_25519_ChaChaPoly_SHA256, and the ciphers that it ends with.

Nothing here reads a socket: messages in, messages out. See https://noiseprotocol.org/noise.html and
https://github.com/libp2p/specs/blob/master/noise/README.md.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ipfs_dataset_core import FormatError, VerificationError, before_forks
from ipfs_dataset_core.ipld import PublicKey, protobuf_bytes, protobuf_fields

if TYPE_CHECKING:
    from ipfs_dataset_bitswap.libp2p.identity import Identity

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
# Bytes of a message at the most, of the tag that proves it, and of a key.
MAX_MESSAGE = 65535
TAG = 16
MAX_PLAIN = MAX_MESSAGE - TAG
_KEY = 32
_MAX_NONCE = (1 << 64) - 1
_SIGNED_PREFIX = b"noise-libp2p-static-key:"
_BYTES = 2
# Of the payload of a handshake: a key, a signature and the protocols that the peer has.
MAX_PAYLOAD = 8192
MAX_MUXERS = 64


class Cipher:
    """One direction of a connection: a key and the number of the next message. Not thread-safe."""

    __slots__ = ("_cipher", "_number")

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._number = 0

    def _nonce(self) -> bytes:
        number = self._number
        if number >= _MAX_NONCE:  # cannot be reached in practice; a nonce must never repeat
            raise VerificationError("a Noise connection has no nonce left")
        self._number = number + 1
        return b"\0\0\0\0" + number.to_bytes(8, "little")

    def encrypt(self, plain: bytes | bytearray | memoryview, bound: bytes | None = None) -> bytes:
        return self._cipher.encrypt(self._nonce(), plain, bound)

    def decrypt(self, message: bytes | bytearray | memoryview, bound: bytes | None = None) -> bytes:
        """Returns what a message holds.

        Raises:
            VerificationError: It was not encrypted with the key, or is not the next one.
        """
        try:
            return self._cipher.decrypt(self._nonce(), message, bound)
        except InvalidTag:
            raise VerificationError("a Noise message does not decrypt") from None


def _hkdf(key: bytes, material: bytes) -> tuple[bytes, bytes]:
    temporary = hmac.digest(key, material, "sha256")
    first = hmac.digest(temporary, b"\1", "sha256")
    return first, hmac.digest(temporary, first + b"\2", "sha256")


class XXHandshake:
    """The three messages of the pattern XX, of either side.

    ::

        -> e
        <- e, ee, s, es
        -> s, se

    Args:
        initiator: Whether this is the side that dialled.
        static: The static key of this side, which is new for each connection.
        ephemeral: The ephemeral key of this side; only tests give one.
        prologue: What both sides have to have in common; libp2p has none.

    Attributes:
        remote_static: The static key of the other side, once it has been received.
    """

    _PATTERN = (("e",), ("e", "ee", "s", "es"), ("s", "se"))

    def __init__(
        self,
        *,
        initiator: bool,
        static: X25519PrivateKey | None = None,
        ephemeral: X25519PrivateKey | None = None,
        prologue: bytes = b"",
    ) -> None:
        self._initiator = initiator
        self._static = static or X25519PrivateKey.generate()
        self._ephemeral = ephemeral or X25519PrivateKey.generate()
        self._remote_ephemeral = b""
        self.remote_static = b""
        self._step = 0
        # The name has exactly the length of a hash, so it is not hashed.
        self._hash = self._chaining = PROTOCOL_NAME
        self._cipher: Cipher | None = None
        self._mix_hash(prologue)

    @property
    def static_key(self) -> bytes:
        """The public static key of this side."""
        return self._static.public_key().public_bytes_raw()

    @property
    def finished(self) -> bool:
        return self._step == len(self._PATTERN)

    def write(self, payload: bytes = b"") -> bytes:
        """Returns the next message, with a payload."""
        message = b""
        for step in self._PATTERN[self._step]:
            if step == "e":
                key = self._ephemeral.public_key().public_bytes_raw()
                self._mix_hash(key)
                message += key
            elif step == "s":
                message += self._encrypt(self.static_key)
            else:
                self._mix_exchange(step)
        self._step += 1
        return message + self._encrypt(payload)

    def read(self, message: bytes) -> bytes:
        """Returns the payload of the next message of the other side.

        Raises:
            FormatError: It is too short.
            VerificationError: It does not decrypt: it belongs to another handshake, or was changed.
        """
        view, position = memoryview(message), 0
        for step in self._PATTERN[self._step]:
            if step in ("e", "s"):
                size = _KEY + (TAG if step == "s" else 0)
                part = bytes(view[position : position + size])
                if len(part) != size:
                    raise FormatError("a message of the Noise handshake is cut off")
                position += size
                if step == "e":
                    self._remote_ephemeral = part
                    self._mix_hash(part)
                else:
                    self.remote_static = self._decrypt(part)
            else:
                self._mix_exchange(step)
        self._step += 1
        return self._decrypt(bytes(view[position:]))

    def split(self) -> tuple[Cipher, Cipher]:
        """Returns the cipher to send with, and the one to receive with."""
        first, second = map(Cipher, _hkdf(self._chaining, b""))
        return (first, second) if self._initiator else (second, first)

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_exchange(self, step: str) -> None:
        """Mixes a Diffie-Hellman exchange in: of the initiator's key, then the responder's, as in ``es``."""
        own = step[0 if self._initiator else 1]
        other = step[1 if self._initiator else 0]
        private = self._ephemeral if own == "e" else self._static
        public = self._remote_ephemeral if other == "e" else self.remote_static
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # a point of low order: the result would be the same for every key
            raise VerificationError("its key in the Noise handshake is invalid") from None
        self._chaining, key = _hkdf(self._chaining, shared)
        self._cipher = Cipher(key)

    def _encrypt(self, plain: bytes) -> bytes:
        text = plain if self._cipher is None else self._cipher.encrypt(plain, self._hash)
        self._mix_hash(text)
        return text

    def _decrypt(self, text: bytes) -> bytes:
        plain = text if self._cipher is None else self._cipher.decrypt(text, self._hash)
        self._mix_hash(text)
        return plain


@attrs.frozen
class Payload:
    """What each side proves in the handshake.

    Attributes:
        key: The key that the peer id is made of.
        signature: That key's signature of the static key of the handshake.
        muxers: The stream multiplexers that the side has, the preferred one first.
    """

    key: PublicKey
    signature: bytes
    muxers: tuple[str, ...] = ()

    @classmethod
    def sign(cls, identity: Identity, static_key: bytes, muxers: tuple[str, ...]) -> Payload:
        """Returns the payload of this side."""
        signature = identity.sign(_SIGNED_PREFIX + static_key)
        return cls(identity.public_key, signature, muxers)

    def to_bytes(self) -> bytes:
        extensions = b"".join(protobuf_bytes(2, muxer.encode()) for muxer in self.muxers)
        return (
            protobuf_bytes(1, self.key.to_bytes())
            + protobuf_bytes(2, self.signature)
            + (protobuf_bytes(4, extensions) if extensions else b"")
        )

    @classmethod
    def from_bytes(cls, message: bytes) -> Payload:
        """Returns a payload as the other side wrote it; `verify` has to be called.

        Raises:
            FormatError: It is malformed or too long.
        """
        if len(message) > MAX_PAYLOAD:
            raise FormatError(f"the payload of its handshake has more than {MAX_PAYLOAD} bytes")
        found: dict[int, bytes] = {}
        for number, wire, value in protobuf_fields(memoryview(message)):
            if number in (1, 2, 4):
                if wire != _BYTES or isinstance(value, int) or number in found:
                    raise FormatError("the payload of its handshake is malformed")
                found[number] = bytes(value)
        if 1 not in found or 2 not in found:  # noqa: PLR2004 - the number of a field
            raise FormatError("the payload of its handshake lacks the key or the signature")
        return cls(PublicKey.from_bytes(found[1]), found[2], _muxers(found.get(4, b"")))

    def verify(self, static_key: bytes) -> None:
        """Checks that the key has signed the static key that the other side uses.

        Raises:
            VerificationError: It has not.
        """
        with before_forks("the check of a signature"):  # of a key of any kind
            self.key.verify(_SIGNED_PREFIX + static_key, self.signature)


def _muxers(extensions: bytes) -> tuple[str, ...]:
    found = []
    for number, wire, value in protobuf_fields(memoryview(extensions)):
        if number == 2 and wire == _BYTES and not isinstance(value, int):  # noqa: PLR2004
            found.append(bytes(value).decode("utf-8", "replace"))
    if len(found) > MAX_MUXERS:
        raise FormatError(f"its handshake lists more than {MAX_MUXERS} multiplexers")
    return tuple(found)


def _initialise_cryptography() -> None:
    """Uses each algorithm of a handshake once.

    OpenSSL sets up an algorithm on its first use, under locks that a process forked meanwhile would wait for
    forever. While this module is imported, `ipfs_dataset_core` lets forks wait; connections begin in threads.
    """
    signing, agreeing = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    signing.public_key().verify(signing.sign(b""), b"")
    _hkdf(agreeing.exchange(X25519PrivateKey.generate().public_key()), b"")
    key = bytes(_KEY)
    Cipher(key).decrypt(Cipher(key).encrypt(b""))


_initialise_cryptography()
