"""Finds the gateway of a node through the node's configuration, and checks that it serves blocks.

The configuration is only a hint: if the API is reached through a tunnel or a proxy, another server may listen
at the port. Therefore only the host of the API is contacted, and never with the credentials of the API.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from ipfs_dataset_core import CID, AddressError, IPFSDatasetError, TransportError
from ipfs_dataset_core.ipld import verify
from ipfs_dataset_plugins.gateway.transport import GatewayTransport
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import is_loopback, parse_multiaddr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Options
    from ipfs_dataset_plugins.http.endpoint import Endpoint

log = logging.getLogger(__name__)

# Seconds for each step, during which the first read waits.
_FIND_SECONDS = 2.0
_MAX_ANSWER_BYTES = 1 << 16
_MAX_ADDRESSES = 4
# A file of one byte whose block is inside its CID, so that every node has it. A gateway that serves only
# files responds with that byte instead of the block.
_PROBE = CID.parse("bafyaacika4eaeeqbpamac")


def may_have_gateway(api: Endpoint) -> bool:
    """Returns whether to search: with TLS or a path, the API is behind a proxy, which has other ports."""
    return api.url.startswith("http:") and not urlsplit(api.url).path


def find_gateway(api: Endpoint, options: Options) -> GatewayTransport | None:
    """Returns the gateway of the node with an API; None if there is no usable one."""
    hasty = attrs.evolve(options, timeout=min(_FIND_SECONDS, options.timeout))
    try:
        for url in urls(api, _configured(api, hasty)):
            if _is_trustless(url, hasty):
                log.debug("%s is read through its gateway %s", api.name, url)
                return _gateway(url, options)
    except (IPFSDatasetError, OSError, ValueError, RecursionError) as error:
        log.debug("%s has no usable gateway: %s", api.name, error)
    return None


def _gateway(url: str, options: Options) -> GatewayTransport:
    return GatewayTransport(f"gateway+{url}", attrs.evolve(options, headers={}, auth=None))


def _configured(api: Endpoint, options: Options) -> Any:
    """Returns the multiaddrs of the gateway in the configuration of a node: None, one or a list."""
    client = HTTPClient(api, options)
    try:
        response = client.send(
            "POST", "/api/v0/config?arg=Addresses.Gateway", f"config of {api.name}"
        )
        answer = response.read_all(_MAX_ANSWER_BYTES)
        if response.status != 200:  # noqa: PLR2004 - the one status of success
            raise TransportError(f"config of {api.name} answered HTTP {response.status}")
        return json.loads(answer)["Value"]
    except (KeyError, TypeError):
        return None
    finally:
        client.close()


def urls(api: Endpoint, configured: object) -> Iterator[str]:
    """Yields where on the API's own host its gateway may listen."""
    values = configured if isinstance(configured, list) else [configured]
    for value in values[:_MAX_ADDRESSES]:
        try:
            listens = urlsplit(parse_multiaddr(value).url) if isinstance(value, str) else None
        except AddressError:
            continue
        host = _reachable(api, (listens and listens.hostname) or "")
        if listens is not None and host is not None and listens.scheme == "http":
            yield f"http://{f'[{host}]' if ':' in host else host}:{listens.port}"


def _reachable(api: Endpoint, listens: str) -> str | None:
    """Returns the IP address of the gateway as seen from here; None if it cannot be reached."""
    try:
        address = ipaddress.ip_address(listens)
    except ValueError:
        return None
    host = urlsplit(api.url).hostname or ""
    if api.unix is None and not is_loopback(host):
        # An address and not a name, which a node would interpret as a DNSLink.
        return None if address.is_loopback else _address_of(api)
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004
    return listens if address.is_loopback else None


def _address_of(api: Endpoint) -> str:
    parts = urlsplit(api.url)
    # Imported here, because it imports urllib3.
    from ipfs_dataset_plugins.http.connection import lookup  # noqa: PLC0415

    return lookup(parts.hostname or "", parts.port or 0)[0].host


def _is_trustless(url: str, options: Options) -> bool:
    """Returns whether a gateway serves blocks."""
    gateway = _gateway(url, options)
    try:
        verify(_PROBE, gateway.get_block(_PROBE))
    except IPFSDatasetError as error:
        log.debug("The gateway %s is not used: %s", url, error)
        return False
    finally:
        gateway.close()
    return True
