"""Multiaddrs in their binary form, as peers send them: which of them lead to a peer over TCP.

See https://github.com/multiformats/multiaddr. An address is a sequence of protocols, each a varint and a
value whose length the protocol fixes; where one is unknown, the rest cannot be read.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_core import FormatError
from ipfs_dataset_core.ipld import decode_varint

if TYPE_CHECKING:
    from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

MAX_BYTES = 1024
_MAX_PROTOCOLS = 16

IP4, TCP, IP6, DNS, DNS4, DNS6, DNSADDR, P2P = 4, 6, 41, 53, 54, 55, 56, 421
RELAY = 290
WEBSOCKETS = (477, 478)
# QUIC, WebTransport and WebRTC.
UDP_ONLY = (273, 460, 461, 465, 280, 281)
_NAMES = {IP4: "ip4", IP6: "ip6", DNS: "dns", DNS4: "dns4", DNS6: "dns6"}
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_VARIABLE = -1
# Bytes of the value of each protocol.
_SIZES = {
    IP4: 4,
    IP6: 16,
    **dict.fromkeys((TCP, 273, 33, 132), 2),  # udp, dccp, sctp
    **dict.fromkeys((DNS, DNS4, DNS6, DNSADDR, P2P), _VARIABLE),
    **dict.fromkeys((42, 400, 446, 447, 449, 466, 481), _VARIABLE),  # ip6zone, unix, garlic, sni, certhash, …
    43: 1,  # ipcidr
    **dict.fromkeys((RELAY, *WEBSOCKETS, 460, 461, 465, 280, 281, 301, 302, 443, 448, 454, 480), 0),
    **dict.fromkeys((275, 276, 277, 479), 0),
    444: 12,  # onion
    445: 37,  # onion3
    777: 8,  # memory
}  # fmt: skip


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Returns the protocols of a binary multiaddr, each with its value.

    Raises:
        FormatError: It is malformed, too long, or has a protocol that is not known.
    """
    if len(data) > MAX_BYTES:
        raise FormatError(f"an address of {len(data)} bytes is too long")
    parts: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        if len(parts) == _MAX_PROTOCOLS:
            raise FormatError(f"an address has more than {_MAX_PROTOCOLS} protocols")
        code, position = decode_varint(data, position)
        size = _SIZES.get(code)
        if size is None:
            raise FormatError(f"an address has the unknown protocol {code}")
        if size == _VARIABLE:
            size, position = decode_varint(data, position)
        if position + size > len(data):
            raise FormatError("an address is cut off")
        parts.append((code, data[position : position + size]))
        position += size
    return parts


def tcp_address(parts: list[tuple[int, bytes]], peer_id: PeerId) -> PeerAddress | None:
    """Returns the address of a peer over plain TCP, or one that DNS knows such of.

    None where it is another one, or names another peer.

    Args:
        parts: As `split` returns them.
        peer_id: The peer whose address it is.
    """
    if parts[1:] and parts[-1] == (P2P, peer_id.multihash):
        parts = parts[:-1]
    if [code for code, _ in parts] == [DNSADDR]:
        name = parts[0][1].decode("ascii", "replace")
        return PeerAddress(name, 0, peer_id, "dnsaddr") if _HOST.fullmatch(name) else None
    if len(parts) != 2 or parts[1][0] != TCP or parts[0][0] not in _NAMES:  # noqa: PLR2004 - host, port
        return None
    (code, value), (_, port) = parts
    if code in (IP4, IP6):
        host = str(ipaddress.ip_address(value))
    else:
        host = value.decode("ascii", "replace")
        if not _HOST.fullmatch(host):
            return None
    number = int.from_bytes(port, "big")
    return PeerAddress(host, number, peer_id, _NAMES[code]) if number else None
