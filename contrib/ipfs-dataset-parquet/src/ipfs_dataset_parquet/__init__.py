"""Parquet files as a format of ipfs-dataset.

The public class is `reader.ParquetReader`. Importing this package does not import Arrow.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``parquet``."""
    # An entry point to the class would import Arrow in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="parquet",
            summary="a Parquet file: its rows as dicts",
            factory="ipfs_dataset_parquet.reader:ParquetReader",
            suffixes=(".parquet", ".pq"),
            magic=((0, b"PAR1"),),
            in_folders=True,
        )
    ]
