"""Determines which hosts and IP addresses are public rather than local or in private networks.

Untrusted servers that name other servers or peers must not direct requests into the user's network
(server-side request forgery). A host is checked twice: its name before it is resolved, and the resulting
addresses when a connection is made.
"""

from __future__ import annotations

import ipaddress

# Special-use names (RFC 6761, 6762, 8375 and ICANN's "internal"), and names that routers, companies and
# Kubernetes clusters use without a standard.
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
# The global unicast addresses of IANA, without their special ranges: protocol assignments with Teredo and
# ORCHID, documentation, and 6to4, whose relays forward to any IPv4 address.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# In networks without IPv4, DNS64 maps each IPv4 host to an address in this network (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Interface identifiers of ISATAP, which tunnels to the IPv4 address that follows them (RFC 5214).
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def is_private_host(host: str) -> bool:
    """Returns whether a host is on this machine or in a private network, according to its name.

    Args:
        host: An IP address, without brackets, or a name. Names are not resolved.
    """
    name = host.rstrip(".")
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        # A name without a dot is resolved in the local domain. A name that consists of digits, or ends in
        # digits, is an old form of an address, such as 2130706433 for 127.0.0.1.
        last = name.rpartition(".")[2].lower()
        is_address = last.isdigit() or last.startswith("0x")
        return is_address or "." not in name or name.lower().endswith(_PRIVATE_SUFFIXES)
    return not is_public_address(name)


def is_public_address(text: str) -> bool:
    """Returns whether an IP address, with or without a zone, is public.

    If an IPv6 address contains an IPv4 address, the latter is checked, because translators and tunnels
    forward packets to it.

    Raises:
        ValueError: `text` is not an IP address.
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


def _is_public_ipv4(address: ipaddress.IPv4Address) -> bool:
    return not any(address in network for network in _PRIVATE_IPV4)
