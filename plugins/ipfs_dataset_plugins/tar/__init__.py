"""The reader of TAR archives."""

from ipfs_dataset_plugins.tar.reader import TarReader

__all__ = ["TarReader"]
