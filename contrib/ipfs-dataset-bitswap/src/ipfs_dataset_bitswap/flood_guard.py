"""A limit on what a peer sends over a connection without having been asked for it."""

from __future__ import annotations

import time

from ipfs_dataset_core import LimitError

# The maximum number and size of unrequested blocks of a connection. As many blocks as this, and one for each
# request, may arrive a second time.
MAX_UNREQUESTED, MAX_UNREQUESTED_BYTES = 64, 8 << 20
# Bytes other than blocks that are allowed for each request, and each second: statements about blocks, and the
# wants of the peer, which a busy peer sends to all its peers. A message without blocks counts as at least so
# many bytes.
_OVERHEAD_PER_REQUEST, _OVERHEAD_PER_SECOND, _OVERHEAD_OF_MESSAGE = 1024, 256 << 10, 256


class FloodGuard:
    """Counts the requests of a connection, and what the peer sends beside the requested blocks.

    The connection is closed when one of the methods raises LimitError.

    Args:
        name: The name of the peer, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._started_at = time.monotonic()
        self._requests = 0
        self._unrequested = 0
        self._unrequested_bytes = 0
        self._duplicates = 0
        self._overhead = 0

    def count_request(self) -> None:
        """Counts an entry of a wantlist that is sent to the peer."""
        self._requests += 1

    def count_unrequested(self, size: int) -> None:
        """Counts a block that was never requested."""
        self._unrequested += 1
        self._unrequested_bytes += size

    def count_duplicate(self) -> None:
        """Counts a block that was requested and is not wanted any more."""
        self._duplicates += 1

    def check_blocks(self) -> None:
        """Checks the numbers of unrequested and repeated blocks.

        Raises:
            LimitError: There are too many.
        """
        if self._duplicates > MAX_UNREQUESTED + self._requests:
            raise LimitError(
                f"{self._name}: sent {self._duplicates} blocks again, for {self._requests} requests"
            )
        if self._unrequested > MAX_UNREQUESTED or self._unrequested_bytes > MAX_UNREQUESTED_BYTES:
            raise LimitError(
                f"{self._name}: sent {self._unrequested} blocks ({self._unrequested_bytes} bytes) "
                "that were not requested from it"
            )

    def count_message(self, size: int, block_bytes: int) -> None:
        """Counts a message.

        Args:
            size: Its size in bytes.
            block_bytes: The size of the blocks in it.

        Raises:
            LimitError: The messages have too many bytes other than blocks.
        """
        self._overhead += max(size - block_bytes, 0 if block_bytes else _OVERHEAD_OF_MESSAGE)
        seconds = time.monotonic() - self._started_at
        allowed = MAX_UNREQUESTED_BYTES + _OVERHEAD_PER_REQUEST * self._requests
        allowed += int(_OVERHEAD_PER_SECOND * seconds)
        if self._overhead > allowed:
            raise LimitError(
                f"{self._name}: sent {self._overhead} bytes beside blocks, for {self._requests} requests"
            )
