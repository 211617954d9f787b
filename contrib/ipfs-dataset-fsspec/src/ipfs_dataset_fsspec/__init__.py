"""IPFS as a read-only filesystem of fsspec; every byte is verified against its CID.

Once installed, it opens ``ipfsdataset://`` URLs; after `register`, also ``ipfs://`` and ``ipns://`` URLs.
"""

from __future__ import annotations

from ipfs_dataset_fsspec.errors import IsDirectoryError, ReadOnlyError
from ipfs_dataset_fsspec.filesystem import IPFSDatasetFileSystem
from ipfs_dataset_fsspec.registration import register

__all__ = ["IPFSDatasetFileSystem", "IsDirectoryError", "ReadOnlyError", "register"]
