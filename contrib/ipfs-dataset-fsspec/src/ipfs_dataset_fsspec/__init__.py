"""IPFS as a read-only fsspec filesystem, every byte checked against its CID.

Installed, it answers to ``ipfsdataset://``; `register` makes it answer to ``ipfs://`` and ``ipns://`` too.
"""

from __future__ import annotations

from ipfs_dataset_fsspec.errors import IsDirectoryError, ReadOnlyError
from ipfs_dataset_fsspec.filesystem import IPFSDatasetFileSystem
from ipfs_dataset_fsspec.registration import register

__all__ = ["IPFSDatasetFileSystem", "IsDirectoryError", "ReadOnlyError", "register"]
