"""Indexes for formats whose files are one sample, or arrays that are cut into rows."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.interfaces import MemberIndex, WholeFileIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipfs_dataset_core.interfaces import Span

__all__ = ["Extents", "RowsIndex", "WholeFileIndex"]


@attrs.frozen
class Extents:
    """Which bytes of a file the rows of an array are made of; by default, none are known.

    Args:
        starts: Where the bytes of each run of `step` rows start.
        stops: Where they stop.
        step: How many rows share their bytes, as those of a chunk do.
        width: How many bytes a row has where they follow each other, so that the first says it all.
    """

    starts: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    stops: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    step: int = 1
    width: int = 0

    def span(self, row: int) -> Span:
        """Returns the hull of the bytes of one row; it is empty where they are not known."""
        run = min(row // self.step, len(self.starts) - 1)
        return self.starts[run] + row * self.width, self.stops[run] + row * self.width


class RowsIndex(MemberIndex):
    """The index of a file of which a sample is a row of each array.

    Args:
        name: The file's; a sample's is ``name:number``.
        count: How many rows there are.
        extents: Where those of each array lie, by the array's name.
        step: How many are best read at once.
    """

    def __init__(self, name: str, count: int, extents: Mapping[str, Extents], step: int) -> None:
        self.step = step
        self._name = name
        self._count = count
        self._extents = dict(extents)

    @property
    def arrays(self) -> list[str]:
        """The names of the arrays."""
        return list(self._extents)

    def __len__(self) -> int:
        return self._count

    def name(self, position: int) -> str:
        return f"{self._name}:{range(self._count)[position]}"

    def span(self, position: int) -> Span:
        """Returns where the largest of a sample's rows lies: between two may be all the file."""
        spans = [extents.span(position) for extents in self._extents.values()]
        return max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
