"""Refuses archives of few blocks that are linked many times: a megabyte of them can claim terabytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ipfs_dataset_core import LimitError, check_time, progressed

if TYPE_CHECKING:
    from ipfs_dataset_core import Limits

# The check looks at one of so many entries.
_ENTRIES_PER_PROBE = 4096
# Blocks count as repeated if fewer than one of so many probes finds another block than those before it. The
# largest block, of 2 MiB, has fewer entries than 16 probes are apart, whatever the format.
_DISTINCT_SHARE = 16


class HasBlocks(Protocol):
    """A file of which it is known what block a byte is in.

    Attributes:
        name: The name of the file in error messages.
    """

    name: str

    def block_at(self, position: int, /) -> bytes | None: ...


class RepetitionCheck:
    """Counts the entries of an archive, such as headers, whether they are samples or not.

    Args:
        file: The archive, or the file that it is unpacked from.
        limits: `repeated_entries` is how many may always be in blocks that had others.
    """

    def __init__(self, file: HasBlocks, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._blocks: set[bytes] = set()
        self._probes = 0
        self._count = 0
        self._next = _ENTRIES_PER_PROBE

    def add(self, count: int, position: int) -> None:
        """Counts entries; after every 4096 of them, looks at the block in which the last one is.

        Args:
            count: How many entries follow those counted before.
            position: A byte of the last one.

        Raises:
            LimitError: The same few blocks were repeated too often.
            TransportTimeoutError: Nothing new has come for as long as the deadline is.
        """
        self._count += count
        if self._count >= self._next:
            self._probe(position)

    def _probe(self, position: int) -> None:
        self._next = self._count + _ENTRIES_PER_PROBE
        block = self._file.block_at(position)
        if block is None:
            return
        self._probes += 1
        if block in self._blocks:
            check_time()
        else:
            progressed()
            self._blocks.add(block)
        repeated = (self._probes - len(self._blocks)) * _ENTRIES_PER_PROBE
        allowed = self._limits.repeated_entries
        if repeated > allowed and len(self._blocks) * _DISTINCT_SHARE < self._probes:
            raise LimitError(
                f"{self._file.name!r} consists of the same blocks, linked again and again: about {repeated} "
                f"of its first {self._count} members are stored in blocks that also store earlier ones, more "
                f"than the limit of {allowed}. If you trust it, give limits=Limits(repeated_entries=…)"
            )
