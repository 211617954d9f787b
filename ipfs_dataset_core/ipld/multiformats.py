"""The self-describing encodings that CIDs are made of: varints, multibase texts and multihashes.

Varints have at most 9 bytes, and only the shortest form is valid. Letters of base16, base32 and base36 may
have either case, as in nodes and gateways. A digest must have the full length of its hash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs

from ipfs_dataset_core.errors import AddressError, FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_VARINT_BYTES = 9


def encode_varint(value: int) -> bytes:
    """Returns the varint of a number from 0 to 2**63 - 1, for protobuf to 2**64 - 1."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(buffer: bytes | memoryview, position: int = 0) -> tuple[int, int]:
    """Returns the number at `position` and the position after it.

    Raises:
        FormatError: The varint is cut, longer than 9 bytes or not in its shortest form.
    """
    value = 0
    for count in range(MAX_VARINT_BYTES):
        if position + count >= len(buffer):
            raise FormatError(f"Varint at offset {position} is cut off.")
        byte = buffer[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            if byte == 0 and count:
                raise FormatError(f"Varint at offset {position} is not in its shortest form.")
            return value, position + count + 1
    raise FormatError(f"Varint at offset {position} is longer than {MAX_VARINT_BYTES} bytes.")


# Maximum number of letters: identifiers are short, and decoding base36 and base58 takes quadratic time.
MAX_TEXT = 512

_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567"
_BASE36 = b"0123456789abcdefghijklmnopqrstuvwxyz"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUES = {letter: value for value, letter in enumerate(_BASE58)}


def _digits(alphabet: bytes) -> bytes:
    """Returns a table from the letters of `alphabet` to the digits of `int`, all else to "!"."""
    table = bytearray(b"!" * 256)
    for value, letter in enumerate(alphabet):
        table[letter] = table[bytes((letter,)).upper()[0]] = _BASE36[value]
    return bytes(table)


_DIGITS = {16: _digits(_BASE36[:16]), 32: _digits(_BASE32), 36: _digits(_BASE36)}


def _number(text: str, base: int) -> int:
    digits = text.encode("ascii").translate(_DIGITS[base])
    strange = digits.find(b"!")
    if strange >= 0:
        raise KeyError(text[strange])
    return int(digits, base) if digits else 0


def _decode_bits(text: str, base: int, bits: int) -> bytes:
    size, excess = divmod(len(text) * bits, 8)
    number = _number(text, base)
    if excess >= bits or number & ((1 << excess) - 1):
        raise ValueError("its last letter is not one that an encoder writes")
    return (number >> excess).to_bytes(size, "big")


def _decode_positional(number: int, zeros: int) -> bytes:
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _leading(text: str, zero: str) -> int:
    return len(text) - len(text.lstrip(zero))


def _decode36(text: str) -> bytes:
    return _decode_positional(_number(text, 36), _leading(text, "0"))


def _decode58(text: str) -> bytes:
    number = 0
    for letter in text:
        number = number * 58 + _BASE58_VALUES[letter]
    return _decode_positional(number, _leading(text, "1"))


def _decode64url(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode64url(raw) != text:
        raise ValueError("it is not what an encoder writes")
    return raw


def _encode32(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()


def _encode_positional(raw: bytes, alphabet: str) -> str:
    number, letters = int.from_bytes(raw, "big"), []
    while number:
        number, value = divmod(number, len(alphabet))
        letters.append(alphabet[value])
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return alphabet[0] * zeros + "".join(reversed(letters))


def _encode36(raw: bytes) -> str:
    return _encode_positional(raw, _BASE36.decode("ascii"))


def base58_encode(raw: bytes) -> str:
    """Returns base58btc text without a multibase prefix, the form of version 0 CIDs."""
    return _encode_positional(raw, _BASE58)


def _encode64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


_DECODERS: dict[str, Callable[[str], bytes]] = {
    "f": lambda text: _decode_bits(text, 16, 4),
    "F": lambda text: _decode_bits(text, 16, 4),
    "b": lambda text: _decode_bits(text, 32, 5),
    "B": lambda text: _decode_bits(text, 32, 5),
    "k": _decode36,
    "K": _decode36,
    "z": _decode58,
    "u": _decode64url,
}
_ENCODERS: dict[str, tuple[str, Callable[[bytes], str]]] = {
    "base16": ("f", bytes.hex),
    "base16upper": ("F", lambda raw: raw.hex().upper()),
    "base32": ("b", _encode32),
    "base32upper": ("B", lambda raw: _encode32(raw).upper()),
    "base36": ("k", _encode36),
    "base36upper": ("K", lambda raw: _encode36(raw).upper()),
    "base58btc": ("z", base58_encode),
    "base64url": ("u", _encode64url),
}


def decode_multibase(text: str) -> bytes:
    """Decodes multibase text.

    Raises:
        AddressError: The prefix is not that of a supported base, or the rest cannot be decoded.
    """
    decoder = _DECODERS.get(text[:1])
    if decoder is None:
        raise AddressError(
            f"{text[:64]!r} does not start with a base prefix, one of bBkKzfFu, as in bafy… and k51…, nor "
            "with Qm."
        )
    return _decode(text, text[1:], decoder)


def base58_decode(text: str) -> bytes:
    """Decodes base58btc text without a multibase prefix, the form of version 0 CIDs.

    Raises:
        AddressError: A letter is not in the alphabet, or the text is too long.
    """
    return _decode(text, text, _decode58)


def _decode(text: str, digits: str, decoder: Callable[[str], bytes]) -> bytes:
    if len(text) > MAX_TEXT:
        raise AddressError(f"{text[:64]!r}… is longer than any identifier: {len(text)} letters.")
    if not text.isascii():
        raise AddressError(f"{text!r} has letters outside ASCII.")
    try:
        return decoder(digits)
    except KeyError as error:
        raise AddressError(
            f"{text!r} has {error.args[0]!r}, which is not a letter of its base."
        ) from None
    except ValueError as error:
        reason = error.args[0] if "encoder" in str(error) else "a letter is not in its base"
        raise AddressError(f"{text!r} cannot be decoded: {reason}.") from None


def encode_multibase(raw: bytes, base: str = "base32") -> str:
    """Encodes bytes as multibase text, including the prefix.

    Raises:
        AddressError: `base` is not a supported base.
    """
    try:
        prefix, encoder = _ENCODERS[base]
    except KeyError:
        known = ", ".join(_ENCODERS)
        raise AddressError(f"Unknown base {base!r}; known are {known}.") from None
    return prefix + encoder(raw)


IDENTITY = 0x00
SHA2_256 = 0x12
# Bytes.
MAX_IDENTITY_DIGEST = 128
MIN_DIGEST = 20
MAX_DIGEST = 128


class Hasher(Protocol):
    """The part of the interface of `hashlib` objects that is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class IdentityHash:
    """The identity hash, whose digest is the data; only part of data that is too long is kept."""

    def __init__(self) -> None:
        self._data = bytearray()

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        # One byte more than fits proves the mismatch, so the rest need not be kept.
        self._data += data[: MAX_IDENTITY_DIGEST + 1 - len(self._data)]

    def digest(self) -> bytes:
        return bytes(self._data)


class _DoubleSha256:
    def __init__(self) -> None:
        self._inner = hashlib.sha256()

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        self._inner.update(data)

    def digest(self) -> bytes:
        return hashlib.sha256(self._inner.digest()).digest()


@attrs.frozen
class _Hash:
    name: str
    size: int
    make: Callable[[], Hasher]


def _known() -> dict[int, _Hash]:
    """Returns all supported hash functions by their multicodec codes."""
    known = {
        SHA2_256: _Hash("sha2-256", 32, hashlib.sha256),
        0x13: _Hash("sha2-512", 64, hashlib.sha512),
        0x14: _Hash("sha3-512", 64, hashlib.sha3_512),
        0x15: _Hash("sha3-384", 48, hashlib.sha3_384),
        0x16: _Hash("sha3-256", 32, hashlib.sha3_256),
        0x17: _Hash("sha3-224", 28, hashlib.sha3_224),
        0x20: _Hash("sha2-384", 48, hashlib.sha384),
        0x56: _Hash("dbl-sha2-256", 32, _DoubleSha256),
    }
    for size in range(1, 65):
        make = partial(hashlib.blake2b, digest_size=size)
        known[0xB200 + size] = _Hash(f"blake2b-{8 * size}", size, make)
    for size in range(1, 33):
        make_small = partial(hashlib.blake2s, digest_size=size)
        known[0xB240 + size] = _Hash(f"blake2s-{8 * size}", size, make_small)
    return known


HASHES = _known()
BROKEN = {0x11: "sha1", 0xD4: "md4", 0xD5: "md5", 0x22: "murmur3-x64-64", 0x1023: "crc32"}
UNSUPPORTED = {
    0x18: "shake-128",
    0x19: "shake-256",
    0x1A: "keccak-224",
    0x1B: "keccak-256",
    0x1C: "keccak-384",
    0x1D: "keccak-512",
    0x1E: "blake3",
    0xB401: "poseidon-bls12_381-a2-fc1",
    0x1012: "sha2-256-trunc254-padded",
}


def split_multihash(multihash: bytes) -> tuple[int, bytes]:
    """Splits a complete multihash into hash code and digest.

    Raises:
        FormatError: The multihash is cut off, has trailing bytes, or its digest has a length that its hash
            function does not have.
    """
    code, position = decode_varint(multihash)
    size, position = decode_varint(multihash, position)
    if size != len(multihash) - position:
        found = len(multihash) - position
        raise FormatError(f"Multihash states a digest of {size} bytes but contains {found}.")
    known = HASHES.get(code)
    if known is not None and size != known.size:
        raise FormatError(f"A {known.name} digest has {known.size} bytes, not {size}.")
    if size > MAX_DIGEST:
        raise FormatError(f"A digest of {size} bytes is longer than {MAX_DIGEST}.")
    return code, multihash[position:]
