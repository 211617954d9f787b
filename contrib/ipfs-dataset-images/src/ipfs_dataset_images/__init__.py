"""Folders of images as a format of ipfs-dataset.

The public class is `reader.ImagesReader`. Importing this package does not import Pillow.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``images``."""
    # An entry point to the class would import Pillow in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="images",
            summary="a directory with a folder of images for each class",
            factory="ipfs_dataset_images.reader:ImagesReader",
            reads="directory",
        )
    ]
