"""Addresses of peers that can be dialled: TCP, with the peer ID."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_bitswap.libp2p.dns_text import text_records
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId
from ipfs_dataset_core import AddressError, TransportError

if TYPE_CHECKING:
    from collections.abc import Callable

_IP = {"ip4": 4, "ip6": 6}
_NAMES = {"dns", "dns4", "dns6"}
_MAX_PORT = 65535
_FORM = "/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT/p2p/PEER_ID or /dnsaddr/NAME/p2p/PEER_ID"
# Reasons why an address with one of these parts is not dialled.
_UNSUPPORTED = {
    "p2p-circuit": "it leads through a relay, but relays are not supported",
    "webrtc": "it uses WebRTC, but only TCP is supported",
    "webrtc-direct": "it uses WebRTC, but only TCP is supported",
    "webtransport": "it uses WebTransport, but only TCP is supported",
    "quic": "it uses QUIC, but only TCP is supported",
    "quic-v1": "it uses QUIC, but only TCP is supported",
    "udp": "it uses UDP, but only TCP is supported",
    "ws": "it uses WebSockets, but only TCP is supported",
    "wss": "it uses WebSockets, but only TCP is supported",
    "http": "it uses HTTP, but only libp2p over TCP is supported",
    "https": "it uses HTTP, but only libp2p over TCP is supported",
    "onion": "it uses Tor, but only TCP is supported",
    "onion3": "it uses Tor, but only TCP is supported",
    "unix": "it is a Unix socket, but only TCP is supported",
}
# Maximum number of names that are looked up for one address.
MAX_NAMES = 8


@attrs.frozen
class PeerAddress:
    """The address of a peer, with the identity that it must prove.

    Attributes:
        host: An IP address or a host name.
        port: The TCP port; 0 with ``dnsaddr``.
        peer_id: The peer.
        protocol: The kind of host: ``ip4``, ``ip6``, ``dns``, ``dns4``, ``dns6``, or ``dnsaddr`` for a name
            whose addresses are in the DNS; see `resolve`.
    """

    host: str
    port: int
    peer_id: PeerId
    protocol: str = "ip4"

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """Parses a multiaddr.

        Raises:
            AddressError: It is malformed, or not a plain TCP address of a peer; the message contains the
                reason.
        """
        try:
            return cls._parse(text)
        except AddressError as error:
            raise AddressError(f"{text[:200]!r} cannot be dialled: {error}") from None

    @classmethod
    def _parse(cls, text: str) -> PeerAddress:
        parts = text.rstrip("/").split("/")[1:]
        for part in parts:
            if part in _UNSUPPORTED:
                raise AddressError(_UNSUPPORTED[part])
        if parts[:1] == ["dnsaddr"]:
            if len(parts) != 4 or not parts[1] or parts[2] not in ("p2p", "ipfs"):  # noqa: PLR2004
                raise AddressError(f"it is not of the form {_FORM}")
            return cls(parts[1], 0, PeerId.parse(parts[3]), "dnsaddr")
        zone = ""
        if parts[:1] == ["ip6zone"] and len(parts) > 2:  # noqa: PLR2004
            zone, parts = f"%{parts[1]}", parts[2:]
        if not text.startswith("/") or len(parts) < 4 or parts[2] != "tcp":  # noqa: PLR2004
            raise AddressError(f"it is not of the form {_FORM}")
        if len(parts) != 6 or parts[4] not in ("p2p", "ipfs"):  # noqa: PLR2004
            raise AddressError(
                f"it has no peer ID, which the peer has to prove: it is not of the form {_FORM}"
            )
        protocol, host, _, port, _, peer = parts
        if protocol in _IP:
            host = _ip(host, _IP[protocol]) + (zone if protocol == "ip6" else "")
        elif protocol not in _NAMES or not host or zone:
            raise AddressError(f"it is not of the form {_FORM}")
        if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) <= _MAX_PORT):
            raise AddressError(f"its port {port[:20]!r} is not a port")
        return cls(host, int(port), PeerId.parse(peer), protocol)

    def __str__(self) -> str:
        if self.protocol == "dnsaddr":
            return f"/dnsaddr/{self.host}/p2p/{self.peer_id}"
        host, _, zone = self.host.partition("%")
        start = f"/ip6zone/{zone}" if zone else ""
        return f"{start}/{self.protocol}/{host}/tcp/{self.port}/p2p/{self.peer_id}"


def _ip(host: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise AddressError(f"it has no IP address ({error})") from None
    if address.version != version:
        raise AddressError(f"its IP address is of version {address.version}")
    return str(address)


def resolve(
    address: PeerAddress,
    *,
    timeout: float,
    lookup: Callable[[str, float], list[str]] = text_records,
) -> list[PeerAddress]:
    """Resolves an address: ``/dnsaddr/NAME/p2p/ID`` to the addresses in the DNS, others to themselves.

    The operating system has no call for TXT records, so they are requested from the name servers in
    ``/etc/resolv.conf``; without that file, as on Windows, such addresses cannot be used. A malicious name
    server can only waste time, because the peer ID is verified.

    Args:
        address: The address.
        timeout: Seconds for all requests.
        lookup: Returns the TXT records of a name within a number of seconds.

    Raises:
        TransportError: The name cannot be resolved, or to no address that can be dialled.
    """
    if address.protocol != "dnsaddr":
        return [address]
    search = _Search(address.peer_id, time.monotonic() + timeout, lookup)
    search.visit(address.host)
    if not search.found:
        shown = f": {'; '.join(search.reasons[:3])}" if search.reasons else ""
        raise TransportError(f"peer {address} resolves to no address that can be dialled{shown}")
    return [*search.found]


class _Search:
    """Searches the DNS for the addresses of one peer, following names that lead to other names.

    Args:
        peer_id: The peer.
        end: The time at which the search ends, on the monotonic clock.
        lookup: Returns the TXT records of a name.

    Attributes:
        found: The addresses, in order, without duplicates.
        reasons: Reasons why other addresses cannot be used.
    """

    def __init__(
        self, peer_id: PeerId, end: float, lookup: Callable[[str, float], list[str]]
    ) -> None:
        self._peer_id = peer_id
        self._end = end
        self._lookup = lookup
        self._visited: set[str] = set()
        self.found: dict[PeerAddress, None] = {}
        self.reasons: list[str] = []

    def visit(self, name: str) -> None:
        """Adds the addresses of the peer in the records of a name, and in those to which they lead."""
        if name in self._visited or len(self._visited) == MAX_NAMES:
            return
        self._visited.add(name)
        for record in self._lookup(f"_dnsaddr.{name}", self._end - time.monotonic()):
            key, _, address = record.partition("=")
            start, _, peer = address.rpartition("/")
            if key != "dnsaddr" or not start.endswith(("/p2p", "/ipfs")):
                continue
            try:
                if PeerId.parse(peer) != self._peer_id:
                    continue
                if address.startswith("/dnsaddr/"):
                    self.visit(address.split("/")[2])
                else:
                    self.found[PeerAddress.parse(address)] = None
            except AddressError as error:
                self.reasons.append(str(error))
