"""The check that a block is the one its CID names.

SHA-1 and MD5 are refused although `hashlib` has them: two blocks can be made to share one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import VerificationError
from ipfs_dataset_core.ipld.multiformats import (
    BROKEN,
    HASHES,
    IDENTITY,
    MIN_DIGEST,
    SHA2_256,
    UNSUPPORTED,
    IdentityHash,
)

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld.cid import CID
    from ipfs_dataset_core.ipld.multiformats import (
        Hasher,
    )


def hasher(cid: CID) -> Hasher:
    """Returns a fresh hash object whose final `digest()` equals ``cid.digest`` for the right block.

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
    """Checks that `block` is the one that `cid` names.

    Raises:
        VerificationError: It is another block, or the hash of `cid` proves nothing.
    """
    state = hasher(cid)
    state.update(block)
    if state.digest() != cid.digest:
        raise VerificationError(f"{len(block)} bytes received for {cid} are not that block.")
