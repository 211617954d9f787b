"""Content identifiers: parsing, encoding and computing them, and verifying blocks.

Versions 0 and 1 of one identifier are different values; the `multihash` identifies the block. SHA-1 and MD5
are rejected although `hashlib` has them, because two blocks can be made to share a hash.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import AddressError, FormatError, VerificationError
from ipfs_dataset_core.ipld.multiformats import (
    BROKEN,
    HASHES,
    IDENTITY,
    MIN_DIGEST,
    SHA2_256,
    UNSUPPORTED,
    IdentityHash,
    base58_decode,
    base58_encode,
    decode_multibase,
    decode_varint,
    encode_multibase,
    encode_varint,
    split_multihash,
)

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld.multiformats import Hasher

RAW = 0x55
DAG_PB = 0x70
DAG_CBOR = 0x71
LIBP2P_KEY = 0x72
DAG_JSON = 0x0129

# Names of codecs in the multicodec table; only blocks of the first five can be read here.
CODEC_NAMES = {
    RAW: "raw",
    DAG_PB: "dag-pb",
    DAG_CBOR: "dag-cbor",
    LIBP2P_KEY: "libp2p-key",
    DAG_JSON: "dag-json",
    0x51: "cbor",
    0x63: "bencode",
    0x78: "git-raw",
    0x7B: "torrent-info",
    0x7C: "torrent-file",
    0x80: "blake3-hashseq",
    0x85: "dag-jose",
    0x86: "dag-cose",
    0x90: "eth-block",
    0x91: "eth-block-list",
    0x92: "eth-tx-trie",
    0x93: "eth-tx",
    0x94: "eth-tx-receipt-trie",
    0x95: "eth-tx-receipt",
    0x96: "eth-state-trie",
    0x97: "eth-account-snapshot",
    0x98: "eth-storage-trie",
    0xB0: "bitcoin-block",
    0xB1: "bitcoin-tx",
    0xB2: "bitcoin-witness-commitment",
    0xC0: "zcash-block",
    0xC1: "zcash-tx",
    0xD0: "stellar-block",
    0xD1: "stellar-tx",
    0xE0: "decred-block",
    0xE1: "decred-tx",
    0xF0: "dash-block",
    0xF1: "dash-tx",
    0x0200: "json",
    0x0202: "car",
    0xF101: "fil-commitment-unsealed",
    0xF102: "fil-commitment-sealed",
}

# Start of sha2-256 multihashes: the code, and the length of the digest.
SHA2_256_PREFIX = b"\x12\x20"
_V0_TEXT = 46
_V0_BYTES = 34
# How nearly all text of version 1 starts: base32, one of two codecs, sha2-256; and its length.
_V1_SHA2_256 = ("bafkrei", "bafybei")
_V1_TEXT = 59
_V1_BYTES = 36
# Start of nearly every link: version 1, one of two codecs, sha2-256 of 32 bytes.
_PREFIXES = {RAW: b"\x01\x55", DAG_PB: b"\x01\x70"}
_COMMON = {prefix + SHA2_256_PREFIX: codec for codec, prefix in _PREFIXES.items()}


@attrs.frozen
class CID:
    """A content identifier.

    The constructor validates nothing; `parse` and `from_bytes` do.

    Attributes:
        version: 0 or 1.
        codec: The encoding of the block, as a multicodec number such as `RAW` or `DAG_PB`.
        multihash: Hash code, digest length and digest, which identify the bytes of the block.
    """

    version: int
    codec: int
    multihash: bytes

    @classmethod
    def parse(cls, text: str) -> CID:
        """Parses a CID in version 0 or any common base of version 1.

        Raises:
            AddressError: `text` is not a CID; the message contains the reason.
        """
        try:
            return cls._parse(text)
        except AddressError as error:
            raise AddressError(f"Not a CID: {error}") from None
        except FormatError as error:
            raise AddressError(f"{text!r:.100} is not a CID: {error}") from None

    @classmethod
    def _parse(cls, text: str) -> CID:
        if not text:
            raise FormatError("it is empty.")
        if len(text) == _V0_TEXT and text.startswith("Qm"):
            return _decode(base58_decode(text), versions=(0,))
        if text.startswith("Qm"):
            raise FormatError(
                f"version 0 has {_V0_TEXT} letters, not {len(text)}: was all of it copied?"
            )
        if text.startswith(_V1_SHA2_256) and len(text) != _V1_TEXT and text.isalnum():
            raise FormatError(
                f"a CID that starts with {text[:7]} has {_V1_TEXT} letters, not {len(text)}: "
                "was all of it copied?"
            )
        return _decode(decode_multibase(text), versions=(1,))

    @classmethod
    def from_bytes(cls, raw: bytes) -> CID:
        """Parses the binary form of a CID, as in links.

        Raises:
            VerificationError: `raw` is not exactly one CID.
        """
        codec = _COMMON.get(raw[:4])
        if codec is not None and len(raw) == _V1_BYTES:
            return cls(1, codec, raw[2:])
        try:
            return _decode(raw, versions=(0, 1))
        except FormatError as error:
            shown = raw[:40].hex()
            raise VerificationError(f"Bytes {shown} are not a CID: {error}") from None

    def to_bytes(self) -> bytes:
        """Returns the binary form, as in links."""
        if self.version == 0:
            return self.multihash
        prefix = _PREFIXES.get(self.codec)
        return (prefix or b"\x01" + encode_varint(self.codec)) + self.multihash

    def encode(self, base: str = "base32") -> str:
        """Returns the text in a multibase encoding; version 0 is converted to version 1.

        Args:
            base: The name of the base in multibase: base16, base32, base36 (each also with ``upper``),
                base58btc or base64url.

        Raises:
            AddressError: `base` is not one of them.
        """
        return encode_multibase(self.to_v1().to_bytes(), base)

    def to_v1(self) -> CID:
        """Returns the CID of version 1 for the same block."""
        return self if self.version else CID(1, self.codec, self.multihash)

    @property
    def hash_code(self) -> int:
        """The multicodec number of the hash function, such as 0x12 for sha2-256."""
        return decode_varint(self.multihash)[0]

    @property
    def digest(self) -> bytes:
        """The digest of the block, without hash code and length."""
        if self.multihash[:2] == SHA2_256_PREFIX:
            return self.multihash[2:]
        return split_multihash(self.multihash)[1]

    @property
    def is_identity(self) -> bool:
        """Whether the digest is the block itself, so that nothing has to be fetched."""
        return self.multihash[:1] == b"\0"

    @property
    def codec_name(self) -> str:
        """The name of the codec in the multicodec table, or its number if it is uncommon."""
        return CODEC_NAMES.get(self.codec, f"of the multicodec {self.codec:#x}")

    def __str__(self) -> str:
        return _text(self)


@lru_cache(64)  # requests and error messages use the same few
def _text(cid: CID) -> str:
    if cid.version == 0:
        return base58_encode(cid.multihash)
    return cid.encode()


def _decode(raw: bytes, *, versions: tuple[int, ...]) -> CID:
    if 0 in versions and raw[:2] == SHA2_256_PREFIX:
        if len(raw) != _V0_BYTES:
            raise FormatError(f"version 0 has {_V0_BYTES} bytes, not {len(raw)}.")
        return CID(0, DAG_PB, raw)
    version, position = decode_varint(raw)
    if version != 1 or 1 not in versions:
        raise FormatError(f"version {version} is unknown here.")
    codec, position = decode_varint(raw, position)
    split_multihash(raw[position:])
    return CID(1, codec, raw[position:])


def read_cid(buffer: bytes, position: int) -> tuple[CID, int]:
    """Returns the CID at a position of a buffer, and the position after it.

    Raises:
        FormatError: There is no complete CID.
    """
    if buffer[position : position + 4] in _COMMON:
        end = position + _V1_BYTES
    elif buffer[position : position + 2] == SHA2_256_PREFIX:
        end = position + _V0_BYTES
    else:
        end = position
        for _ in ("version", "codec", "hash code"):
            _, end = decode_varint(buffer, end)
        size, end = decode_varint(buffer, end)
        end += size
    try:
        return CID.from_bytes(buffer[position:end]), end
    except VerificationError as error:
        raise FormatError(str(error)) from None


def make_cid(block: bytes | memoryview, codec: int, version: int = 1) -> CID:
    """Returns the sha2-256 CID of a block.

    Args:
        block: The bytes of the block.
        codec: Its multicodec number, such as `RAW`.
        version: 0 or 1.

    Raises:
        AddressError: `version` is 0, which exists for `DAG_PB` only.
    """
    if version == 0 and codec != DAG_PB:
        named = CODEC_NAMES.get(codec, f"the multicodec {codec:#x}")
        raise AddressError(f"CID version 0 cannot name {named}; use version 1.")
    return CID(version, codec, SHA2_256_PREFIX + hashlib.sha256(block).digest())


def hasher(cid: CID) -> Hasher:
    """Returns a new hash object whose final `digest()` equals ``cid.digest`` for the right block.

    Raises:
        VerificationError: The hash is unknown, broken, or its digest too short to prove anything.
    """
    code = cid.hash_code
    if code == SHA2_256:
        return hashlib.sha256()
    if code == IDENTITY:
        return IdentityHash()
    known = HASHES.get(code)
    if known is None:
        raise VerificationError(_refusal(cid, code))
    if known.size < MIN_DIGEST:
        raise VerificationError(f"{cid} cannot be verified: {known.name} is too short a digest.")
    return known.make()


def _refusal(cid: CID, code: int) -> str:
    if code in BROKEN:
        reason = f"its hash {BROKEN[code]} is broken and proves nothing"
    else:
        reason = f"its hash {UNSUPPORTED.get(code, hex(code))} is not supported"
    return f"{cid} cannot be verified: {reason}. Publish the data again with sha2-256."


def verify(cid: CID, block: bytes | memoryview) -> None:
    """Checks that `block` is the block of a CID.

    Raises:
        VerificationError: It is a different block, or the hash of `cid` proves nothing.
    """
    state = hasher(cid)
    state.update(block)
    if state.digest() != cid.digest:
        raise VerificationError(f"{len(block)} bytes received for {cid} are not that block.")
