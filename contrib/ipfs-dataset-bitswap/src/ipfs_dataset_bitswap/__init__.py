"""Reads blocks from any IPFS peer: libp2p over TCP, and Bitswap. Nothing is served, and nothing listens."""

from __future__ import annotations
