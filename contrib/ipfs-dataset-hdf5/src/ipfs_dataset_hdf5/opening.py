"""Opens HDF5 files, and closes those that are still open when the process ends.

Else HDF5 itself would close them after the interpreter is gone, call into it, and crash. Python's own
shut-down misses files that a daemon thread reads, among others. Public for other distributions whose files
are HDF5.
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
    """Opens a file for reading; of each open dataset, the chunks that were unpacked last are kept.

    Args:
        view: The file, padded.
    """
    # Not by h5py.File: while an error is on its way, it would keep this list, which crashes as files do.
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
    """Keeps other threads out of HDF5 for good, then closes what they have left open."""
    phil.acquire()
    for file in h5f.get_obj_ids(h5f.OBJ_ALL, h5f.OBJ_FILE):
        if h5f.get_name(file) == _NAME:
            h5py.File(file).close()


at_exit(_close_all)
