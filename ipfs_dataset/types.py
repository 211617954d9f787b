"""Names an object in IPFS, and the format in which to read it."""

from __future__ import annotations

from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType

__all__ = ["IPFSObject", "RemoteFileType"]
