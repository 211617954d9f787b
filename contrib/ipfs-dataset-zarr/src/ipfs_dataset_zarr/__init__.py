"""Zarr stores as a format of ipfs-dataset; importing this imports neither NumPy nor zarr.

Public is `ZarrReader` in the module `reader`.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``zarr``."""
    # No entry point to a class: it would import zarr in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="zarr",
            summary="a Zarr store: slices of its arrays along the leading axis",
            factory="ipfs_dataset_zarr.reader:ZarrReader",
            reads="directory",
        )
    ]
