"""HDF5 files as formats of ipfs-dataset.

The public classes are `reader.Hdf5Reader` and `reader.Hdf5RowsReader`. The modules `chunks`, `extents` and
`opening` are public for distributions whose files are HDF5. Importing this package imports neither NumPy nor
h5py.
"""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``hdf5`` and ``hdf5_rows``."""
    # Entry points to the classes would import h5py in every process that looks up a suffix.
    return [
        ReaderPlugin(
            name="hdf5",
            summary="an HDF5 file as one sample: its datasets by name",
            factory="ipfs_dataset_hdf5.reader:Hdf5Reader",
            suffixes=(".h5", ".hdf5"),
            magic=((0, b"\x89HDF\r\n\x1a\n"),),
            in_folders=True,
        ),
        ReaderPlugin(
            name="hdf5_rows",
            summary="an HDF5 file: the rows of its datasets, along the first axis",
            factory="ipfs_dataset_hdf5.reader:Hdf5RowsReader",
        ),
    ]
