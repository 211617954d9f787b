"""Text forms of binary identifiers: the bases of multibase that occur in IPFS addresses.

Letters of base16, base32 and base36 are read in either case, as nodes and gateways do.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Callable

# Identifiers are short, and positional bases cost quadratic time.
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
    return int(text.encode("ascii").translate(_DIGITS[base]), base) if text else 0


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


def decode(text: str) -> bytes:
    """Returns the bytes that multibase text stands for.

    Raises:
        AddressError: The prefix names no base that is read here, or the rest does not decode.
    """
    decoder = _DECODERS.get(text[:1])
    if decoder is None:
        raise AddressError(f"{text[:64]!r} does not start with a base prefix, one of bBkKzfFu.")
    return _decode(text, text[1:], decoder)


def base58_decode(text: str) -> bytes:
    """Returns the bytes of base58btc text without a multibase prefix, the form of version 0 CIDs.

    Raises:
        AddressError: A letter is not of the alphabet, or the text is too long.
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
        raise AddressError(f"{text!r} has {error.args[0]!r}, no letter of its base.") from None
    except ValueError as error:
        reason = error.args[0] if "encoder" in str(error) else "a letter is not of its base"
        raise AddressError(f"{text!r} cannot be decoded: {reason}.") from None


def encode(raw: bytes, base: str = "base32") -> str:
    """Returns multibase text of `raw`, the prefix included.

    Raises:
        AddressError: `base` is not one of the bases written here.
    """
    try:
        prefix, encoder = _ENCODERS[base]
    except KeyError:
        known = ", ".join(_ENCODERS)
        raise AddressError(f"Unknown base {base!r}; known are {known}.") from None
    return prefix + encoder(raw)
