"""Hash functions by their multihash code, and the parsing of multihashes.

A digest is only accepted at the full length of its hash.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Protocol

import attrs

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import varint

if TYPE_CHECKING:
    from collections.abc import Callable


IDENTITY = 0x00
SHA2_256 = 0x12
MAX_IDENTITY_DIGEST = 128
MIN_DIGEST = 20
MAX_DIGEST = 128


class Hasher(Protocol):
    """What `hashlib` objects can do, as far as it is needed here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class IdentityHash:
    """The bytes themselves."""

    def __init__(self) -> None:
        self._data = bytearray()

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        # One byte more than fits proves the mismatch; the rest need not be held.
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
    """Returns every supported hash by its code, from the multicodec table."""
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


def split(multihash: bytes) -> tuple[int, bytes]:
    """Returns the hash code and the digest of a whole multihash.

    Raises:
        FormatError: The multihash is cut, has trailing bytes, or a digest of a length that its hash
            does not have.
    """
    code, position = varint.decode(multihash)
    size, position = varint.decode(multihash, position)
    if size != len(multihash) - position:
        found = len(multihash) - position
        raise FormatError(f"Multihash promises a digest of {size} bytes and holds {found}.")
    known = HASHES.get(code)
    if known is not None and size != known.size:
        raise FormatError(f"A {known.name} digest has {known.size} bytes, not {size}.")
    if size > MAX_DIGEST:
        raise FormatError(f"A digest of {size} bytes is longer than {MAX_DIGEST}.")
    return code, multihash[position:]
