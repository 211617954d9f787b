"""The index of a Zarr store: a few words, whatever the number of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import MemberIndex

if TYPE_CHECKING:
    from ipfs_dataset_core import Span


@attrs.frozen
class RowsIndex(MemberIndex):
    """The samples of a store.

    Args:
        store: Its name; a sample's is ``name:number``.
        paths: The arrays.
        count: How many samples there are.
        cost: About how many bytes one of them needs.
    """

    store: str
    paths: tuple[str, ...]
    count: int
    cost: int

    def __len__(self) -> int:
        return self.count

    def name(self, position: int) -> str:
        return f"{self.store}:{range(self.count)[position]}"

    def span(self, position: int) -> Span:
        """Returns how many bytes reading a sample takes; a directory has no places."""
        return 0, self.cost
