"""Safetensors files as formats of ipfs-dataset.

The public classes are `reader.SafetensorsReader` and `reader.SafetensorsRowsReader`. Importing this package
imports neither safetensors nor PyTorch.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``safetensors`` and ``safetensors_rows``."""
    # Entry points to the classes would import PyTorch in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="safetensors",
            summary="a safetensors file: each of its tensors",
            factory="ipfs_dataset_safetensors.reader:SafetensorsReader",
            suffixes=(".safetensors",),
            in_folders=True,
        ),
        ReaderPlugin(
            name="safetensors_rows",
            summary="a safetensors file: the rows of its tensors, along the first axis",
            factory="ipfs_dataset_safetensors.reader:SafetensorsRowsReader",
        ),
    ]
