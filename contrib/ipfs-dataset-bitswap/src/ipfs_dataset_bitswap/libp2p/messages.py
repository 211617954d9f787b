"""Messages in a stream of bytes, each with a varint of its length in front. Nothing here reads a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_bitswap.libp2p.byte_queue import ByteQueue
from ipfs_dataset_core import FormatError
from ipfs_dataset_core.ipld import encode_varint

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_PREFIX = 9


def delimited(message: bytes) -> bytes:
    """Returns a message with its length in front."""
    return encode_varint(len(message)) + message


class MessageAssembler:
    """Cuts what arrives into messages.

    Args:
        limit: Bytes of a message at the most.

    Attributes:
        expected: Bytes of the message that has begun, None where none has.
    """

    __slots__ = ("_arrived", "_limit", "_prefix", "expected")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._prefix = b""
        self.expected: int | None = None
        self._arrived = ByteQueue()

    @property
    def waiting(self) -> int:
        """Bytes that have arrived of the message that has begun."""
        return self._arrived.size

    @property
    def is_between(self) -> bool:
        """Whether no message has begun."""
        return self.expected is None and not self._prefix

    def feed(self, piece: bytes | memoryview) -> list[bytes]:
        """Returns the messages that are complete with the next bytes.

        Raises:
            FormatError: A message is longer than allowed, or its length is malformed.
        """
        view = memoryview(piece)
        messages, position, end = [], 0, len(view)
        while position < end:
            if self.expected is None:
                position = self._read_prefix(view, position)
                if self.expected is None:
                    break
            part = view[position : position + self.expected - self._arrived.size]
            position += len(part)
            self._arrived.push(part)
            if self._arrived.size < self.expected:
                break
            messages.append(self._arrived.pop(self.expected))
            self.expected = None
        return messages

    def _read_prefix(self, view: memoryview, position: int) -> int:
        """Reads the length of a message, as far as it has arrived; returns the position behind it."""
        prefix = self._prefix
        while position < len(view):
            byte = view[position]
            position += 1
            prefix += bytes((byte,))
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                size = sum((one & 0x7F) << 7 * place for place, one in enumerate(prefix))
                if size > self._limit:
                    raise FormatError(f"a message has {size:,} bytes, more than {self._limit:,}")
                self._prefix, self.expected = b"", size
                return position
            if len(prefix) == _MAX_PREFIX:
                raise FormatError("the length of a message does not end")
        self._prefix = prefix
        return position


@attrs.frozen
class MessageHandler:
    """Handles whole messages that a peer sends on streams that it opens, in the thread that receives.

    Cheaper than a thread for each stream. While `receive` runs nothing else of the connection is received, so
    it must neither wait nor use the connection for anything that waits.

    Args:
        receive: Called with each message. What it raises ends the connection.
        limit: Bytes of a message at the most.
    """

    receive: Callable[[bytes], None]
    limit: int
