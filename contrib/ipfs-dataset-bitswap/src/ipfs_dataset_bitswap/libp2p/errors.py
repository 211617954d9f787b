"""Errors of peers. All of them concern a single source, so the next one is tried."""

from __future__ import annotations

from ipfs_dataset_core import TransportError


class PeerProtocolError(TransportError):
    """A peer violated a protocol or exceeded a limit; the connection is closed."""

    def __init__(self, message: str = "", *, retryable: bool = False, final: bool = True) -> None:
        super().__init__(message, retryable=retryable, final=final)


class PeerIdentityError(PeerProtocolError):
    """A peer did not prove that it has the key of the peer ID that was dialled."""


class PeerClosedError(TransportError):
    """A peer, or this side, has closed the connection or the stream; dialling again may help."""

    def __init__(self, message: str = "", *, retryable: bool = True, final: bool = False) -> None:
        super().__init__(message, retryable=retryable, final=final)


class ProtocolNotSupportedError(TransportError):
    """A peer supports none of the protocols for which a stream was opened."""
