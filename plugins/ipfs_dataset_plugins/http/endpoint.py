"""The addresses of HTTP servers: endpoints from URLs and multiaddrs, origins, and what to request from them.

No message of an error shows the credentials that a URL may contain.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

import attrs

from ipfs_dataset_core import AddressError, redacted

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL_HOST = re.compile(r"[a-z0-9._~-]+")
# What RFC 3986 allows besides letters and digits, and the percent sign of what is encoded already.
_IN_PATH = "%/:@!$&'()*+,;=~"
_IN_QUERY = f"{_IN_PATH}?"
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

_MULTIADDR_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_MULTIADDR_PORT = re.compile(r"[0-9]{1,5}")
_MAX_PORT = 65535
_SCHEMES_OF_ENDINGS = {
    (): "http",
    ("http",): "http",
    ("https",): "https",
    ("tls", "http"): "https",
    ("tls",): "https",
}
_MULTIADDR_FORM = "/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/http|/https|/tls/http] or /unix/PATH"


@attrs.frozen
class Endpoint:
    """The address of a server.

    Args:
        url: ``scheme://host:port[/prefix]`` without credentials or query.
        unix: The path of a unix socket; `url` is then only used for the Host header.
        auth: The credentials that the address contained, in the form of the option `auth`.
    """

    url: str
    unix: str | None = None
    auth: str | None = attrs.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"unix:{self.unix}" if self.unix else self.url


class Origin(NamedTuple):
    """The origin of a URL, to which connections are made.

    Args:
        scheme: http or https.
        host: In lower case and ASCII, without the brackets of IPv6.
        port: The TCP port.
    """

    scheme: str
    host: str
    port: int

    @property
    def host_field(self) -> str:
        """The value of the Host header."""
        port = None if self.port == _DEFAULT_PORTS[self.scheme] else self.port
        return netloc(self.host.partition("%")[0], port)


def parse_endpoint(url: str) -> Endpoint:
    """Returns the endpoint at an http or https URL.

    ``localhost`` becomes 127.0.0.1: Kubo redirects the name to a subdomain that many systems cannot resolve.

    Raises:
        AddressError: The URL has no usable host or port.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The message of urlsplit may quote a part of a password.
        raise AddressError(f"{redacted(url)!r} has no usable host and port") from None
    if parts.scheme not in _DEFAULT_PORTS or not host or not is_clean(url):
        raise AddressError(f"{redacted(url)!r} is no http or https URL with a host")
    host = "127.0.0.1" if host == "localhost" else host
    user = unquote(parts.username or "")
    auth = f"basic:{user}:{unquote(parts.password or '')}" if user else None
    base = f"{parts.scheme}://{netloc(host, port or None)}{parts.path.rstrip('/')}"
    return Endpoint(base, auth=auth)


def parse_multiaddr(text: str) -> Endpoint:
    """Returns the endpoint at a multiaddr of an HTTP server, such as Kubo writes into its ``api`` file.

    ``/p2p/ID`` behind ``/http`` or ``/https`` is ignored: who the server is does not matter.

    Raises:
        AddressError: It is not the multiaddr of an HTTP server over TCP or a unix socket.
    """
    parts = text.strip().rstrip("/").split("/")
    if len(parts) > 2 and parts[1] == "unix":  # noqa: PLR2004 - "", "unix", path
        return Endpoint("http://localhost", unix="/" + _socket("/".join(parts[2:])).lstrip("/"))
    if parts[1:2] == ["dnsaddr"]:
        raise AddressError(
            f"{text!r} stands for addresses in DNS, which are not looked up: write one of them, "
            f"{_MULTIADDR_FORM}"
        )
    if len(parts) < 5 or parts[0] or parts[3] != "tcp":  # noqa: PLR2004 - /kind/host/tcp/port
        raise AddressError(f"{text!r} is no API address: write {_MULTIADDR_FORM}")
    ending = parts[5:]
    if len(ending) > 2 and ending[-3] in ("http", "https") and ending[-2] == "p2p":  # noqa: PLR2004
        ending = ending[:-2]
    scheme = _SCHEMES_OF_ENDINGS.get(tuple(ending))
    if scheme is None:
        raise AddressError(
            f"{text!r} ends in {'/'.join(parts[5:])!r}, which is no HTTP: write {_MULTIADDR_FORM}"
        )
    host = _multiaddr_host(parts[1], parts[2], text)
    return Endpoint(f"{scheme}://{host}:{_multiaddr_port(parts[4], text)}")


