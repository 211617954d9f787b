"""Bytes in memory as a file that any reader reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.interfaces import ObjectFile
from ipfs_dataset_core.options import Limits

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import CID

_DEFAULT_LIMITS = Limits()


class BytesFile(ObjectFile):
    """A file of bytes that are in memory, such as a member of an archive.

    ::

        list(MyReader().samples(BytesFile(data, "a.spx")))

    Args:
        data: Its content.
        name: What samples and errors call it.
        limits: What readers refuse of it.
    """

    cid: CID | None = None

    def __init__(self, data: bytes, name: str, *, limits: Limits = _DEFAULT_LIMITS) -> None:
        super().__init__()
        self.name = name
        self.size = len(data)
        self.limits = limits
        self._data = data

    def read_at(self, start: int, size: int) -> bytes:
        # A slice with a negative end would count from the end of the data.
        return self._data[max(0, start) : max(0, start + size)]
