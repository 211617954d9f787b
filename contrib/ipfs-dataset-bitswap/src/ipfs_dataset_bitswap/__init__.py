"""Reads blocks from IPFS peers, using Bitswap over libp2p and TCP. It serves nothing and does not listen."""

from __future__ import annotations
