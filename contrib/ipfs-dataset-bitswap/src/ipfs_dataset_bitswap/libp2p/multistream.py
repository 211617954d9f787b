r"""multistream-select 1.0: two sides agree on a protocol by name.

A message is a varint of its length and a line that ends in ``\n``. Nothing here reads a socket: bytes in,
bytes out. See https://github.com/multiformats/multistream-select.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.ipld import encode_varint

if TYPE_CHECKING:
    from collections.abc import Collection

VERSION = "/multistream/1.0.0"
NOT_SUPPORTED = "na"
# Letters of a line; go-multistream allows 64 KiB, for lists of protocols that nobody requests.
MAX_LINE = 1024
# How many protocols the other side may propose before it is refused.
MAX_PROPOSALS = 16
_MAX_PREFIX = 2


def encode_line(text: str) -> bytes:
    """Returns the message of a line."""
    line = text.encode() + b"\n"
    return encode_varint(len(line)) + line


def take_line(buffer: bytearray) -> str | None:
    """Removes the first line of a buffer and returns it, None where it has not arrived yet.

    Raises:
        FormatError: What arrives is no line, or one that is too long.
    """
    size = shift = 0
    for position, byte in enumerate(buffer[: _MAX_PREFIX + 1]):
        if position == _MAX_PREFIX:
            raise FormatError("a line of multistream-select is too long")
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            break
    else:
        return None
    start = position + 1
    if not 0 < size <= MAX_LINE:
        raise FormatError(f"a line of multistream-select has {size} bytes, not 1 to {MAX_LINE}")
    if len(buffer) < start + size:
        return None
    line = bytes(buffer[start : start + size])
    del buffer[: start + size]
    if not line.endswith(b"\n"):
        raise FormatError(f"a line of multistream-select does not end: {line[:60]!r}")
    try:
        return line[:-1].decode()
    except UnicodeDecodeError:
        raise FormatError(f"a line of multistream-select is not UTF-8: {line[:60]!r}") from None


def _check_version(line: str) -> None:
    """Checks the line with which each side begins."""
    if line != VERSION:
        raise FormatError(f"it does not speak multistream-select 1.0, but {line[:60]!r}")


class Proposal:
    """The side that proposes one protocol after the other.

    Args:
        protocols: The protocols, the preferred one first.

    Attributes:
        protocols: What is proposed.
        chosen: The protocol that both sides use, None while that is open.
        refused: Whether the other side supports none of them.
    """

    def __init__(self, protocols: Collection[str]) -> None:
        self.protocols = tuple(protocols)
        self._left = list(protocols)
        self._greeted = False
        self.chosen: str | None = None
        self.refused = False

    def start(self) -> bytes:
        """Returns what to send first."""
        return encode_line(VERSION) + encode_line(self._left[0])

    def receive(self, buffer: bytearray) -> bytes:
        """Takes the lines that belong to the negotiation out of a buffer; returns what to send.

        Raises:
            FormatError: The other side does not follow the protocol.
        """
        reply = b""
        while self.chosen is None and not self.refused:
            line = take_line(buffer)
            if line is None:
                break
            if not self._greeted:
                _check_version(line)
                self._greeted = True
            elif line == self._left[0]:
                self.chosen = line
            elif line == NOT_SUPPORTED:
                del self._left[0]
                self.refused = not self._left
                reply += encode_line(self._left[0]) if self._left else b""
            else:
                raise FormatError(f"it answered {line[:60]!r} where {self._left[0]!r} was proposed")
        return reply


class Selection:
    """The side that selects one of the protocols that the other proposes.

    Args:
        supported: The protocols that may be selected.

    Attributes:
        chosen: The protocol that both sides use, None while that is open.
    """

    def __init__(self, supported: Collection[str]) -> None:
        self._supported = supported
        self._greeted = False
        self._proposals = 0
        self.chosen: str | None = None

    def receive(self, buffer: bytearray) -> bytes:
        """Takes the lines that belong to the negotiation out of a buffer; returns what to send.

        Raises:
            FormatError: The other side does not follow the protocol, or proposes too many.
        """
        reply = b""
        while self.chosen is None:
            line = take_line(buffer)
            if line is None:
                break
            if not self._greeted:
                _check_version(line)
                self._greeted = True
                reply += encode_line(VERSION)
                continue
            self._proposals += 1
            if self._proposals > MAX_PROPOSALS:
                raise FormatError(f"it proposed more than {MAX_PROPOSALS} protocols for a stream")
            self.chosen = line if line in self._supported else None
            reply += encode_line(self.chosen or NOT_SUPPORTED)
        return reply
