"""Which proxy the environment names for a URL, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs

from ipfs_dataset_core import AddressError, redacted
from ipfs_dataset_plugins.http.endpoint import authorization
from ipfs_dataset_plugins.http.url import origin_of, parse_url

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.url import Origin

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@attrs.frozen
class Proxy:
    """An HTTP proxy.

    Args:
        origin: Where it listens.
        fields: What it is sent besides: credentials, if any.
    """

    origin: Origin
    fields: dict[str, str] = attrs.field(repr=False)


def proxy_for(url: str) -> Proxy | None:
    """Returns the proxy by which a URL is reached.

    Raises:
        AddressError: It cannot be used.
    """
    if urlsplit(url).hostname in _LOOPBACK:
        return None
    import requests.utils  # noqa: PLC0415 - takes longer than reading from a node that runs here

    found = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not found:
        return None
    proxy = _parsed(found if "://" in found else f"http://{found}")
    if proxy.origin.scheme == "https" and url.startswith("https:"):
        raise AddressError(
            f"The environment names the proxy {redacted(found)!r}, but https through a proxy that itself "
            "speaks https cannot be used: name it by http://, or the host in NO_PROXY"
        )
    return proxy


def _parsed(url: str) -> Proxy:
    try:
        parts = urlsplit(url)
        origin = origin_of(
            parse_url(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        )
    except ValueError:
        raise AddressError(
            f"The environment names the proxy {redacted(url)!r}: only http and https ones can be used"
        ) from None
    if not parts.username:
        return Proxy(origin, {})
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(origin, {"Proxy-Authorization": authorization(f"basic:{pair}")})
