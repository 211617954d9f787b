"""Peer ids: the multihash of a public key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import AddressError, FormatError, VerificationError
from ipfs_dataset_core.ipld import CID, LIBP2P_KEY, base58_encode, parse_name

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import PublicKey

_NAMES_A_KEY = (0x00, 0x12)


@attrs.frozen
class PeerId:
    """What a peer is called: the hash of its public key, or the key itself where it is short.

    Attributes:
        multihash: Its bytes.
    """

    multihash: bytes

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Returns the peer id written as base58 (``Qm…``, ``12D3KooW…``) or as a CID of version 1.

        Raises:
            AddressError: The text is no peer id.
        """
        cid = parse_name(text)
        if cid is None or cid.hash_code not in _NAMES_A_KEY:
            raise AddressError(
                f"{text[:100]!r} is not a peer id: 12D3KooW…, Qm…, or a CID with the codec libp2p-key"
            )
        return cls(cid.multihash)

    @classmethod
    def from_bytes(cls, data: bytes) -> PeerId:
        """Returns the peer id with these bytes.

        Raises:
            FormatError: They are no multihash of a public key.
        """
        try:
            cid = CID.from_bytes(bytes((1, LIBP2P_KEY)) + data)
        except VerificationError as error:
            raise FormatError(f"a peer id is malformed: {error}") from None
        if cid.hash_code not in _NAMES_A_KEY:
            raise FormatError(f"a peer id has the hash {cid.hash_code:#x}")
        return cls(cid.multihash)

    @classmethod
    def from_public_key(cls, key: PublicKey) -> PeerId:
        return cls(key.multihash)

    def to_cid(self) -> CID:
        """Returns the CID with the codec libp2p-key, the newer form."""
        return CID(1, LIBP2P_KEY, self.multihash)

    def __str__(self) -> str:
        return base58_encode(self.multihash)
