"""identify: a peer's information about itself. See https://github.com/libp2p/specs/tree/master/identify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.ipld import protobuf_bytes, protobuf_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_bitswap.libp2p.identity import Identity

PROTOCOL = "/ipfs/id/1.0.0"
# Maximum size of one message, and number of messages into which a peer may split its information.
MAX_MESSAGE = 64 << 10
MAX_MESSAGES = 10
MAX_PROTOCOLS = 1000
_MAX_TEXT = 256
_BYTES = 2
_KEY, _PROTOCOLS, _PROTOCOL_VERSION, _AGENT = 1, 3, 5, 6


@attrs.frozen
class PeerInfo:
    """A peer's information about itself. Only its peer ID is verified.

    Attributes:
        agent: The software and its version, such as ``kubo/0.44.0/…``; "" if there is none.
        protocols: The protocols that it supports.
    """

    agent: str = ""
    protocols: frozenset[str] = frozenset()


def own_message(identity: Identity, agent: str, protocols: Iterable[str]) -> bytes:
    """Returns the message sent to peers; it contains no address, because nothing listens."""
    return b"".join(
        [
            protobuf_bytes(_KEY, identity.public_key.to_bytes()),
            *(protobuf_bytes(_PROTOCOLS, protocol.encode()) for protocol in sorted(protocols)),
            protobuf_bytes(_PROTOCOL_VERSION, b"ipfs/0.1.0"),
            protobuf_bytes(_AGENT, agent.encode()),
        ]
    )


def parse(messages: Iterable[bytes]) -> PeerInfo:
    """Parses a peer's information in one or several messages, where later messages add to the first.

    Raises:
        FormatError: A message is malformed, or there are too many of them or of protocols.
    """
    agent, protocols = "", set()
    for count, message in enumerate(messages, 1):
        if count > MAX_MESSAGES:
            raise FormatError(f"its identify information has more than {MAX_MESSAGES} messages")
        for number, wire, value in protobuf_fields(memoryview(message)):
            if number not in (_PROTOCOLS, _AGENT):
                continue
            if wire != _BYTES or isinstance(value, int):
                raise FormatError("its identify information is malformed")
            text = _printable(bytes(value[:_MAX_TEXT]).decode("utf-8", "replace"))
            if number == _AGENT:
                agent = text
            else:
                protocols.add(text)
        if len(protocols) > MAX_PROTOCOLS:
            raise FormatError(f"it lists more than {MAX_PROTOCOLS} protocols")
    return PeerInfo(agent, frozenset(protocols))


def _printable(text: str) -> str:
    """Replaces characters that control a terminal, because the text is shown to people."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
