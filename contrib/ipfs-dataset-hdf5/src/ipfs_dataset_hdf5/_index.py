"""Indexes of HDF5 files: of those that are one sample, and of those that are cut into rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import MemberIndex

if TYPE_CHECKING:
    from ipfs_dataset_core import Span
    from ipfs_dataset_hdf5._extents import Extents


class WholeFile(MemberIndex):
    """The index of a file that is one sample."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size

    def __len__(self) -> int:
        return 1

    def name(self, position: int) -> str:
        return (self._name,)[position]

    def span(self, position: int) -> Span:
        return 0, self._size


class RowsIndex(MemberIndex):
    """The index of a file whose samples are rows of its datasets.

    Args:
        name: The file's; a sample's is ``name:number``.
        count: How many samples there are.
        extents: Where the rows of each dataset lie, by its path.
        step: How many samples are best read at once.
    """

    def __init__(self, name: str, count: int, extents: dict[str, Extents], step: int) -> None:
        self.step = step
        self._name = name
        self._count = count
        self._extents = extents

    @property
    def paths(self) -> list[str]:
        """The datasets."""
        return list(self._extents)

    def __len__(self) -> int:
        return self._count

    def name(self, position: int) -> str:
        return f"{self._name}:{range(self._count)[position]}"

    def span(self, position: int) -> Span:
        """Returns where the largest of a sample's rows lies: between two may be all the file."""
        spans = [extents.span(position) for extents in self._extents.values()]
        return max(spans, key=lambda span: span[1] - span[0])
