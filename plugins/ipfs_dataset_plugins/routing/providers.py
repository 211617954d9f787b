"""Responses of delegated routers: HTTP gateways and peers among the providers of a CID.

See https://specs.ipfs.tech/routing/http-routing-v1/ (IPIP-337, and IPIP-484 for filters); records of the
schema ``peer`` are used, and those of the older schema ``bitswap``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import AddressError, is_private_host
from ipfs_dataset_plugins.http.address_filter import is_private
from ipfs_dataset_plugins.http.endpoint import parse_multiaddr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GATEWAY_PROTOCOL = "transport-ipfs-gateway-http"
BITSWAP_PROTOCOL = "transport-bitswap"
# Requested protocols. Providers that a router found in the DHT often have no protocol in the response:
# "unknown".
FILTERS = f"filter-protocols=unknown,{BITSWAP_PROTOCOL},{GATEWAY_PROTOCOL}&filter-addrs=tcp,dnsaddr"
MAX_PROVIDERS = 100
MAX_ADDRESSES = 20
# Maximum number of peers that are used, and of addresses of each.
MAX_PEERS = 20
_MAX_PEER_ADDRESSES = 4

_PEER_ID = re.compile(r"[A-Za-z0-9]{40,128}")
_TCP = re.compile(
    r"(?P<base>/(?:ip4|ip6|dns|dns4|dns6)/[^/,?#\s]+/tcp/[0-9]{1,5}|/dnsaddr/[^/,?#\s]+)"
    r"(?:/(?:p2p|ipfs)/(?P<peer>[^/]+))?"
)
# Reasons why a provider cannot be used, by a part of its address; the reason of its best address is given.
_QUIC, _RELAY, _WEBSOCKET = "QUIC or WebRTC only", "behind a relay", "WebSocket only"
_PRIVATE, _NO_ADDRESS, _OTHER = "in a private network", "without an address", "of another protocol"
_REASONS = {
    "p2p-circuit": _RELAY,
    **dict.fromkeys(("ws", "wss"), _WEBSOCKET),
    **dict.fromkeys(("quic", "quic-v1", "webtransport", "webrtc", "webrtc-direct"), _QUIC),
}
_BEST_FIRST = (_PRIVATE, _WEBSOCKET, _QUIC, _RELAY, _OTHER)


@attrs.frozen
class Providers:
    """The providers in the response of a router, in its order.

    Attributes:
        urls: Distinct URLs of HTTP gateways.
        peers: Multiaddrs of each peer over TCP, by its ID.
        skipped: Number of providers that cannot be used, by reason.
    """

    urls: list[str] = attrs.field(factory=list)
    peers: dict[str, list[str]] = attrs.field(factory=dict)
    skipped: Counter[str] = attrs.field(factory=Counter)

    def describe_skipped(self) -> str:
        """Returns the number of skipped providers with the reasons; "" if there are none."""
        if not self.skipped:
            return ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
        return f"{self.skipped.total()} skipped ({reasons})"


def read_providers(answer: bytes, *, private: bool) -> Providers:
    """Parses the providers in the response of a router.

    Args:
        answer: The response: JSON, or one JSON record per line.
        private: Whether to accept addresses on this machine and in private networks, and HTTP without TLS.
            Only a router that is in such a network itself may name them.

    Raises:
        ValueError: It is not JSON.
    """
    found = Providers()
    urls: dict[str, None] = {}
    for number, record in enumerate(_records(answer)):
        if number >= MAX_PROVIDERS:
            break
        protocols = _protocols(record)
        gateways = list(_urls(record, private=private)) if GATEWAY_PROTOCOL in protocols else []
        urls.update(dict.fromkeys(gateways))
        reason = _NO_ADDRESS
        if not protocols or BITSWAP_PROTOCOL in protocols:
            peer, reason = _add_peer(record, found.peers, private=private)
            if peer:
                continue
        elif GATEWAY_PROTOCOL not in protocols:
            reason = _OTHER
        elif any(_is_private(address) for address in _addresses(record)):
            reason = _PRIVATE
        if not gateways:
            found.skipped[reason] += 1
    found.urls.extend(urls)
    return found


def _records(answer: bytes) -> Iterator[dict[str, Any]]:
    try:
        whole = json.loads(answer)
    except (ValueError, RecursionError):
        found = [_line(line) for line in answer.splitlines() if line.strip()]
    else:
        providers = whole.get("Providers") if isinstance(whole, dict) else None
        found = providers if isinstance(providers, list) else [whole]
    yield from (r for r in found if isinstance(r, dict) and ("ID" in r or "Addrs" in r))


def _line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _protocols(record: dict[str, Any]) -> list[str]:
    """Returns the protocols of a provider; an empty list means unknown."""
    protocols = record.get("Protocols")
    if not isinstance(protocols, list):
        protocols = [record.get("Protocol")]  # of the schema "bitswap"
    return [protocol for protocol in protocols if isinstance(protocol, str)]


def _addresses(record: dict[str, Any]) -> list[str]:
    addresses = record.get("Addrs")
    found = addresses[:MAX_ADDRESSES] if isinstance(addresses, list) else []
    return [address for address in found if isinstance(address, str)]


def _urls(record: dict[str, Any], *, private: bool) -> Iterator[str]:
    for address in _addresses(record):
        if url := _url(address, private=private):
            yield url


def _url(address: str, *, private: bool) -> str | None:
    without_peer = address.partition("/p2p/")[0]
    try:
        endpoint = parse_multiaddr(without_peer)
    except AddressError:
        return None
    if endpoint.unix is not None or not without_peer.endswith(("/http", "/https")):
        return None
    inside = is_private(endpoint.url)
    if inside and not private:
        return None
    return endpoint.url if inside or endpoint.url.startswith("https:") else None


def _add_peer(
    record: dict[str, Any], peers: dict[str, list[str]], *, private: bool
) -> tuple[bool, str]:
    """Adds a peer that can be dialled; returns whether it can be, and otherwise the reason."""
    peer = record.get("ID")
    addresses = _addresses(record)
    if not isinstance(peer, str) or not _PEER_ID.fullmatch(peer) or not addresses:
        return False, _NO_ADDRESS
    usable: list[str] = []
    reasons: set[str] = set()
    for address in addresses:
        match = _TCP.fullmatch(address)
        if match is None or match["peer"] not in (None, peer):
            reasons.update(_reasons(address.split("/")))
        elif _is_private(address) and not private:
            reasons.add(_PRIVATE)
        else:
            usable.append(f"{match['base']}/p2p/{peer}")
    if not usable:
        return False, next((reason for reason in _BEST_FIRST if reason in reasons), _OTHER)
    if len(peers) < MAX_PEERS or peer in peers:
        known = dict.fromkeys([*peers.get(peer, ()), *usable])
        peers[peer] = list(known)[:_MAX_PEER_ADDRESSES]
    return True, ""


def _reasons(parts: Iterable[str]) -> Iterator[str]:
    found = [_REASONS[part] for part in parts if part in _REASONS]
    yield _RELAY if _RELAY in found else (found[0] if found else _OTHER)


def _is_private(address: str) -> bool:
    """Returns whether the host of a multiaddr is on this machine or in a private network, by its name."""
    parts = address.split("/")
    return len(parts) > 2 and is_private_host(parts[2])  # noqa: PLR2004 - "", kind, host
