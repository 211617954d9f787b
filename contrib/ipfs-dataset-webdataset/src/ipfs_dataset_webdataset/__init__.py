"""WebDataset shards as a format of ipfs-dataset; importing this imports neither NumPy nor Pillow.

Public is `WebDatasetReader` in the module `reader`.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``webdataset``, by name only: most TAR archives are none."""
    # No entry point to a class: it would import NumPy in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="webdataset",
            summary="a TAR archive in WebDataset's layout: samples of decoded fields",
            factory="ipfs_dataset_webdataset.reader:WebDatasetReader",
        )
    ]
