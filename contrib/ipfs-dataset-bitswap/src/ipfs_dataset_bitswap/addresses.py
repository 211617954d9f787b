"""The addresses of this transport: that of a peer, or ``bitswap:`` with several peers and options."""

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
    """What an address stands for.

    Attributes:
        peers: The addresses of each peer, by its id, in the order in which they were given.
        connections: Connections to a peer at the most.
        public_only: Whether names of hosts must not lead to private addresses.
        bootstrap: Peers of the DHT by which those that have the data are found, or ``default``.
    """

    peers: dict[str, tuple[PeerAddress, ...]]
    connections: int = 4
    public_only: bool = False
    bootstrap: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> BitswapAddress:
        """Returns what an address stands for.

        Args:
            text: A multiaddr with a peer id, or several, separated by commas, behind ``bitswap:``. These may
                be followed by options as in a URL: ``connections=``, the number of connections to a peer
                at the most, ``public=1``, which refuses private addresses, and ``bootstrap=``, peers of the
                DHT, separated by commas, or ``default`` for the public ones. Peers need not be given then.

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
            raise AddressError(f"{text[:200]!r} names no peer: write {_FORM}")
        return cls(peers=peers, **options)

    def each_peer(self) -> Iterator[BitswapAddress]:
        """Yields an address for each peer by itself, with the same options."""
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
                raise AddressError(f"{text[:200]!r}: connections= is from 1 to {_MAX_CONNECTIONS}")
        elif name == "public" and value in ("0", "1"):
            found["public_only"] = value == "1"
        elif name == "bootstrap" and value:
            found["bootstrap"] = tuple(value.split(","))
        else:
            raise AddressError(
                f"{text[:200]!r}: {name}={value!r:.40} is no option; there are connections=1 to "
                f"{_MAX_CONNECTIONS}, public=1 and bootstrap=default or the addresses of peers"
            )
    return found
