"""Opens HDF5 files, and closes those that are still open when the process ends.

Else HDF5 itself would close them after the interpreter is gone, call into it, and crash. Python's own
shut-down misses files that a daemon thread reads, among others. Public for other distributions whose files
are HDF5.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import h5py
from h5py._objects import phil

from ipfs_dataset_core import at_exit

if TYPE_CHECKING:
    from ipfs_dataset_core import FileView

_CHUNK_CACHE_BYTES = 16 << 20
_open: weakref.WeakSet[h5py.File] = weakref.WeakSet()


def open_file(view: FileView) -> h5py.File:
    """Opens a file for reading; of each open dataset, the chunks that were unpacked last are kept.

    Args:
        view: The file, padded.
    """
    file = h5py.File(view, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
    _open.add(file)
    return file


def _close_all() -> None:
    """Keeps other threads out of HDF5 for good, then closes what they have left open."""
    phil.acquire()
    for file in list(_open):
        file.close()


at_exit(_close_all)
