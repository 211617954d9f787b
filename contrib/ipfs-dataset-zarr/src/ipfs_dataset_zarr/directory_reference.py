"""A weak reference to a directory, for values of a cache whose keys are directories."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ipfs_dataset_core import TransportError

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectDirectory


class DirectoryReference:
    """A weak reference to the directory of a Zarr store. The dataset that reads the store owns the directory.

    Attributes:
        name: The name of the directory.
    """

    def __init__(self, directory: ObjectDirectory) -> None:
        self.name = directory.name
        self._directory = weakref.ref(directory)

    def get(self) -> ObjectDirectory:
        """Returns the directory.

        Raises:
            TransportError: The directory was freed while it was read.
        """
        directory = self._directory()
        if directory is None:
            raise TransportError(f"{self.name!r} was closed while it was read")
        return directory
