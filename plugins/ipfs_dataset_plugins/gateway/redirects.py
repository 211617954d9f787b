"""The policy for redirects of requests for verified bytes: which are followed, and to which addresses.

Gateways redirect to each other, and verified bytes may come from any server. The danger is in the requests: a
server must not direct them into the network of the reader (server-side request forgery), nor to a server
without encryption. The URL is checked here; the addresses that its host resolves to are checked by the
connection, with the filter of the `Hop`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

import attrs

from ipfs_dataset_core import is_public_address
from ipfs_dataset_plugins.http.address_filter import (
    EVERYWHERE,
    PUBLIC,
    AddressFilter,
    is_private,
)
from ipfs_dataset_plugins.http.endpoint import is_loopback, netloc, origin_of, parse_url

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.endpoint import Origin

_MAX_LOCATION = 8192


@attrs.frozen
class Hop:
    """The next request after a redirect.

    url: The URL, with the host name that the servers use.
    same_origin: Whether it has the origin of the previous request.
    allowed: The IP addresses that the server may have; None for those allowed before.
    """

    url: str
    same_origin: bool
    allowed: AddressFilter | None = None


def next_hop(url: str, location: str, peer: tuple[str, int] | None = None) -> Hop | None:
    """Returns the next request for a redirect; None if it must not be followed.

    Allowed are redirects to the same origin, from https to https on any public host, from one name of this
    machine to another (as local gateways redirect to subdomains), and from a gateway in a private network to
    a subdomain of itself.

    Args:
        url: The URL that was requested.
        location: The Location header of the response.
        peer: The IP address and port of the server; None if they are unknown, as behind a proxy.
    """
    if len(location) > _MAX_LOCATION or not location.isprintable() or " " in location:
        return None
    try:
        here, there = parse_url(url), parse_url(urljoin(url, location))
    except ValueError:
        return None
    asked, answering, target = origin_of(here), origin_of(there), there.geturl()
    if asked == answering:
        return Hop(target, same_origin=True)
    if _both_local(asked, answering):
        return Hop(target, same_origin=False, allowed=EVERYWHERE)
    is_below = answering.host.endswith(f".{asked.host}")
    if not asked.scheme == answering.scheme == "https" or (is_private(target) and not is_below):
        return None
    return Hop(target, same_origin=False, allowed=_beyond(peer))


def connected_to(url: str, server: str) -> tuple[str, str | None]:
    """Returns the URL to connect to, and the Host header if its host is another one.

    Few systems resolve names below localhost, so requests for them are sent to the server of the first
    request.

    Args:
        url: The URL of a `Hop`.
        server: The URL of the gateway that the first request was sent to.
    """
    there = parse_url(url)
    if not (there.hostname or "").endswith(".localhost"):
        return url, None
    connected = netloc(parse_url(server).hostname or "", there.port)
    return there._replace(netloc=connected).geturl(), there.netloc


def _beyond(peer: tuple[str, int] | None) -> AddressFilter:
    """Returns the addresses to which a server at an address may redirect."""
    if peer is None or is_public_address(peer[0]):
        return PUBLIC
    return AddressFilter(public_only=True, peers=frozenset({peer}))


def _both_local(here: Origin, there: Origin) -> bool:
    return (
        (here.scheme, here.port) == (there.scheme, there.port)
        and is_loopback(here.host)
        and is_loopback(there.host)
    )
