"""NumPy files as formats of ipfs-dataset.

The public classes are `npy.NpyReader`, `npy.NpyRowsReader` and `npz.NpzReader`. Importing this package does
not import NumPy.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``npy``, ``npy_rows`` and ``npz``."""
    # Entry points to the classes would import NumPy in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="npy",
            summary="a NumPy array as one sample",
            factory="ipfs_dataset_numpy.npy:NpyReader",
            suffixes=(".npy",),
            magic=((0, b"\x93NUMPY"),),
            in_folders=True,
        ),
        ReaderPlugin(
            name="npy_rows",
            summary="a NumPy array: its rows, along the first axis",
            factory="ipfs_dataset_numpy.npy:NpyRowsReader",
        ),
        ReaderPlugin(
            name="npz",
            summary="NumPy arrays in a ZIP archive, compressed or not: each array",
            factory="ipfs_dataset_numpy.npz:NpzReader",
            suffixes=(".npz",),
            in_folders=True,
        ),
    ]
