"""Whom a URL leads to and what to ask for there, written as HTTP needs it; pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, quote, urlsplit

import attrs

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9._~-]+")
# What RFC 3986 allows there besides letters and digits, and the percent sign of what is encoded already.
_IN_PATH = "%/:@!$&'()*+,;=~"
_IN_QUERY = f"{_IN_PATH}?"
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@attrs.frozen
class Origin:
    """A server, as connections are made to it.

    Args:
        scheme: http or https.
        host: In lower case and ASCII, without the brackets of IPv6.
        port: Of TCP.
    """

    scheme: str
    host: str
    port: int

    @property
    def host_field(self) -> str:
        """What the Host header says."""
        port = None if self.port == _PORTS[self.scheme] else self.port
        return netloc(self.host.partition("%")[0], port)


def parse_url(url: str) -> SplitResult:
    """Returns a URL in the form in which it may be sent, without a fragment.

    Raises:
        ValueError: It is no http or https URL, names a user, or has no usable host or port.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    # Before Python 3.11 brackets may be around anything.
    if (
        parts.scheme not in _PORTS
        or "@" in parts.netloc
        or ("[" in parts.netloc and ":" not in name)
    ):
        raise ValueError("no http or https URL of a server alone")
    server = netloc(_host(name), parts.port)
    path = _encoded(parts.path or "/", _IN_PATH)
    return SplitResult(parts.scheme, server, path, encoded_query(parts.query), "")


def origin_of(parts: SplitResult) -> Origin:
    """Returns where a URL that `parse_url` returned leads."""
    # A zone's percent sign is encoded in URLs, but nowhere else.
    host = (parts.hostname or "").replace("%25", "%")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return Origin(parts.scheme, host, port)


def target_of(parts: SplitResult) -> str:
    """Returns what to ask for there."""
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def encoded_query(query: str) -> str:
    """Returns a query with what must not be in one percent-encoded."""
    return _encoded(query, _IN_QUERY)


def netloc(host: str, port: int | None) -> str:
    """Returns a host, without brackets, and a port, if any, as URLs write them."""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _encoded(text: str, allowed: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=allowed)


def _host(host: str) -> str:
    if ":" in host:
        ipaddress.IPv6Address(host.replace("%25", "%"))
        return host
    name = host if host.isascii() else _ascii_name(host)
    if not _NAME.fullmatch(name):
        raise ValueError("no usable host")
    return name


def _ascii_name(host: str) -> str:
    """Returns an international name in ASCII, as browsers do.

    Not by the rules of 2003 that Python has, by which straße.example is strasse.example, a server of somebody
    else's.
    """
    import idna  # noqa: PLC0415 - few hosts need it

    return idna.encode(host, uts46=True).decode("ascii").lower()
