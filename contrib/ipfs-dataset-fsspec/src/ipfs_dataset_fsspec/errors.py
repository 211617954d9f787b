"""Errors that also belong to the classes of errors that users of fsspec expect."""

from __future__ import annotations

from ipfs_dataset_core import ExportError, FormatError


class IsDirectoryError(FormatError, IsADirectoryError):
    """A directory cannot be read as a file."""


class ReadOnlyError(ExportError, NotImplementedError, OSError):
    """The filesystem is read-only, because data in IPFS cannot be changed."""
