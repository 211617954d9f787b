"""The index of a Zarr store. Its size does not depend on the number of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import MemberIndex

if TYPE_CHECKING:
    from ipfs_dataset_core import Span


@attrs.frozen
class StoreIndex(MemberIndex):
    """The samples of a store.

    Attributes:
        store: The name of the store. The name of a sample is ``store:number``.
        paths: The paths of the arrays.
        count: The number of samples.
        cost: The approximate number of bytes that reading a sample takes.
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
        """Returns a span as long as reading a sample costs.

        The data are in several files, so it starts at 0.
        """
        return 0, self.cost
