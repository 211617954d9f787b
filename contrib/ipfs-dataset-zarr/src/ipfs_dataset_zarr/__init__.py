"""Zarr stores as a format of ipfs-dataset.

The public class is `reader.ZarrReader`. Importing this package imports neither NumPy nor zarr.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``zarr``."""
    # An entry point to the class would import zarr in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="zarr",
            summary="a Zarr store: slices of its arrays along the leading axis",
            factory="ipfs_dataset_zarr.reader:ZarrReader",
            reads="directory",
        )
    ]
