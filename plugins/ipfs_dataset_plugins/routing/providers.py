"""Responses of delegated routers: the HTTP gateways among the providers of a CID.

See https://specs.ipfs.tech/routing/http-routing-v1/ (IPIP-337); records of the schema ``peer`` are used.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import AddressError
from ipfs_dataset_plugins.http.address_filter import is_private
from ipfs_dataset_plugins.http.endpoint import parse_multiaddr

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAY_PROTOCOL = "transport-ipfs-gateway-http"
MAX_PROVIDERS = 100
MAX_ADDRESSES = 20


def provider_urls(answer: bytes, *, private: bool) -> list[str]:
    """Returns the distinct URLs of the gateways in the response of a router, in its order.

    Args:
        answer: The response: JSON, or one JSON record per line.
        private: Whether to accept addresses on this machine and in private networks, also without TLS. Only
            a router that is in such a network itself may name them.

    Raises:
        ValueError: It is not JSON.
    """
    urls: dict[str, None] = {}
    for record in _records(answer):
        for url in _urls(record, private=private):
            urls.setdefault(url)
        if len(urls) >= MAX_PROVIDERS:
            break
    return list(urls)[:MAX_PROVIDERS]


def _records(answer: bytes) -> Iterator[dict[str, Any]]:
    try:
        whole = json.loads(answer)
    except (ValueError, RecursionError):
        found = [_line(line) for line in answer.splitlines() if line.strip()]
    else:
        providers = whole.get("Providers") if isinstance(whole, dict) else None
        found = providers if isinstance(providers, list) else [whole]
    yield from (record for record in found if isinstance(record, dict))


def _line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _urls(record: dict[str, Any], *, private: bool) -> Iterator[str]:
    protocols, addresses = record.get("Protocols"), record.get("Addrs")
    if not isinstance(protocols, list) or GATEWAY_PROTOCOL not in protocols:
        return
    for address in addresses[:MAX_ADDRESSES] if isinstance(addresses, list) else ():
        if isinstance(address, str) and (url := _url(address, private=private)):
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
