"""Opening of HDF5 files; those that are still open when the process ends are closed.

Otherwise HDF5 would close them itself after the interpreter has ended, call Python code, and crash. The
shutdown of Python does not close all of them, for example those that a daemon thread reads.

This module is public for other distributions whose files are HDF5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
from h5py import h5f, h5fd, h5p
from h5py._objects import phil

from ipfs_dataset_core import at_exit

if TYPE_CHECKING:
    from ipfs_dataset_core import FileView

_CHUNK_CACHE_BYTES = 16 << 20
_NAME = b"an object of ipfs-dataset"


def open_file(view: FileView) -> h5py.File:
    """Opens a file for reading. Each open dataset has a cache of 16 MiB for decompressed chunks.

    Args:
        view: The file. Its `padded` is True.
    """
    # The constructor of h5py.File would keep the property list alive in the traceback of an error, and a
    # property list that is open at the end of the process crashes it too.
    access = h5p.create(h5p.FILE_ACCESS)
    try:
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        metadata, slots, _, preemption = access.get_cache()
        access.set_cache(metadata, slots, _CHUNK_CACHE_BYTES, preemption)
        access.set_fileobj_driver(h5fd.fileobj_driver, view)
        return h5py.File(h5f.open(_NAME, h5f.ACC_RDONLY, access))
    finally:
        access.close()


def _close_all() -> None:
    """Closes all files, after taking the lock of h5py for good: no other thread enters HDF5 again."""
    phil.acquire()
    for file in h5f.get_obj_ids(h5f.OBJ_ALL, h5f.OBJ_FILE):
        if h5f.get_name(file) == _NAME:
            h5py.File(file).close()


at_exit(_close_all)
