"""Which hosts and IP addresses are on this machine or in private networks; pure.

Servers that are not trusted, such as gateways that redirect and routers that name providers, must not aim
our requests at the reader's own network (server-side request forgery). A host is judged twice: by its name,
before anything is looked up, and by the addresses that its name resolves to, when a connection is made.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import attrs

# Special-use names (RFC 6761, 6762, 8375 and ICANN's "internal"), and what routers, companies and
# Kubernetes clusters use without asking.
_PRIVATE_SUFFIXES = (
    *(".localhost", ".local", ".internal", ".home.arpa", ".in-addr.arpa", ".ip6.arpa"),
    *(".localdomain", ".lan", ".home", ".corp", ".intranet", ".private", ".domain"),
    *(".svc", ".test", ".invalid"),
)
# IANA IPv4 special-purpose registry, multicast and reserved; the last one is a metadata service of Azure.
_PRIVATE_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",
    )
)
# All that IANA has given out for global unicast, without what is special in it: protocol assignments with
# Teredo and ORCHID, documentation, and 6to4, whose relays send on to any IPv4 address.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# In networks without IPv4, DNS64 gives each IPv4 host an address in here (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Interface identifiers of ISATAP, which tunnels to the IPv4 address behind them (RFC 5214).
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


@attrs.frozen
class AddressFilter:
    """Which IP addresses a connection may be made to.

    Args:
        public_only: Whether only public addresses are allowed, besides `peers`.
        peers: Addresses and ports that are allowed as well: a gateway in a private network may redirect to
            itself under another name.
    """

    public_only: bool = False
    peers: frozenset[tuple[str, int]] = frozenset()

    def allows(self, address: str, port: int) -> bool:
        """Returns whether a connection to an IP address is allowed."""
        return not self.public_only or is_public_address(address) or (address, port) in self.peers


EVERYWHERE = AddressFilter()
PUBLIC = AddressFilter(public_only=True)


def is_private(url: str) -> bool:
    """Returns whether a URL leads to this machine or a private network, as far as its host's name shows."""
    name = (urlsplit(url).hostname or "").rstrip(".")
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        # A name without a dot is looked up in the local domain; of digits alone it is an old way to write an
        # address, such as 2130706433 for 127.0.0.1, and so is one that ends in digits.
        last = name.rpartition(".")[2].lower()
        is_address = last.isdigit() or last.startswith("0x")
        return is_address or "." not in name or name.lower().endswith(_PRIVATE_SUFFIXES)
    return not is_public_address(name)


def is_public_address(text: str) -> bool:
    """Returns whether an IP address, with or without a zone, is one of the public Internet.

    What an IPv6 address embeds counts too: behind a translator or a tunnel the packet goes to that IPv4
    address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public_ipv4(address.ipv4_mapped)
        if address in _NAT64:
            return _is_public_ipv4(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return (
            address in _GLOBAL_IPV6
            and not any(address in network for network in _PRIVATE_IPV6)
            and int(address) >> 32 & 0xFFFFFFFF not in _ISATAP
        )
    return _is_public_ipv4(address)


def is_loopback(host: str) -> bool:
    """Returns whether a host's name means this machine."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_public_ipv4(address: ipaddress.IPv4Address) -> bool:
    return not any(address in network for network in _PRIVATE_IPV4)
