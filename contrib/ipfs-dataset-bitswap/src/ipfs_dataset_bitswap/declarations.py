"""Declares the transport, without importing it."""

from __future__ import annotations

from ipfs_dataset_core import TransportPlugin, hookimpl

PLUGIN = TransportPlugin(
    name="bitswap",
    summary="IPFS peers over libp2p, verified: /ip4/1.2.3.4/tcp/4001/p2p/ID, or several: bitswap:A,B",
    schemes=("p2p", "bitswap"),
    factory="ipfs_dataset_bitswap.dht:open_peers",
)


class _Plugin:
    """The plugin to which the entry point refers."""

    @hookimpl
    def ipfs_dataset_transports(self) -> list[TransportPlugin]:
        return [PLUGIN]


BITSWAP = _Plugin()