def parse_url(url: str) -> SplitResult:
    """Returns a URL in the form in which it can be sent, without a fragment.

    Raises:
        ValueError: It is not an http or https URL, it has a user name, or no usable host or port.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    # Before Python 3.11, anything may be in brackets.
    if (
        parts.scheme not in _DEFAULT_PORTS
        or "@" in parts.netloc
        or ("[" in parts.netloc and ":" not in name)
    ):
        raise ValueError("no http or https URL of a server alone")
    server = netloc(_url_host(name), parts.port)
    path = _encoded(parts.path or "/", _IN_PATH)
    return SplitResult(parts.scheme, server, path, encoded_query(parts.query), "")


def origin_of(parts: SplitResult) -> Origin:
    """Returns the origin of a URL that `parse_url` has returned."""
    # The percent sign of an IPv6 zone is encoded in URLs, but nowhere else.
    host = (parts.hostname or "").replace("%25", "%")
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    return Origin(parts.scheme, host, port)


def target_of(parts: SplitResult) -> str:
    """Returns the target of a request: path and query of a URL."""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def encoded_query(query: str) -> str:
    """Returns a query in which all characters that are not allowed are percent-encoded."""
    return _encoded(query, _IN_QUERY)


def netloc(host: str, port: int | None) -> str:
    """Returns a host without brackets, and a port if there is one, as they are written in URLs."""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine, judged by its name."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_clean(text: str) -> bool:
    """Returns whether a text has neither white space nor control characters."""
    return not any(character.isspace() or not character.isprintable() for character in text)


def _encoded(text: str, allowed: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=allowed)


def _url_host(host: str) -> str:
    if ":" in host:
        ipaddress.IPv6Address(host.replace("%25", "%"))
        return host
    name = host if host.isascii() else _ascii_host(host)
    if not _URL_HOST.fullmatch(name):
        raise ValueError("no usable host")
    return name


def _ascii_host(host: str) -> str:
    """Returns an internationalized host name in ASCII, as browsers do.

    Python itself uses IDNA 2003, by which straße.example is strasse.example, a server of someone else.
    """
    import idna  # noqa: PLC0415 - few hosts need it

    return idna.encode(host, uts46=True).decode("ascii").lower()


def _socket(path: str) -> str:
    """Decodes a path that is written as one component, ``%2Ftmp%2Fapi.sock``; others may contain a ``%``."""
    return unquote(path) if "%2f" in path.lower() else path


def _multiaddr_host(kind: str, host: str, text: str) -> str:
    try:
        if kind == "ip4":
            return str(ipaddress.IPv4Address(host))
        if kind == "ip6" and "%" not in host:  # a zone is not allowed in a URL
            return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError as error:
        raise AddressError(f"{text!r} has no usable address: {error}") from error
    if kind in ("dns", "dns4", "dns6") and _MULTIADDR_HOST.fullmatch(host):
        return "127.0.0.1" if host == "localhost" else host
    raise AddressError(f"{text!r} names no host: write {_MULTIADDR_FORM}")


def _multiaddr_port(port: str, text: str) -> int:
    if not _MULTIADDR_PORT.fullmatch(port) or not 0 < int(port) <= _MAX_PORT:
        raise AddressError(
            f"{text!r} has the unusable port {port!r}: write a number from 1 to 65535"
        )
    return int(port)
