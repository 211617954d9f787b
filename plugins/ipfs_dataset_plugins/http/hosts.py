"""Which hosts are on this machine or in private networks, as far as their names say; pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_private(url: str) -> bool:
    """Tells whether a URL leads to this machine or a private network."""
    host = urlsplit(url).hostname or ""
    name = host.rstrip(".")
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        inside = name.endswith((".localhost", ".local", ".internal"))
        # A name without a dot is looked up in the local domain; of digits alone it is an old way to write an
        # address, such as 2130706433 for 127.0.0.1, and so is one that ends in digits.
        last = name.rpartition(".")[2]
        return inside or "." not in name or last.isdigit() or last.lower().startswith("0x")


def is_loopback(host: str) -> bool:
    """Tells whether a host's name means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
