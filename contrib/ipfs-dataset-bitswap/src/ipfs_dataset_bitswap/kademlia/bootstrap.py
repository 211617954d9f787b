"""The peers through which the DHT is entered: those given by the user, or the public ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_core import AddressError

if TYPE_CHECKING:
    from collections.abc import Iterable

# The defaults of IPFS nodes, and host names of the same servers for systems that cannot query TXT records.
PUBLIC_PEERS = (
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/va1.bootstrap.libp2p.io/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
    "/dns4/am6.bootstrap.libp2p.io/tcp/4001/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dns4/ny5.bootstrap.libp2p.io/tcp/4001/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dns4/sg1.bootstrap.libp2p.io/tcp/4001/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
    "/dns4/sv15.bootstrap.libp2p.io/tcp/4001/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dns4/va1.bootstrap.libp2p.io/tcp/4001/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8",
    "/ip4/104.131.131.82/tcp/4001/p2p/QmaCpDMGvV2BGHeYERUEnRQAwe3N8SzbUtfsmvsqQLuvuJ",
)
DEFAULT = "default"


def bootstrap_peers(given: Iterable[str]) -> list[PeerAddress]:
    """Returns the addresses of bootstrap peers.

    Args:
        given: Multiaddrs, or ``"default"`` for `PUBLIC_PEERS`, which are only used on request.

    Raises:
        AddressError: One is malformed, or there is none.
    """
    found = [
        PeerAddress.parse(text.strip())
        for one in given
        for text in (PUBLIC_PEERS if one.strip() == DEFAULT else (one,))
        if text.strip()
    ]
    if not found:
        raise AddressError(
            "bootstrap= contains no peer: write addresses such as /ip4/…/tcp/4001/p2p/ID, or "
            "'default' for the public bootstrap peers of IPFS"
        )
    return found
