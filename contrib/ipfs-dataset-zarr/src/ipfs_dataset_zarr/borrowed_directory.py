"""A directory that somebody else keeps open: a cache keyed by it must not keep it alive."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ipfs_dataset_core import TransportError

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectDirectory


class Borrowed:
    """A Zarr store's directory, as long as its owner has it.

    Attributes:
        name: The directory's.
    """

    def __init__(self, directory: ObjectDirectory) -> None:
        self.name = directory.name
        self._directory = weakref.ref(directory)

    def get(self) -> ObjectDirectory:
        """Returns the directory.

        Raises:
            TransportError: Its owner let it go while it was read.
        """
        directory = self._directory()
        if directory is None:
            raise TransportError(f"{self.name!r} was closed while it was read")
        return directory
