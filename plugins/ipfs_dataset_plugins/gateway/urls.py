"""The URLs of objects at a gateway, in path style or subdomain style."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus, urlsplit

import attrs

from ipfs_dataset_core import CID, AddressError, redacted
from ipfs_dataset_plugins.http.endpoint import encoded_query, parse_endpoint

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.endpoint import Endpoint

MAX_DNS_LABEL = 63
# A shorter text would be found in many words.
_MIN_SECRET = 4


@attrs.frozen
class GatewayURL:
    """The address of a gateway.

    Args:
        endpoint: The server that connections are made to.
        subdomain: The host behind ``CID.ipfs.``; None for path style.
        query: A query that is sent with every request, such as an access token.
    """

    endpoint: Endpoint
    subdomain: str | None
    query: str = attrs.field(default="", repr=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.endpoint.name if self.subdomain is None else f"*.ipfs.{self.subdomain}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts of the query that messages must not show, however a server quotes them."""
        values = (part.partition("=")[2] or part for part in self.query.split("&"))
        found = {self.query, *(form for value in values for form in (value, unquote_plus(value)))}
        return tuple(sorted((text for text in found if len(text) >= _MIN_SECRET), key=len)[::-1])

    def target(self, path: str, query: str = "") -> str:
        """Returns the target of a request: a path, or a URL for subdomains on other machines.

        Args:
            path: ``/ipfs/CID`` or ``/ipns/name``, and a path behind it; not encoded.
            query: The query that selects the form of the response.
        """
        joined = "&".join(filter(None, (query, self.query)))
        suffix = f"?{joined}" if joined else ""
        if self.subdomain is None:
            return quote(path) + suffix
        host, below = self._split(path)
        if _is_local(self.subdomain):
            return f"{below}{suffix}"
        scheme = self.endpoint.url.partition("://")[0]
        return f"{scheme}://{host}{below}{suffix}"

    def url(self, path: str, query: str = "") -> str:
        """Returns the URL of a target, with the host that the gateway sees."""
        target = self.target(path, query)
        if "://" in target.partition("?")[0]:
            return target
        scheme, _, server = self.endpoint.url.partition("://")
        return f"{scheme}://{self.host(path) or server}{target}"

    def host(self, path: str) -> str | None:
        """Returns the Host header if it differs from the host of the connection, and else None.

        Few systems resolve names below localhost, so connections for them are made to 127.0.0.1.
        """
        if self.subdomain is None or not _is_local(self.subdomain):
            return None
        return self._split(path)[0]

    def _split(self, path: str) -> tuple[str, str]:
        _, namespace, root, *below = path.split("/")
        label = _cid_label(root) if namespace == "ipfs" else _name_label(root)
        return f"{label}.{namespace}.{self.subdomain}", "/" + quote("/".join(below))


def parse_gateway(address: str) -> GatewayURL:
    """Returns the gateway at an address such as ``gateway+https://host/prefix?token=…``.

    Raises:
        AddressError: It is not a URL.
    """
    url = address.partition("+")[2]
    base, _, query = url.partition("?")
    query = encoded_query(query.partition("#")[0])
    if "://*.ipfs." not in base and "@*.ipfs." not in base:
        return GatewayURL(parse_endpoint(base.rstrip("/")), None, query)
    scheme, _, rest = base.partition("://")
    user, at, host = rest.rpartition("@")
    host = host.removeprefix("*.ipfs.").rstrip("/")
    if "/" in host:
        raise AddressError(f"A subdomain gateway has no path: {host!r}")
    endpoint = parse_endpoint(f"{scheme}://{user}{at}{_connected_to(host, url)}")
    return GatewayURL(endpoint, host, query)


def _connected_to(host: str, url: str) -> str:
    if not _is_local(host):
        return host
    try:
        port = urlsplit(f"//{host}").port
    except ValueError:
        raise AddressError(f"{redacted(url)!r} has no usable port") from None
    return f"127.0.0.1{f':{port}' if port else ''}"


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] or host
    return name == "localhost" or name.endswith(".localhost")


def _cid_label(root: str) -> str:
    """Returns a CID as one DNS label, in base 32 or, if that is too long, in base 36."""
    cid = CID.parse(root)
    text = cid.encode("base32")
    text = text if len(text) <= MAX_DNS_LABEL else cid.encode("base36")
    if len(text) > MAX_DNS_LABEL:
        raise AddressError(f"{cid} is too long for a subdomain gateway: use a path gateway")
    return text


def _name_label(name: str) -> str:
    """Returns an IPNS name or a domain as one DNS label, escaped as for subdomain gateways."""
    return name.replace("-", "--").replace(".", "-") if "." in name else name
