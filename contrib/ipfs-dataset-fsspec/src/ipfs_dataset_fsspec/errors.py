"""Errors that users of fsspec expect to be of classes that the library's own tree does not have."""

from __future__ import annotations

from ipfs_dataset_core import ExportError, FormatError


class IsDirectoryError(FormatError, IsADirectoryError):
    """A directory was to be read as a file."""


class ReadOnlyError(ExportError, NotImplementedError, OSError):
    """This filesystem can only be read; what is in IPFS is never changed."""
