"""A libp2p client: TCP, multistream-select, Noise, yamux, identify.

`dial` connects to a peer whose id is known and proves that it is this peer. A `PeerConnection` opens streams,
and accepts those that the caller has a handler for; it never listens.
"""

from __future__ import annotations
