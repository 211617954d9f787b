"""A session: the blocks that one thread waits for."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipfs_dataset_core import CID


class Session:
    """The blocks that one thread waits for. The lock of the exchange guards its attributes.

    Args:
        lock: The lock of the exchange.

    Attributes:
        changed: Notified when a block arrives or fails.
        missing: The multihashes of the blocks that are still expected.
        arrived: The blocks that have arrived and were not taken yet.
        failures: The errors of blocks that will not arrive.
        is_waiting: Whether the thread waits now, and will take blocks as soon as they arrive.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.missing: set[bytes] = set()
        self.arrived: deque[tuple[CID, bytes]] = deque()
        self.failures: list[Exception] = []
        self.is_waiting = False
