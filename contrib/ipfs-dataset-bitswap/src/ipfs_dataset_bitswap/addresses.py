"""The addresses of this transport: that of a peer, or ``bitswap:`` followed by several peers and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import attrs

from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_core import AddressError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEME = "bitswap:"
_FORM = "bitswap:/ip4/…/tcp/…/p2p/ID,/ip4/…/tcp/…/p2p/ID?connections=4"
_MAX_CONNECTIONS = 16


@attrs.frozen(kw_only=True)
class BitswapAddress:
    """The parts of an address.

    Attributes:
        peers: The addresses of each peer, by peer ID, in the order in which they were given.
        connections: Maximum number of connections to a peer.
        public_only: Whether host names must not lead to private addresses.
        bootstrap: Peers of the DHT through which to find sources, or ``default``.
    """

    peers: dict[str, tuple[PeerAddress, ...]]
    connections: int = 4
    public_only: bool = False
    bootstrap: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> BitswapAddress:
        """Parses an address.

        Args:
            text: A multiaddr with a peer ID, or several, separated by commas, after ``bitswap:``. Options may
                follow, as in a URL: ``connections=``, the maximum number of connections to a peer,
                ``public=1``, which rejects private addresses, and ``bootstrap=``, peers of the DHT, separated
                by commas, or ``default`` for the public ones. With ``bootstrap=``, peers may be omitted.

        Raises:
            AddressError: It is malformed.
        """
        listed, _, query = text.removeprefix(SCHEME).partition("?")
        peers: dict[str, tuple[PeerAddress, ...]] = {}
        for one in filter(None, listed.split(",")):
            address = PeerAddress.parse(one.strip())
            name = str(address.peer_id)
            peers[name] = (*peers.get(name, ()), address)
        options = _options(text, query)
        if not peers and not options.get("bootstrap"):
            raise AddressError(f"{text[:200]!r} has no peer: write {_FORM}")
        return cls(peers=peers, **options)

    def each_peer(self) -> Iterator[BitswapAddress]:
        """Yields an address for each peer, with the same options."""
        for name, addresses in self.peers.items():
            yield attrs.evolve(self, peers={name: addresses})

    def __str__(self) -> str:
        listed = ",".join(str(one) for addresses in self.peers.values() for one in addresses)
        return f"{SCHEME}{listed}?connections={self.connections}&public={int(self.public_only)}"


def _options(text: str, query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "connections" and value.isascii() and value.isdigit():
            found["connections"] = int(value)
            if not 1 <= found["connections"] <= _MAX_CONNECTIONS:
                raise AddressError(
                    f"{text[:200]!r}: connections= must be from 1 to {_MAX_CONNECTIONS}"
                )
        elif name == "public" and value in ("0", "1"):
            found["public_only"] = value == "1"
        elif name == "bootstrap" and value:
            found["bootstrap"] = tuple(value.split(","))
        else:
            raise AddressError(
                f"{text[:200]!r}: {name}={value!r:.40} is not an option; the options are connections=1 to "
                f"{_MAX_CONNECTIONS}, public=1 and bootstrap=default or the addresses of peers"
            )
    return found
