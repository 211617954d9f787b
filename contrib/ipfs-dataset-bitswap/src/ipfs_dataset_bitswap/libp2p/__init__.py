"""A libp2p client: TCP, multistream-select, Noise, yamux, identify.

`dial` connects to a peer with a known peer ID and verifies its identity. A `PeerConnection` opens streams,
and accepts streams for which the caller has a handler; it never listens.
"""

from __future__ import annotations
