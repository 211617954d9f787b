"""The key pair that identifies this process to peers."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ipfs_dataset_bitswap.libp2p.peer_id import PeerId
from ipfs_dataset_core.ipld import PublicKey

_ED25519 = 1


class Identity:
    """An Ed25519 key pair, which is never written anywhere. Thread-safe.

    Args:
        private: The private key.

    Attributes:
        public_key: The public key sent to peers.
        peer_id: The peer ID of this process.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = PublicKey(_ED25519, private.public_key().public_bytes_raw())
        self.peer_id = PeerId.from_public_key(self.public_key)

    @classmethod
    def generate(cls) -> Identity:
        """Returns a new identity."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"
