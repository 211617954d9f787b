"""WebDataset shards as a format of ipfs-dataset.

The public class is `reader.WebDatasetReader`. Importing this package imports neither NumPy nor Pillow.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``webdataset`` without a suffix: most TAR archives do not have this layout."""
    # An entry point to the class would import NumPy in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="webdataset",
            summary="a TAR archive in WebDataset's layout: samples of decoded fields",
            factory="ipfs_dataset_webdataset.reader:WebDatasetReader",
        )
    ]
