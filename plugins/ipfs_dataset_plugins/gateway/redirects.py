"""Whether a redirect of a request for verified bytes may be followed, and where it leads; pure.

Gateways do send each other's clients on, and the bytes prove themselves wherever they come from. What
remains is whom our requests may reach: a server must not aim them at the reader's own network, nor strip
them of their encryption. The URL is checked here; the addresses that its host's name resolves to are checked
where the connection is made, by the filter that a `Hop` has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

import attrs

from ipfs_dataset_plugins.http.address_filter import (
    EVERYWHERE,
    PUBLIC,
    AddressFilter,
    is_loopback,
    is_private,
    is_public_address,
)
from ipfs_dataset_plugins.http.endpoint import netloc, origin_of, parse_url

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.endpoint import Origin

_MAX_LOCATION = 8192


@attrs.frozen
class Hop:
    """Where one more request goes.

    Args:
        url: What is asked for, as the servers call it.
        same_origin: Whether that is the server that was asked before.
        allowed: Which IP addresses the server may have; None for those allowed before.
    """

    url: str
    same_origin: bool
    allowed: AddressFilter | None = None


def next_hop(url: str, location: str, peer: tuple[str, int] | None = None) -> Hop | None:
    """Returns where an answer's Location leads, None where it must not be followed.

    https may lead to https on any public host; everything may lead to the same server, and a gateway on this
    machine by one of its names to another, as local gateways do for subdomains. A gateway in a private
    network may lead to a subdomain of itself.

    Args:
        url: What was asked for.
        location: As the server sent it.
        peer: The IP address and port of the server; None where they are not known, as behind a proxy.
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
    """Returns the URL to connect to, and the Host header where that differs.

    Few systems look up names below localhost: such a request goes to the server that is there already.

    Args:
        url: As in `Hop`.
        server: The URL of the gateway that the first request went to.
    """
    there = parse_url(url)
    if not (there.hostname or "").endswith(".localhost"):
        return url, None
    connected = netloc(parse_url(server).hostname or "", there.port)
    return there._replace(netloc=connected).geturl(), there.netloc


def _beyond(peer: tuple[str, int] | None) -> AddressFilter:
    """Returns which addresses a server at an address may lead to."""
    if peer is None or is_public_address(peer[0]):
        return PUBLIC
    return AddressFilter(public_only=True, peers=frozenset({peer}))


def _both_local(here: Origin, there: Origin) -> bool:
    return (
        (here.scheme, here.port) == (there.scheme, there.port)
        and is_loopback(here.host)
        and is_loopback(there.host)
    )
