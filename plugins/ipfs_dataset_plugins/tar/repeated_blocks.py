"""Refuses archives that are a few blocks, linked to again and again: a megabyte can claim terabytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import LimitError

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile

# So many members lie further apart than the largest block, where each takes 512 bytes or more.
_MEMBERS_A_PROBE = 4096
# Where fewer than one of so many blocks differs from those before, they are the same ones again.
_SHARE = 16


class RepeatedBlocks:
    """Looks at the blocks that the members of an archive come from, while an index is made.

    Args:
        file: The archive.
    """

    def __init__(self, file: ObjectFile) -> None:
        self._file = file
        self._blocks: set[bytes] = set()
        self._probes = 0
        self._next = _MEMBERS_A_PROBE

    def check(self, count: int, position: int) -> None:
        """Looks at the block with the last of `count` members, if it is time to.

        Raises:
            LimitError: The same few blocks have come again and again.
        """
        if count < self._next:
            return
        self._next = count + _MEMBERS_A_PROBE
        block = self._file.block_at(position)
        if block is None:
            return
        self._probes += 1
        self._blocks.add(block)
        repeated = (self._probes - len(self._blocks)) * _MEMBERS_A_PROBE
        allowed = self._file.limits.repeated_entries
        if repeated > allowed and len(self._blocks) * _SHARE < self._probes:
            raise LimitError(
                f"{self._file.name!r} consists of the same blocks again and again: some {repeated} of its "
                f"first {count} members come from blocks that others came from, more than the limit of "
                f"{allowed}. Where you trust it, give limits=Limits(repeated_entries=…)"
            )
