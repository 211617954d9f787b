"""NumPy's files as formats of ipfs-dataset; importing this does not import NumPy.

Public are `NpyReader` and `NpyRowsReader` in the module `npy`, and `NpzReader` in `npz`.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``npy``, ``npy_rows`` and ``npz``."""
    # No entry point to a class: it would import NumPy in every process that looks up a suffix.
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
