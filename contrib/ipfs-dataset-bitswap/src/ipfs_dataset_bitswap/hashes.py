"""Multihashes of received blocks, and of the CIDs in messages; those of unusable CIDs are empty."""

from __future__ import annotations

import hashlib

from ipfs_dataset_core import CID, FormatError, VerificationError
from ipfs_dataset_core.ipld import RAW, SHA2_256_PREFIX, decode_varint, hasher

# Version 1, with a codec of one byte and sha2-256.
_USUAL_CID_BYTES = 36


def multihash_of_block(prefix: bytes, data: memoryview) -> bytes:
    """Hashes a block.

    Args:
        prefix: The binary CID of the block up to its digest, as the peer sent it.
        data: The block.
    """
    try:
        _, position = decode_varint(prefix)
        _, position = decode_varint(prefix, position)
        kind = prefix[position:]
        if kind == SHA2_256_PREFIX:
            return kind + hashlib.sha256(data).digest()
        _, position = decode_varint(kind)
        size, _ = decode_varint(kind, position)
        state = hasher(CID(1, RAW, kind))
    except (FormatError, VerificationError):
        return b""
    state.update(data)
    digest = state.digest()
    # A digest of another length cannot belong to a requested block.
    return kind + digest if len(digest) == size else b""


def multihash_in(cid: bytes) -> bytes:
    """Returns the multihash in a binary CID."""
    if cid[:2] == SHA2_256_PREFIX:
        return cid
    # Most CIDs have this form, and parsing them would take longer.
    if len(cid) == _USUAL_CID_BYTES and cid[2:4] == SHA2_256_PREFIX and cid[0] == 1:
        return cid[2:]
    try:
        return CID.from_bytes(cid).multihash
    except VerificationError:
        return b""
