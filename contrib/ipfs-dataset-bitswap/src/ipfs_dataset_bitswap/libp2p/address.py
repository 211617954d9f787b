"""Addresses of peers that can be dialled here: TCP, with the peer id."""

from __future__ import annotations

import ipaddress

import attrs

from ipfs_dataset_bitswap.libp2p.peer_id import PeerId
from ipfs_dataset_core import AddressError

_IP = {"ip4": 4, "ip6": 6}
_NAMES = {"dns", "dns4", "dns6"}
_MAX_PORT = 65535
_FORM = "/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT/p2p/PEER_ID"


@attrs.frozen
class PeerAddress:
    """Where a peer is reached, and who it has to prove to be.

    Attributes:
        host: An IP address or a host name.
        port: The TCP port.
        peer_id: The peer.
        protocol: What the host is: ``ip4``, ``ip6``, ``dns``, ``dns4`` or ``dns6``.
    """

    host: str
    port: int
    peer_id: PeerId
    protocol: str = "ip4"

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """Returns the address that a multiaddr stands for.

        Raises:
            AddressError: It is malformed, or no plain TCP address of a peer.
        """
        parts = text.rstrip("/").split("/")
        if len(parts) != 7 or parts[0] or parts[3] != "tcp" or parts[5] not in ("p2p", "ipfs"):  # noqa: PLR2004
            raise AddressError(f"{text[:200]!r} is not the address of a peer over TCP: {_FORM}")
        _, protocol, host, _, port, _, peer = parts
        if protocol in _IP:
            host = _ip(text, host, _IP[protocol])
        elif protocol not in _NAMES or not host:
            raise AddressError(f"{text[:200]!r} is not the address of a peer over TCP: {_FORM}")
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
            raise AddressError(f"{text[:200]!r} has no usable port: {port[:20]!r}")
        return cls(host, int(port), PeerId.parse(peer), protocol)

    def __str__(self) -> str:
        return f"/{self.protocol}/{self.host}/tcp/{self.port}/p2p/{self.peer_id}"


def _ip(text: str, host: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise AddressError(f"{text[:200]!r} has no IP address: {error}") from None
    if address.version != version:
        raise AddressError(f"{text[:200]!r} has an IP address of version {address.version}")
    return str(address)
