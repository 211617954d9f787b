"""Multiaddrs of a node's RPC API, as Kubo writes them into its ``api`` file."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

from ipfs_dataset_core import AddressError
from ipfs_dataset_plugins.http.endpoint import Endpoint

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
_TLS_ENDINGS = {
    (): "http",
    ("http",): "http",
    ("https",): "https",
    ("tls", "http"): "https",
    ("tls",): "https",
}
_PORT = re.compile(r"[0-9]{1,5}")
_MAX_PORT = 65535
FORM = "/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/http|/https|/tls/http] or /unix/PATH"


def parse_multiaddr(text: str) -> Endpoint:
    """Returns where the API at a multiaddr listens.

    Raises:
        AddressError: It is no multiaddr of an HTTP server over tcp or a unix socket.
    """
    parts = text.strip().rstrip("/").split("/")
    if len(parts) > 2 and parts[1] == "unix":  # noqa: PLR2004 - "", "unix", path
        return Endpoint("http://localhost", unix="/" + _socket("/".join(parts[2:])).lstrip("/"))
    if parts[1:2] == ["dnsaddr"]:
        raise AddressError(
            f"{text!r} stands for addresses in DNS, which are not looked up: write one of them, {FORM}"
        )
    if len(parts) < 5 or parts[0] or parts[3] != "tcp":  # noqa: PLR2004 - /kind/host/tcp/port
        raise AddressError(f"{text!r} is no API address: write {FORM}")
    scheme = _TLS_ENDINGS.get(tuple(parts[5:]))
    if scheme is None:
        raise AddressError(
            f"{text!r} ends in {'/'.join(parts[5:])!r}, which is no HTTP: write {FORM}"
        )
    return Endpoint(f"{scheme}://{_host(parts[1], parts[2], text)}:{_port(parts[4], text)}")


def _socket(path: str) -> str:
    """Decodes a path that is written as one component, ``%2Ftmp%2Fapi.sock``; others may mean their ``%``."""
    return unquote(path) if "%2f" in path.lower() else path


def _host(kind: str, host: str, text: str) -> str:
    try:
        if kind == "ip4":
            return str(ipaddress.IPv4Address(host))
        if kind == "ip6" and "%" not in host:  # a zone has no place in a URL
            return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError as error:
        raise AddressError(f"{text!r} has no usable address: {error}") from error
    if kind in ("dns", "dns4", "dns6") and _NAME.fullmatch(host):
        return "127.0.0.1" if host == "localhost" else host
    raise AddressError(f"{text!r} names no host: write {FORM}")


def _port(port: str, text: str) -> int:
    if not _PORT.fullmatch(port) or not 0 < int(port) <= _MAX_PORT:
        raise AddressError(
            f"{text!r} has the unusable port {port!r}: write a number from 1 to 65535"
        )
    return int(port)
