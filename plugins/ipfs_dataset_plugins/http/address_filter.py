"""The IP addresses to which requests may be sent; see `is_private_host` and `is_public_address`.

Untrusted servers, such as gateways that redirect and routers that name providers, must not direct requests
into the network of the user.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from ipfs_dataset_core import is_private_host, is_public_address


class AddressFilter(NamedTuple):
    """The IP addresses to which a connection may be made.

    Args:
        public_only: Whether only public addresses and `peers` are allowed.
        peers: Addresses and ports that are also allowed, because a gateway in a private network may redirect
            to itself under another name.
    """

    public_only: bool = False
    peers: frozenset[tuple[str, int]] = frozenset()

    def allows(self, address: str, port: int) -> bool:
        """Returns whether a connection to an IP address is allowed."""
        return not self.public_only or is_public_address(address) or (address, port) in self.peers


EVERYWHERE = AddressFilter()
PUBLIC = AddressFilter(public_only=True)


def is_private(url: str) -> bool:
    """Returns whether the host of a URL is on this machine or in a private network, according to its name."""
    return is_private_host(urlsplit(url).hostname or "")
