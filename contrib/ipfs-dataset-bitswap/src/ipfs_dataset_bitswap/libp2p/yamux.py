"""yamux: frames of many streams in one connection. Bytes in, frames out; nothing here reads a socket.

See https://github.com/hashicorp/yamux/blob/master/spec.md and
https://github.com/libp2p/specs/blob/master/yamux/README.md.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL = "/yamux/1.0.0"
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
# No type of yamux: bytes of the data frame that was yielded last.
PAYLOAD = 4
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)
# Bytes that each side may send on a new stream before the other allows more.
INITIAL_WINDOW = 256 << 10
HEADER_SIZE = 12
_HEADER = struct.Struct(">BBHII")
_ALL_FLAGS = SYN | ACK | FIN | RST

Frame = tuple[int, int, int, "int | memoryview"]


def frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Returns the header of a frame; the payload of a data frame follows it.

    Args:
        kind: `DATA`, `WINDOW_UPDATE`, `PING` or `GO_AWAY`.
        flags: Of `SYN`, `ACK`, `FIN` and `RST`.
        stream: The number of the stream, 0 for `PING` and `GO_AWAY`.
        length: Of the payload; or how many more bytes may be sent, a number to answer, the reason.
    """
    return _HEADER.pack(0, kind, flags, stream, length)


class FrameParser:
    """Cuts what arrives into frames. Payloads are yielded as they arrive and never held here."""

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stream = 0

    def feed(self, chunk: bytes | memoryview) -> Iterator[Frame]:
        """Yields type, flags, stream and length of each frame; of payloads `PAYLOAD`, 0, stream and bytes.

        Args:
            chunk: The next bytes; views of it are yielded.

        Raises:
            FormatError: A header is invalid.
        """
        view = memoryview(chunk)
        position, end = 0, len(view)
        while position < end:
            if self._left:
                piece = view[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                yield PAYLOAD, 0, self._stream, piece
                continue
            if self._head or end - position < HEADER_SIZE:
                missing = HEADER_SIZE - len(self._head)
                self._head += bytes(view[position : position + missing])
                position += missing
                if len(self._head) < HEADER_SIZE:
                    return
                version, kind, flags, stream, length = _HEADER.unpack(self._head)
                self._head = b""
            else:
                version, kind, flags, stream, length = _HEADER.unpack_from(view, position)
                position += HEADER_SIZE
            if version != 0 or kind > GO_AWAY or flags & ~_ALL_FLAGS:
                raise FormatError(
                    f"a yamux frame has version {version}, type {kind}, flags {flags:#x}"
                )
            if (stream == 0) != (kind in (PING, GO_AWAY)):
                raise FormatError(f"a yamux frame of type {kind} is of stream {stream}")
            if kind == DATA:
                self._left, self._stream = length, stream
            yield kind, flags, stream, length
