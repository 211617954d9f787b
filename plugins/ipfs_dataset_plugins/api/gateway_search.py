"""Where a node's own gateway listens, by the node's configuration, and whether it serves blocks.

The configuration proves nothing: a tunnel or a proxy may have brought us to the API, and the port may be
somebody else's here. So no other host than the API's own is contacted, and never with its credentials.
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
from ipfs_dataset_plugins.http.address_filter import is_loopback
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_multiaddr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Options
    from ipfs_dataset_plugins.http.endpoint import Endpoint

log = logging.getLogger(__name__)

# How long each step may take, for reading waits meanwhile.
_FIND_SECONDS = 2.0
_MAX_ANSWER_BYTES = 1 << 16
_MAX_ADDRESSES = 4
# A file of one byte whose block is in its CID, so that no node has to look for it; who serves files only
# answers with that byte.
_PROBE = CID.parse("bafyaacika4eaeeqbpamac")


def may_have_gateway(api: Endpoint) -> bool:
    """Tells whether to ask: behind TLS or a path is a proxy, whose ports are not those of the node."""
    return api.url.startswith("http:") and not urlsplit(api.url).path


def find_gateway(api: Endpoint, options: Options) -> GatewayTransport | None:
    """Returns the gateway of the node whose API listens there, None where there is none to use."""
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
    """Returns the multiaddrs that a node's configuration has for its gateway: none, one or a list."""
    client = HTTPClient(api, options)
    try:
        body = client.send("POST", "/api/v0/config?arg=Addresses.Gateway", f"config of {api.name}")
        answer = body.read_all(_MAX_ANSWER_BYTES)
        if body.status != 200:  # noqa: PLR2004 - the one status of success
            raise TransportError(f"config of {api.name} answered HTTP {body.status}")
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
    """Returns the address by which the API's host is reached where its gateway listens, None for nowhere."""
    try:
        address = ipaddress.ip_address(listens)
    except ValueError:
        return None
    host = urlsplit(api.url).hostname or ""
    if api.unix is None and not is_loopback(host):
        # An address and not a name: a node looks up what it may mean if it is asked by a name.
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
    """Tells whether blocks are served there."""
    gateway = _gateway(url, options)
    try:
        verify(_PROBE, gateway.get_block(_PROBE))
    except IPFSDatasetError as error:
        log.debug("The gateway %s is not used: %s", url, error)
        return False
    finally:
        gateway.close()
    return True
