"""Whether a redirect of a request for verified bytes may be followed, and where it leads; pure.

Gateways do send each other's clients on, and the bytes prove themselves wherever they come from. What
remains is whom our requests may reach: a server must not aim them at the reader's own network, nor strip
them of their encryption. That a public name has a private address is caught by TLS: nothing there has a
certificate for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

import attrs
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from ipfs_dataset_plugins._hosts import is_loopback, is_private

if TYPE_CHECKING:
    from urllib3.util import Url

_PORTS = {"http": 80, "https": 443}
_MAX_LOCATION = 8192


@attrs.frozen
class Hop:
    """Where one more request goes.

    Args:
        url: What is asked for, as the servers call it.
        same_origin: Whether that is the server that was asked before.
    """

    url: str
    same_origin: bool


def next_hop(url: str, location: str) -> Hop | None:
    """Returns where an answer's Location leads, None where it must not be followed.

    https may lead to https on any public host; everything may lead to the same server, and a gateway on this
    machine by one of its names to another, as local gateways do for subdomains.

    Args:
        url: What was asked for.
        location: As the server sent it.
    """
    if len(location) > _MAX_LOCATION or not location.isprintable() or " " in location:
        return None
    try:
        here, there = parse_url(url), parse_url(urljoin(url, location))
    except (ValueError, LocationParseError):
        return None
    if not there.host or there.auth or there.scheme not in _PORTS:
        return None
    target = there._replace(fragment=None).url
    if _origin(here) == _origin(there):
        return Hop(target, same_origin=True)
    if _both_local(here, there):
        return Hop(target, same_origin=False)
    to_public = here.scheme == there.scheme == "https" and not is_private(target)
    return Hop(target, same_origin=False) if to_public else None


def connected_to(url: str, server: str) -> tuple[str, str | None]:
    """Returns the URL to connect to, and the Host header where that differs.

    Few systems look up names below localhost: such a request goes to the server that is there already.

    Args:
        url: As in `Hop`.
        server: The URL of the gateway that the first request went to.
    """
    there, known = parse_url(url), parse_url(server)
    if not (there.host or "").endswith(".localhost"):
        return url, None
    return there._replace(host=known.host).url, there.netloc


def _both_local(here: Url, there: Url) -> bool:
    return (
        (here.scheme, _port(here)) == (there.scheme, _port(there))
        and is_loopback(_bare(here))
        and is_loopback(_bare(there))
    )


def _origin(url: Url) -> tuple[str | None, str, int | None]:
    return url.scheme, _bare(url), _port(url)


def _bare(url: Url) -> str:
    return (url.host or "").strip("[]").lower()


def _port(url: Url) -> int | None:
    return url.port or _PORTS.get(url.scheme or "")
