"""The reader of ZIP archives."""

from ipfs_dataset_plugins.zip.reader import ZipReader

__all__ = ["ZipReader"]
