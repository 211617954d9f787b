"""Records which blocks of files were verified, so that repeated blocks and subtrees need not be read again.

A few blocks can stand for any number of bytes if nodes link to the same node many times, so that reading all
of these bytes would never end.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import FileNode

# Number of blocks per level: more than the children of any node, so that all of them are still known when the
# last one was read. About 15 MB: the leaves of 16 GiB at 256 KiB each, or of 64 GiB at 1 MiB.
_MOST_KNOWN = 1 << 16
# Maximum number of links of the nodes whose last leaves are being read.
_MOST_WAITING = 1 << 17

# The binary CID of a block, and the number of file bytes that it stands for: a parent may state another
# number for the same block, which then cannot be read.
_Key = tuple[bytes, int]


class VerifiedBlocks:
    """The leaves and subtrees of files that were verified, by CID and size. Thread-safe.

    Args:
        most: Number of blocks per level that are remembered; the least recently used are forgotten first.
    """

    def __init__(self, most: int = _MOST_KNOWN) -> None:
        self._most = most
        # Leaves, then nodes by the number of levels below them.
        self._levels: list[OrderedDict[_Key, None]] = []
        # Nodes in the order in which they were read, not all of whose children are known yet.
        self._waiting: deque[tuple[_Key, FileNode]] = deque()
        self._waiting_links = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    def has(self, cid: bytes, size: int) -> bool:
        """Returns whether a block and everything below it was verified; False if that was forgotten.

        Args:
            cid: Its binary CID.
            size: The number of file bytes that it stands for.
        """
        key = cid, size
        with self._lock:
            level = self._level_of(key)
            if level is None:
                return False
            self._levels[level].move_to_end(key)
            return True

    def add(self, cid: bytes, size: int) -> None:
        """Adds a verified leaf; arguments as for `has`."""
        with self._lock:
            self._add((cid, size), 0)

    def add_node(self, cid: bytes, node: FileNode) -> None:
        """Adds a node, whose own block was verified, as soon as all of its children are known.

        Args:
            cid: Its binary CID.
            node: The node, whose children were read, or will soon be read.
        """
        with self._lock:
            self._waiting.append(((cid, node.size), node._replace(data=b"")))
            self._waiting_links += 1 + len(node.links)
            while self._waiting:
                key, first = self._waiting[0]
                level = self._level_above(first)
                if level is not None:
                    self._add(key, level)
                elif self._waiting_links <= _MOST_WAITING:
                    return
                # Otherwise it is given up, because one of its leaves could not be read.
                self._waiting.popleft()
                self._waiting_links -= 1 + len(first.links)

    def _level_above(self, node: FileNode) -> int | None:
        """Returns the level of a node; None if one of its children is not known."""
        highest, offsets = -1, node.offsets
        for child, cid in enumerate(node.links):
            size = offsets[child + 1] - offsets[child]
            if size:  # empty blocks are never read
                level = self._level_of((cid, size))
                if level is None:
                    return None
                highest = max(highest, level)
        return highest + 1

    def _level_of(self, key: _Key) -> int | None:
        for level, known in enumerate(self._levels):
            if key in known:
                return level
        return None

    def _add(self, key: _Key, level: int) -> None:
        while len(self._levels) <= level:
            self._levels.append(OrderedDict())
        known = self._levels[level]
        known[key] = None
        known.move_to_end(key)
        if len(known) > self._most:
            known.popitem(last=False)
